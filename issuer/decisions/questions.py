"""Which nodes to ask who would gain or lose an identity by a plan, and what to ask each of them.

A node is asked about those entries alone that it would lose, or that would be new or different there in what they give to whom. What
becomes of the programs on it, only its attestor can say.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.feed import EntryGone, EntryPut, QuestionIs
from issuer.decisions.admission import Node
from issuer.decisions.entitlement import is_entitled, parents_of
from issuer.decisions.entrysteps import Step
from issuer.decisions.feedsteps import weight
from issuer.decisions.registration import is_group
from issuer.decisions.revocation import Blocks
from svid.spiffeid import SpiffeID

__all__ = ["Asking", "Concern", "PlannedChanges", "in_parts"]

_PART_BYTES = 64 * 1024  # news waits behind a part, and denials are among it


class Concern(NamedTuple):
    """The parents through which a plan changes a node's entries, as far as the node has them before and after it."""

    had: frozenset[SpiffeID]
    has: frozenset[SpiffeID]

    @property
    def regrouped(self) -> frozenset[SpiffeID]:
        """The parents that it gains or loses: with them, it gains or loses entries that the plan does not touch."""
        return self.had ^ self.has


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What a node is asked.

    Args:
        put: the entries that would be new, or give another identity, or give it to other programs.
        gone: the entries that it would lose.
        ids: the identities that a program can gain or lose by that, by their texts.
    """

    put: tuple[RegistrationEntry, ...] = ()
    gone: tuple[EntryID, ...] = ()
    ids: Mapping[str, SpiffeID] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.put) + len(self.gone)


class PlannedChanges:
    """The steps of a plan, by the parents below which they change something.

    Args:
        groups: every node group as it is before the plan.
    """

    def __init__(
        self, steps: Iterable[Step], groups: Sequence[RegistrationEntry], *, blocks: Blocks, now: datetime
    ) -> None:
        self._blocks, self._now = blocks, now
        self._below: dict[SpiffeID, dict[EntryID, Step]] = defaultdict(dict)
        regrouped: dict[EntryID, RegistrationEntry | None] = {}
        for step in steps:
            for entry in (step.before, step.after):
                if entry is not None and is_group(entry):
                    regrouped[entry.id] = step.after
                elif entry is not None:
                    self._below[entry.parent_id][step.entry.id] = step
        self._groups = groups
        self._groups_after = [group for group in groups if group.id not in regrouped]
        self._groups_after += [group for group in regrouped.values() if group is not None and is_group(group)]

    def concern(self, node: Node) -> Concern:
        """What the plan changes for a node; both empty: nothing."""
        had = parents_of(node, self._groups, blocks=self._blocks, now=self._now)
        has = parents_of(node, self._groups_after, blocks=self._blocks, now=self._now)
        matters = (had ^ has) | {parent for parent in had | has if parent in self._below}
        return Concern(had=had & matters, has=has & matters)

    def asking(self, concern: Concern, stored: Iterable[RegistrationEntry]) -> Asking:
        """What to ask the nodes that the plan concerns like this.

        Args:
            stored: every entry below the parents in `regrouped`, as it is before the plan.
        """
        now = {entry.id: entry for entry in stored}
        then: dict[EntryID, RegistrationEntry] = dict(now)
        for parent in concern.had | concern.has:
            for entry_id, step in self._below.get(parent, {}).items():
                if step.before is not None:
                    now[entry_id] = step.before
                then.pop(entry_id, None)
                if step.after is not None:
                    then[entry_id] = step.after
        had, has = self._held(now, concern.had), self._held(then, concern.has)
        put = tuple(one for one in has.values() if (old := had.get(one.id)) is None or _gives(old) != _gives(one))
        gone = tuple(one for one in had if one not in has)
        olds = (had[one.id] for one in put if one.id in had)
        ids = {str(one.spiffe_id): one.spiffe_id for one in (*put, *olds, *(had[one] for one in gone))}
        return Asking(put=put, gone=gone, ids=ids)

    def _held(
        self, entries: Mapping[EntryID, RegistrationEntry], parents: Collection[SpiffeID]
    ) -> dict[EntryID, RegistrationEntry]:
        return {
            entry_id: entry
            for entry_id, entry in entries.items()
            if is_entitled(entry, parents, blocks=self._blocks, now=self._now) and not entry.observe
        }


def in_parts(question_id: str, asking: Asking) -> Iterator[QuestionIs]:
    """Cut a question into parts, each of which holds up what follows it on the feed for a moment only."""
    updates: list[EntryPut | EntryGone] = [
        *(EntryPut(entry=entry) for entry in asking.put),
        *(EntryGone(entry_id=one) for one in asking.gone),
    ]
    part: list[EntryPut | EntryGone] = []
    size = 0
    for update in updates:
        added = weight(update)
        if part and size + added > _PART_BYTES:
            yield _part(question_id, part, more=True)
            part, size = [], 0
        part.append(update)
        size += added
    yield _part(question_id, part, more=False)


def _part(question_id: str, updates: Sequence[EntryPut | EntryGone], *, more: bool) -> QuestionIs:
    put = tuple(one.entry for one in updates if isinstance(one, EntryPut))
    gone = tuple(one.entry_id for one in updates if isinstance(one, EntryGone))
    return QuestionIs(id=question_id, put=put, gone=gone, more=more)


def _gives(entry: RegistrationEntry) -> tuple[object, ...]:
    """What decides which program has which identity by an entry."""
    return entry.spiffe_id, entry.selectors
