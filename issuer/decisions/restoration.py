"""What becomes of the rows of a store that is restored from a backup: what may have happened after it is taken into account."""

from dataclasses import replace
from datetime import datetime

from issuer.decisions.authority import Authority, AuthorityState, retired
from svid.entry import MAX_TTL

__all__ = ["SEQUENCE_LEAP", "restored_authority"]

SEQUENCE_LEAP = 1_000_000
"""How much the bundle's sequence grows, so that it is above whatever was published after the backup."""


def restored_authority(authority: Authority, *, now: datetime) -> Authority:
    """An authority of a backup: it may have signed until now, and one that was next is not let sign, so that another is prepared."""
    match authority.state:
        case AuthorityState.ACTIVE | AuthorityState.OLD:
            end = min(authority.not_after, now + MAX_TTL)
            last = end if authority.last_not_after is None else max(authority.last_not_after, end)
            return replace(authority, last_not_after=last, is_suspect=True)
        case AuthorityState.NEXT | AuthorityState.INTENDED:
            return retired(authority)
        case _:
            return authority
