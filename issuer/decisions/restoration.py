"""What becomes of the rows of a store that is restored from a backup: what may have happened after it is taken into account."""

from dataclasses import replace
from datetime import datetime

from issuer.decisions.authority import Authority, AuthorityState, replaced, retired
from svid.entry import MAX_TTL

__all__ = ["SEQUENCE_LEAP", "restored_authority"]

SEQUENCE_LEAP = 1_000_000
"""How much the bundle's sequence grows, so that it is above whatever was published after the backup."""


def restored_authority(authority: Authority, *, now: datetime) -> Authority:
    """An authority of a backup: it may have signed until now; so may one that was next, for it may have become active since.

    That one stays in the bundle for what it may have signed, and is not let sign any more, so that another is prepared.
    """
    match authority.state:
        case AuthorityState.ACTIVE | AuthorityState.OLD:
            return _signed_until_now(authority, now)
        case AuthorityState.NEXT:
            return _signed_until_now(replaced(authority), now)
        case AuthorityState.INTENDED:
            return retired(authority)
        case _:
            return authority


def _signed_until_now(authority: Authority, now: datetime) -> Authority:
    end = min(authority.not_after, now + MAX_TTL)
    last = end if authority.last_not_after is None else max(authority.last_not_after, end)
    return replace(authority, last_not_after=last, is_suspect=True)
