"""Decide when an authority's revocation list has grown too long, and how another authority takes its place.

The next one signs as soon as everybody knows it, what the full one signed is replaced, and then it leaves the bundle with its list.
A fresh authority has an empty list, so one command, no matter how much it ends, moves at most one authority.
issuer/flows/command_authorities carries out each step; issuer/flows/relieve_authorities decides when to take it.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from issuer.decisions.authority import Authority, AuthorityState
from issuer.decisions.crl import LARGE_BYTES

__all__ = ["MOST_LEAVING", "Relief", "ReliefStep", "Situation", "next_relief", "why_full"]

MOST_LEAVING = 2
"""How many full authorities may be on their way out at a time: each makes every bundle longer."""


class ReliefStep(StrEnum):
    """What to do with an authority whose list is too long."""

    HAND_OVER = "hand over"  # let the next authority sign as soon as everybody knows it
    TAINT = "taint"  # have what it signed replaced
    REVOKE = "revoke"  # take it out of the bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the next step depends on, besides the authority itself.

    Args:
        following: the authority that signs next; None: none is published and valid.
        following_waits_for: why that one does not sign yet.
        leaving: how many others are full, no longer sign, and have not left the bundle.
        is_known: whether at least one attestor is connected, and all connected ones know that the authority is tainted.
        unreplaced: how many of its live credentials have no successor.
        is_handed_out: whether all were replaced so long ago that workloads have the replacements.
        is_clock_trusted: whether we may rely on what looks expired.
    """

    now: datetime
    following: Authority | None
    following_waits_for: str
    leaving: int
    is_known: bool
    unreplaced: int
    is_handed_out: bool
    is_clock_trusted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Relief:
    """The step that is due, or what the next one waits for."""

    step: ReliefStep | None = None
    waits_for: str = ""


def next_relief(authority: Authority, at: Situation) -> Relief:
    """What to do about a full authority in the bundle."""
    if authority.tainted_at is not None:
        return _until_it_leaves(at)
    if authority.state is AuthorityState.ACTIVE:
        return _until_it_signs_no_more(at)
    return Relief(step=ReliefStep.TAINT)


def _until_it_signs_no_more(at: Situation) -> Relief:
    if at.leaving >= MOST_LEAVING:
        return Relief(waits_for=f"{at.leaving} others with long lists, which have to leave the bundle first")
    if at.following is None:
        return Relief(waits_for="a next authority to be made")
    if at.following.activate_at is None or at.now < at.following.activate_at:
        return Relief(step=ReliefStep.HAND_OVER)
    return Relief(waits_for=f"{at.following.key_id} to sign in its place, which waits for {at.following_waits_for}")


def _until_it_leaves(at: Situation) -> Relief:
    """Never cut off an innocent holder: if one cannot be reached, the authority stays until the holder's certificate has expired."""
    if not at.is_clock_trusted:
        return Relief(waits_for="a clock that is trusted, as status says")
    if not at.is_known:
        return Relief(waits_for="every connected attestor to acknowledge that it is tainted")
    if at.unreplaced:
        return Relief(
            waits_for=f"{at.unreplaced} of its SVIDs to be replaced or to expire:"
            " those of nodes that are away and of workloads that left"
        )
    if not at.is_handed_out:
        return Relief(waits_for="workloads to have what replaced its SVIDs")
    return Relief(step=ReliefStep.REVOKE)


def why_full(denied: int) -> str:
    """Why an authority is full, in words, also for the audit record."""
    return f"its revocation list has {denied} certificates and is larger than {LARGE_BYTES} bytes"
