"""What becomes of the rows of a store that is restored from a backup: what may have happened after it is taken into account.

What was revoked after it, the store does not know; what is said of that is decided here, too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from issuer.decisions.authority import Authority, AuthorityState, replaced, retired
from svid.entry import MAX_TTL

__all__ = ["SEQUENCE_LEAP", "Forgotten", "Restored", "forgotten", "restored_authority"]

SEQUENCE_LEAP = 1_000_000
"""How much the bundle's sequence grows, so that it is above whatever was published after the backup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """That a store came from a backup.

    Args:
        at: when it was restored.
        backup_of: when the backup was made.
    """

    at: datetime
    backup_of: datetime


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
            return retired(authority, now=now)
        case _:
            return authority


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What a restored store may have forgotten, and what to do about it.

    Args:
        reason: in words.
        remedy: the commands that end all that was signed before the restore, in order, whether the ledger knows it or not. What it
            knows ends by its serial, open connections included; the rest by the authorities that may have signed it. These are
            tainted first, so that what replaces it is signed by others.
    """

    reason: str
    remedy: tuple[str, ...]


def forgotten(restored: Restored | None, authorities: Iterable[Authority]) -> Forgotten | None:
    """What may be accepted that was denied before a restore; None: nothing.

    It is over once no authority is in the bundle that was there before: by that no SVID is valid that was signed before.
    """
    if restored is None:
        return None
    left = [a for a in authorities if a.is_published and a.published_at is not None and a.published_at <= restored.at]
    if not left:
        return None
    moment = restored.backup_of.isoformat().replace("+00:00", "Z")
    return Forgotten(
        reason=f"revocations since the backup of {moment} are forgotten: attestors that heard of one still refuse what it ended,"
        " new nodes and verifiers that read lists do not",
        remedy=(
            *(f"cognomen authority taint {one.key_id}" for one in left if one.tainted_at is None),
            f"cognomen revoke issued-before {moment} --wait",
            *(f"cognomen authority revoke {one.key_id}" for one in left),
        ),
    )


def _signed_until_now(authority: Authority, now: datetime) -> Authority:
    end = min(authority.not_after, now + MAX_TTL)
    last = end if authority.last_not_after is None else max(authority.last_not_after, end)
    return replace(authority, last_not_after=last, is_suspect=True)
