"""When an authority has had so many certificates revoked that its list grows too long, and how another takes its place.

The next one signs as soon as everybody knows it, what the full one signed is replaced, and then it leaves the bundle, its list with it.
A fresh authority has an empty list, so that one command, however much it ends, moves at most one authority. What each step does:
issuer/flows/command_authorities; when they are taken: issuer/flows/relieve_authorities.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from issuer.decisions.authority import Authority, AuthorityState
from issuer.decisions.crl import LARGE_BYTES

__all__ = ["MOST_LEAVING", "Relief", "ReliefStep", "Situation", "next_relief", "why_full"]

MOST_LEAVING = 2
"""How many full ones may be on their way out at a time: each of them makes every bundle longer."""


class ReliefStep(StrEnum):
    """What to do with an authority whose list is too long."""

    HAND_OVER = "hand over"  # let the next one sign as soon as everybody knows it
    TAINT = "taint"  # have what it signed replaced
    REVOKE = "revoke"  # out of the bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the next step depends on, beside the authority.

    Args:
        following: which one signs next; None: none is published and valid.
        following_waits_for: why that one does not sign yet.
        leaving: how many others are full, sign no more, and have not left the bundle.
        is_known: whether an attestor is connected, and all that are know that it is tainted.
        unreplaced: how many of its live credentials have no successor.
        is_handed_out: whether all were replaced so long ago that workloads have what replaced theirs.
        is_clock_trusted: whether what seems over may be taken for it.
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
    """What is to be done about a full authority that the bundle holds."""
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
    """An innocent holder is never cut off: where one cannot be reached, the authority stays until its certificate has ended."""
    if not at.is_clock_trusted:
        return Relief(waits_for="a clock that is trusted, as status says")
    if not at.is_known:
        return Relief(waits_for="every connected attestor to acknowledge that it is tainted")
    if at.unreplaced:
        return Relief(
            waits_for=f"{at.unreplaced} of its SVIDs to be replaced or to end:"
            " those of nodes that are away and of workloads that left"
        )
    if not at.is_handed_out:
        return Relief(waits_for="workloads to have what replaced its SVIDs")
    return Relief(step=ReliefStep.REVOKE)


def why_full(denied: int) -> str:
    """What is said of an authority whose list has too many certificates, on record as well."""
    return f"its revocation list has {denied} certificates, which is more than {LARGE_BYTES} bytes"
