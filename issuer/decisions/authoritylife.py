"""The life of an authority: its states, and every step from one to another.

The functions of authority that change a row look their step up here. A step that the table does not list for a state is refused, so nothing
brings a retired authority back, and nothing signs that was not published before. docs/explanation/authorities.md shows the table, and draws
it.
"""

from enum import StrEnum
from typing import Final

from issuer.decisions.transition import Life, Transition

__all__ = ["AUTHORITY_LIFE", "AuthorityState"]


class AuthorityState(StrEnum):
    """Where an authority is in its life; the bundle holds all but those that are intended or retired."""

    INTENDED = "intended"  # the row names a key that may not exist yet
    NEXT = "next"  # published, not signing
    ACTIVE = "active"  # signs
    OLD = "old"  # signs no more, its SVIDs are still valid
    RETIRED = "retired"


AUTHORITY_LIFE: Final[Life[AuthorityState]] = Life(
    noun="authority",
    transitions=(
        Transition(
            before=None,
            step="intended",
            after=AuthorityState.INTENDED,
            when="its kind has no next authority, or one with too little time left; or an operator asks for one more",
        ),
        Transition(
            before=AuthorityState.INTENDED,
            step="prepared",
            after=AuthorityState.INTENDED,
            when="its key exists and, for X.509, its certificate is signed, which was put on record first",
        ),
        Transition(
            before=AuthorityState.INTENDED,
            step="published",
            after=AuthorityState.NEXT,
            when="it is prepared; the bundle gets a new sequence number, and the change log a row",
        ),
        Transition(
            before=AuthorityState.NEXT,
            step="asked",
            after=AuthorityState.NEXT,
            when="an operator wants a rotation, or the revocation list of the active one is full",
        ),
        Transition(
            before=AuthorityState.NEXT,
            step="postponed",
            after=AuthorityState.NEXT,
            when="an authority that lasts at least as long is activated",
        ),
        Transition(
            before=AuthorityState.NEXT,
            step="activated",
            after=AuthorityState.ACTIVE,
            when="it is valid, its key exists, its time has come, and every connected attestor knows it;"
            " or nothing else can sign; or an operator activates it",
        ),
        Transition(
            before=AuthorityState.OLD,
            step="activated",
            after=AuthorityState.ACTIVE,
            when="it is valid and not tainted, and its key exists: its successors became invalid when the clock was set,"
            " and it is not suspect; or an operator activates it",
        ),
        Transition(
            before=AuthorityState.ACTIVE,
            step="replaced",
            after=AuthorityState.OLD,
            when="another authority of its kind is activated in the same transaction; or its key is gone",
        ),
        Transition(
            before=AuthorityState.NEXT,
            step="replaced",
            after=AuthorityState.OLD,
            when="the store is restored from a backup: it may have signed since then",
        ),
        Transition(
            before=AuthorityState.ACTIVE,
            step="suspected",
            after=AuthorityState.ACTIVE,
            when="the store is restored from a backup: it hands over as soon as its successor is known",
        ),
        Transition(
            before=AuthorityState.OLD,
            step="suspected",
            after=AuthorityState.OLD,
            when="its key is gone; or the store is restored from a backup",
        ),
        Transition(
            before=AuthorityState.NEXT,
            step="tainted",
            after=AuthorityState.OLD,
            when="an operator taints or revokes it",
        ),
        Transition(
            before=AuthorityState.OLD,
            step="tainted",
            after=AuthorityState.OLD,
            when="an operator taints or revokes it, or its revocation list is full; one that is active is replaced first,"
            " in the same transaction",
        ),
        Transition(
            before=AuthorityState.INTENDED,
            step="retired",
            after=AuthorityState.RETIRED,
            when="its key could not be made or certified in time, the clock was set back before its beginning, or the store is restored"
            " from a backup",
        ),
        Transition(
            before=AuthorityState.NEXT,
            step="retired",
            after=AuthorityState.RETIRED,
            when="it has expired and the clock is trusted; or its key is gone",
        ),
        Transition(
            before=AuthorityState.ACTIVE,
            step="retired",
            after=AuthorityState.RETIRED,
            when="its key is gone, and an operator forgets it: nodes need an invite",
        ),
        Transition(
            before=AuthorityState.OLD,
            step="retired",
            after=AuthorityState.RETIRED,
            when="everything that it signed has expired and the clock is trusted; or an operator revokes it, or forgets it because its key"
            " is gone",
        ),
    ),
)
"""Every step that an authority may take, and nothing else: what is retired stays retired."""
