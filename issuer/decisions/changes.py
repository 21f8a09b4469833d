"""The change log: what a change is, whether a follower can resume from its cursor, and what a change means to one node."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.feed import Cursor
from cognomen.protocol.names import NodeID
from issuer.decisions.entitlement import is_entitled
from issuer.decisions.registration import is_group
from issuer.decisions.revocation import Blocks
from svid.keys import KeyID
from svid.spiffeid import SpiffeID

__all__ = [
    "Change",
    "ChangeKind",
    "Meaning",
    "can_resume",
    "entry_changes",
    "has_gap",
    "may_regroup",
    "meaning",
    "upserts_and_gone",
]


class ChangeKind(StrEnum):
    """What changed."""

    ENTRY = "entry"  # created, updated or deleted: read the row to learn which
    GROUP = "group"  # a node group came, changed or left: its members may have changed
    BUNDLE = "bundle"
    AUTHORITY = "authority"  # a different authority signs, or one is tainted
    CHECKPOINT = "checkpoint"  # of the audit chain
    NODE = "node"  # a node came, left, has new selectors, or was blocked or unblocked
    CRL = "crl"  # an authority signed a revocation list
    DENIAL = "denial"  # credentials ended early: the denials of the revocation with that number


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row of the change log. It says that something changed, never what it became.

    Args:
        number: its place; 0 until stored.
        subject: an entry id, a node id, the number of a revocation, the key id of an authority, or empty.
        parents: the parent ids that the entry had before and has now.
    """

    kind: ChangeKind
    number: int = 0
    subject: EntryID | str = ""
    parents: frozenset[SpiffeID] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What to look up in order to tell one node what a batch of changes means to it.

    Args:
        snapshot: everything, because the node's parents changed; the other fields do not count.
        entry_ids: these entries, in the order of their last change.
        denials_of: the denials of these revocations.
        crls_of: the lists of these authorities.
        bundle, tainted, checkpoint: the bundle, the tainted authorities in it, the latest checkpoint.
    """

    snapshot: bool = False
    denials_of: tuple[int, ...] = ()
    crls_of: tuple[KeyID, ...] = ()
    entry_ids: tuple[EntryID, ...] = ()
    bundle: bool = False
    tainted: bool = False
    checkpoint: bool = False


def can_resume(cursor: Cursor | None, head: Cursor) -> bool:
    """Whether the log continues from there; if not, a snapshot is due."""
    return cursor is not None and cursor.incarnation == head.incarnation and cursor.number <= head.number


def has_gap(changes: Sequence[Change], cursor: Cursor, head: Cursor) -> bool:
    """Whether rows were pruned from the log between the cursor and the first of these changes, which were read after it."""
    first = changes[0].number if changes else head.number + 1
    return first != cursor.number + 1


def entry_changes(before: RegistrationEntry | None, after: RegistrationEntry | None) -> tuple[Change, ...]:
    """The log rows for an entry that came (`before` is None), was updated, or left (`after` is None)."""
    both = [entry for entry in (before, after) if entry is not None]
    parents = frozenset(entry.parent_id for entry in both)
    kinds = {ChangeKind.GROUP if is_group(entry) else ChangeKind.ENTRY for entry in both}
    return tuple(Change(kind=kind, subject=both[0].id, parents=parents) for kind in sorted(kinds))


def may_regroup(changes: Iterable[Change], node_id: NodeID) -> bool:
    """Whether these changes may change the node's parents, so that entitlement must be asked again."""
    return any(
        change.kind is ChangeKind.GROUP or (change.kind is ChangeKind.NODE and change.subject == node_id)
        for change in changes
    )


def meaning(changes: Iterable[Change], *, had: Collection[SpiffeID], has: Collection[SpiffeID]) -> Meaning:
    """Say what these changes mean to a node whose parents were `had` at the cursor and are `has` now."""
    if frozenset(had) != frozenset(has):
        return Meaning(snapshot=True)
    entry_ids: dict[EntryID, None] = {}
    kinds, revocations = set(), []
    lists: dict[KeyID, None] = {}
    for change in changes:
        kinds.add(change.kind)
        if change.kind is ChangeKind.DENIAL:
            revocations.append(int(change.subject))
        if change.kind is ChangeKind.CRL:
            lists[KeyID(change.subject)] = None
        if change.kind is ChangeKind.ENTRY and not change.parents.isdisjoint(has):
            entry_id = EntryID(change.subject)
            entry_ids.pop(entry_id, None)
            entry_ids[entry_id] = None
    return Meaning(
        denials_of=tuple(revocations),
        crls_of=tuple(lists),
        entry_ids=tuple(entry_ids),
        bundle=ChangeKind.BUNDLE in kinds,
        tainted=not kinds.isdisjoint({ChangeKind.AUTHORITY, ChangeKind.BUNDLE}),
        checkpoint=ChangeKind.CHECKPOINT in kinds,
    )


def upserts_and_gone(
    entry_ids: Iterable[EntryID],
    found: Mapping[EntryID, RegistrationEntry],
    *,
    parents: Collection[SpiffeID],
    blocks: Blocks,
    now: datetime,
) -> tuple[tuple[RegistrationEntry, ...], tuple[EntryID, ...]]:
    """Split the entries that were looked up into those that the node holds now and those that it no longer holds."""
    upserts: list[RegistrationEntry] = []
    gone: list[EntryID] = []
    for entry_id in entry_ids:
        entry = found.get(entry_id)
        if entry is not None and is_entitled(entry, parents, blocks=blocks, now=now):
            upserts.append(entry)
        else:
            gone.append(entry_id)
    return tuple(upserts), tuple(gone)
