"""What a step of the feed does to what the attestor knows.

How steps arrive is the issuer client's business, who waits for them the cache's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from cognomen.protocol.feed import (
    BundleIs,
    CheckpointIs,
    CRLIs,
    Cursor,
    DenialsPut,
    EntryGone,
    EntryPut,
    TaintedIs,
    Update,
)
from svid.bundle import Bundle
from svid.denials import Denial
from svid.entry import EntryID, RegistrationEntry

__all__ = ["Change", "Diff", "diff", "keeps_svid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One whole step of the feed: apply all of it, in order, then stand at `cursor`.

    Args:
        snapshot: an entry that it does not name is gone.
    """

    cursor: Cursor
    snapshot: bool
    updates: tuple[Update, ...] = ()

    def is_news(self, at: Cursor | None) -> bool:
        """Whether it changes anything for whoever stands there: else it only says that the issuer is alive."""
        return self.snapshot or bool(self.updates) or self.cursor != at


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What a step changes.

    Args:
        put: the entries that are new or different, as they are from now on.
        left: the entries that are no longer ours, as they were.
        stale: the entries whose SVID must not be served any longer, though the entry stays.
        bundle: None: unchanged.
        tainted: the authorities whose SVIDs are to be replaced; None: unchanged.
        denials: credentials that ended before their time.
    """

    put: tuple[RegistrationEntry, ...]
    left: tuple[RegistrationEntry, ...]
    stale: frozenset[EntryID]
    bundle: Bundle | None
    tainted: frozenset[str] | None
    denials: tuple[Denial, ...]


def diff(known: Mapping[EntryID, RegistrationEntry], change: Change) -> Diff:
    """Compare a step with what is known; what it says last of an entry or of the bundle holds."""
    said: dict[EntryID, RegistrationEntry | None] = {}
    bundle: Bundle | None = None
    tainted = frozenset[str]() if change.snapshot else None
    denials: list[Denial] = []
    for update in change.updates:
        match update:
            case DenialsPut():
                denials += update.denials
            case EntryPut(entry=entry):
                said[entry.id] = entry
            case EntryGone(entry_id=entry_id):
                said[entry_id] = None
            case BundleIs():
                bundle = update.bundle
            case TaintedIs():
                tainted = update.authority_ids
            case CRLIs() | CheckpointIs():
                pass  # what becomes of them is decided elsewhere: decisions/crls, flows/keep_node
            case _:
                assert_never(update)
    put = tuple(entry for entry in said.values() if entry is not None and known.get(entry.id) != entry)
    return Diff(
        put=put,
        left=tuple(old for old in known.values() if said.get(old.id, None if change.snapshot else old) is None),
        stale=frozenset(entry.id for entry in put if entry.id in known and not keeps_svid(known[entry.id], entry)),
        bundle=bundle,
        tainted=tainted,
        denials=tuple(denials),
    )


def keeps_svid(old: RegistrationEntry, new: RegistrationEntry) -> bool:
    """Whether an SVID minted under `old` may be served under `new` until the next one is minted.

    Not when the names in it changed, nor when other workloads hold the entry from now on: they get a key that nobody else had.
    """
    return (old.spiffe_id, old.dns_names, old.selectors) == (new.spiffe_id, new.dns_names, new.selectors)
