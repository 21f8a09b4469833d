"""What a step of the feed does to what the attestor knows.

How steps arrive is the issuer client's business, who waits for them the cache's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cognomen.protocol.feed import Cursor
from svid.bundle import Bundle
from svid.entry import EntryID, RegistrationEntry

__all__ = ["Change", "Diff", "diff", "keeps_svid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One whole step of the feed: apply all of it, then stand at `cursor`.

    Args:
        snapshot: what it does not name is gone.
        bundle: None: unchanged.
        checkpoint: the latest of the issuer's audit chain, as it came; empty: unchanged.
    """

    cursor: Cursor
    snapshot: bool
    entries: tuple[RegistrationEntry, ...] = ()
    gone: tuple[EntryID, ...] = ()
    bundle: Bundle | None = None
    checkpoint: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What a step changes.

    Args:
        put: the entries that are new or different, as they are from now on.
        left: the entries that are no longer ours, as they were.
        stale: the entries whose SVID must not be served any longer, though the entry stays.
    """

    put: tuple[RegistrationEntry, ...]
    left: tuple[RegistrationEntry, ...]
    stale: frozenset[EntryID]


def diff(known: Mapping[EntryID, RegistrationEntry], change: Change) -> Diff:
    """Compare a step with what is known; an entry that a step both names and calls gone is there."""
    named = {entry.id: entry for entry in change.entries}
    gone = (known.keys() if change.snapshot else known.keys() & set(change.gone)) - named.keys()
    put = tuple(entry for entry in named.values() if known.get(entry.id) != entry)
    return Diff(
        put=put,
        left=tuple(entry for entry_id, entry in known.items() if entry_id in gone),
        stale=frozenset(entry.id for entry in put if entry.id in known and not keeps_svid(known[entry.id], entry)),
    )


def keeps_svid(old: RegistrationEntry, new: RegistrationEntry) -> bool:
    """Whether an SVID minted under `old` may be served under `new` until the next one is minted.

    Not when the names in it changed, nor when other workloads hold the entry from now on: they get a key that nobody else had.
    """
    return (old.spiffe_id, old.dns_names, old.selectors) == (new.spiffe_id, new.dns_names, new.selectors)
