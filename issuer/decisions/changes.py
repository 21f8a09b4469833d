"""The change log: what a change is, where a follower stands, and what a change means to one node."""

from dataclasses import dataclass
from enum import StrEnum

from svid.entry import EntryID
from svid.spiffeid import SpiffeID

__all__ = ["Change", "ChangeKind", "Cursor"]


class ChangeKind(StrEnum):
    """What changed."""

    ENTRY = "entry"  # created, updated or deleted: read the row to learn which
    GROUP = "group"  # a node group came, changed or left: who is a member may have changed
    BUNDLE = "bundle"
    NODE = "node"  # a node came, left, or has other selectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where a follower stands: which store, and the number of the last change it has."""

    incarnation: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row of the change log: that something changed, never what it became.

    Args:
        number: its place; 0 until stored.
        subject: an entry id, a node id, or empty.
        parents: the parent ids the entry had before and has now.
    """

    kind: ChangeKind
    number: int = 0
    subject: EntryID | str = ""
    parents: frozenset[SpiffeID] = frozenset()
