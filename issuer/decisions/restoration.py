"""Decide what becomes of the rows of a store restored from a backup, considering what may have happened since the backup.

The store does not know what was revoked after the backup. What we tell the operator about that is also decided here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from cognomen.protocol.entry import MAX_TTL
from issuer.decisions.authority import Authority, AuthorityState, replaced, retired, suspected
from issuer.decisions.crl import SignedCRL, number_at
from issuer.decisions.exports import Export

__all__ = [
    "SEQUENCE_LEAP",
    "Forgotten",
    "Restored",
    "forgotten",
    "restored_authority",
    "restored_crl",
    "restored_export",
]

SEQUENCE_LEAP = 1_000_000
"""How much the bundle's sequence and the numbers of revocation lists grow, so that they exceed anything published after the backup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The origin of a store that came from a backup.

    Args:
        at: when it was restored.
        backup_of: when the backup was made.
    """

    at: datetime
    backup_of: datetime


def restored_authority(authority: Authority, *, now: datetime) -> Authority:
    """An authority from a backup. It may have signed until now; so may one that was next, since it may have become active since.

    A next one stays in the bundle for what it may have signed, but may not sign any more, so that another is prepared.
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


def restored_crl(crl: SignedCRL, *, now: datetime) -> SignedCRL:
    """An authority's list from a backup. A newer one may have been signed since, so the next one gets a number beyond that, and is due.

    Numbers follow the clock. The leap is for a clock that was up to 1,000 s ahead when the newest list was signed.
    """
    return replace(crl, number=max(crl.number, number_at(now)) + SEQUENCE_LEAP)


def restored_export(export: Export) -> Export:
    """An export from a backup. A later copy may have been made since, so nobody knows what is in it: it must be made again."""
    return replace(export, key_ids=frozenset(), digest="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What a restored store may have forgotten, and what to do about it.

    Args:
        reason: in words.
        remedy: the commands that end all that was signed before the restore, in order, whether the ledger knows it or not. What the
            ledger knows ends by its serial, open connections included; the rest ends with the authorities that may have signed it.
            These are tainted first, so that others sign the replacements.
    """

    reason: str
    remedy: tuple[str, ...]


def forgotten(restored: Restored | None, authorities: Iterable[Authority]) -> Forgotten | None:
    """What was denied before a restore but may be accepted again; None: nothing.

    This ends once the bundle has no authority from before: then no SVID that was signed before is valid any more.
    """
    if restored is None:
        return None
    left = [a for a in authorities if a.is_published and a.published_at is not None and a.published_at <= restored.at]
    if not left:
        return None
    moment = restored.backup_of.isoformat().replace(
        "+00:00", "Z"
    )  # to the microsecond: it is typed as what was signed until then
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
    return suspected(replace(authority, last_not_after=last))
