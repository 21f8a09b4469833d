"""Decide in which slices a large batch of entry changes is carried out, each of them one transaction.

No moment between two slices may give anybody what neither the entries before the batch nor those after it give, or end what both of them
allow. So what is added comes first, and what is taken away comes last: new node groups, then new and changed entries, then deleted entries,
then deleted node groups. Steps stay in one slice, whatever their number, where no order of them is good: one entry takes the SPIFFE ID,
parent and selectors of another; or a node group begins or ceases to cover nodes while entries with this parent change the other way,
or move.

issuer/decisions/registration decides which entries may be stored. ADR-0025 says why there are slices.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Flag, IntEnum, auto
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from cognomen.protocol.entry import RegistrationEntry
from issuer.decisions.actions import Action
from issuer.decisions.registration import fingerprint, is_group
from svid.spiffeid import SpiffeID

__all__ = ["MOST_BYTES", "MOST_STEPS", "Step", "are_few", "slices"]

MOST_STEPS = 500
"""How many entries one transaction changes."""

MOST_BYTES = 4 << 20
"""How many bytes of text the entries of one transaction have, together, if it changes more than one."""

_MOST_UNREAD = 16  # entries, each of at most some 400 kB
_FIXED_BYTES = 64  # of an entry, beside its texts
_Part: TypeAlias = list[int]  # the steps that stay together, in their order


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What becomes of one entry of a batch.

    Args:
        before, after: the entry; None: it does not exist. They are one object if the batch does not change it.
    """

    before: RegistrationEntry | None
    after: RegistrationEntry | None

    @property
    def entry(self) -> RegistrationEntry:
        """The entry as it is after the step; if it is deleted, as it was before."""
        found = self.after or self.before
        assert found is not None  # noqa: S101 - a step is about an entry
        return found

    @property
    def action(self) -> Action | None:
        """What is done; None: nothing."""
        if self.before is self.after:
            return None
        if self.before is None:
            return Action.ENTRY_CREATED
        return Action.ENTRY_DELETED if self.after is None else Action.ENTRY_UPDATED


class _Phase(IntEnum):
    NEW_GROUPS = auto()
    ENTRIES = auto()
    DELETED_ENTRIES = auto()
    DELETED_GROUPS = auto()


class _Way(Flag):
    """What a step does to who gets the SVIDs of a parent's entries."""

    WIDENS = auto()
    NARROWS = auto()


_BOTH_WAYS = _Way.WIDENS | _Way.NARROWS


class _Place(NamedTuple):
    """What a step is about: a parent, as the node group that it names or as that of an entry."""

    parent: SpiffeID
    of_group: bool


@dataclass(slots=True)
class _Concerned:
    """Which steps change who gets the SVIDs of one parent's entries, and how."""

    groups: list[tuple[int, _Way]] = field(default_factory=list)
    entries: list[tuple[int, _Way]] = field(default_factory=list)


def are_few(entries: Sequence[RegistrationEntry], replaced: int, *, most: int = MOST_STEPS) -> bool:
    """Whether a batch fits in one slice, whatever is stored: these entries are created or updated.

    Args:
        replaced: how many stored entries it updates or deletes, whose length nobody has looked at.
    """
    return replaced <= 1 >= len(entries) or (
        len(entries) <= most and replaced <= min(most, _MOST_UNREAD) and sum(map(_length, entries)) <= MOST_BYTES
    )


def slices(steps: Sequence[Step], *, most: int = MOST_STEPS, most_bytes: int = MOST_BYTES) -> Iterator[Sequence[int]]:
    """The places of the steps that change something, in slices, in the order in which to carry them out.

    Args:
        most, most_bytes: of a slice, unless its steps must stay together.
    """
    done = [number for number, step in enumerate(steps) if step.action is not None]
    found: _Part = []
    size = 0
    for part in sorted(_parts(steps, done), key=lambda part: (_phase(steps, part), part[0])):
        more = sum(_length(one) for number in part for one in _sides(steps[number]))
        if found and (len(found) + len(part) > most or size + more > most_bytes):
            yield sorted(found)
            found, size = [], 0
        found += part
        size += more
    if found:
        yield sorted(found)


def _sides(step: Step) -> list[RegistrationEntry]:
    return [one for one in (step.before, step.after) if one is not None]


def _length(entry: RegistrationEntry) -> int:
    """About how many bytes it takes to record an entry, if its texts are ASCII."""
    return (
        _FIXED_BYTES
        + len(entry.spiffe_id.path)
        + len(entry.parent_id.path)
        + len(entry.hint)
        + len(entry.owner)
        + sum(len(one.value) + _FIXED_BYTES for one in entry.selectors)
        + sum(map(len, entry.dns_names))
        + sum(map(len, entry.audiences or ()))
        + sum(len(one.trust_domain.name) + len(one.path) + _FIXED_BYTES for one in entry.callers or ())
        + sum(len(key) + len(value) for key, value in entry.labels.items())
    )


def _phase(steps: Sequence[Step], part: _Part) -> _Phase:
    phases = {_phase_of(steps[number]) for number in part}
    return phases.pop() if len(phases) == 1 else _Phase.ENTRIES


def _phase_of(step: Step) -> _Phase:
    if step.after is None:
        return _Phase.DELETED_GROUPS if is_group(step.entry) else _Phase.DELETED_ENTRIES
    return _Phase.NEW_GROUPS if step.before is None and is_group(step.entry) else _Phase.ENTRIES


class _Parts:
    """Which steps must stay together; most are alone."""

    def __init__(self, steps: Sequence[Step], done: Sequence[int]) -> None:
        self._steps, self._done = steps, done
        self._above = {number: number for number in done}

    def all(self) -> Sequence[_Part]:
        """Every part, its steps in order."""
        parts: defaultdict[int, _Part] = defaultdict(list)
        for number in self._done:
            parts[self._top(number)].append(number)
        return list(parts.values())

    def join(self, pairs: Iterable[tuple[int, int]]) -> bool:
        """Keep these steps together, two by two; returns whether that is new for any of them."""
        is_new = False
        for one, other in pairs:
            first, second = self._top(one), self._top(other)
            self._above[second] = first
            is_new |= first != second
        return is_new

    def among_entries(self) -> set[int]:
        """The steps that are carried out between the new groups and what is deleted."""
        return {number for part in self.all() if _phase(self._steps, part) is _Phase.ENTRIES for number in part}

    def _top(self, number: int) -> int:
        above = self._above
        while above[number] != number:
            above[number] = number = above[above[number]]
        return number


def _parts(steps: Sequence[Step], done: Sequence[int]) -> Sequence[_Part]:
    parts = _Parts(steps, done)
    parts.join(_heirs(steps, done))
    if not any(is_group(one) for number in done for one in _sides(steps[number])):
        return parts.all()
    concerned = _concerned(steps, done)
    parts.join(_against(concerned))
    while parts.join(_beside(steps, concerned, parts.among_entries())):
        pass
    return parts.all()


def _heirs(steps: Sequence[Step], done: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Steps that take the SPIFFE ID, parent and selectors which another gives up."""
    changed = [(number, steps[number].before, steps[number].after) for number in done]
    moved = [one for one in changed if one[1] is None or one[2] is None or _identity(one[1]) != _identity(one[2])]
    given_up = {fingerprint(before): number for number, before, _ in moved if before is not None}
    if given_up:
        for number, _, after in moved:
            if after is not None and (giver := given_up.get(fingerprint(after))) is not None:
                yield giver, number


def _identity(entry: RegistrationEntry) -> tuple[object, ...]:
    return entry.spiffe_id, entry.parent_id, entry.selectors


def _concerned(steps: Sequence[Step], done: Sequence[int]) -> Sequence[_Concerned]:
    """For each parent with steps of its node groups: which steps concern it."""
    found: defaultdict[SpiffeID, _Concerned] = defaultdict(_Concerned)
    for number in done:
        for place, way in _effects(steps[number]):
            at = found[place.parent]
            (at.groups if place.of_group else at.entries).append((number, way))
    return [one for one in found.values() if one.groups]


def _against(concerned: Iterable[_Concerned]) -> Iterator[tuple[int, int]]:
    """Steps of the groups of one parent, and of entries below it that change the other way."""
    for one in concerned:
        yield from pairwise(number for number, _ in one.groups)
        for number, way in one.entries:
            if any(way | other == _BOTH_WAYS for _, other in one.groups):
                yield one.groups[0][0], number


def _beside(
    steps: Sequence[Step], concerned: Iterable[_Concerned], among_entries: Collection[int]
) -> Iterator[tuple[int, int]]:
    """Steps of groups that are neither first nor last, and updates of entries below them, which would have to come after or before."""
    for one in concerned:
        if any(number in among_entries for number, _ in one.groups):
            updates = (number for number, _ in one.entries if steps[number].action is Action.ENTRY_UPDATED)
            yield from ((one.groups[0][0], number) for number in updates)


def _effects(step: Step) -> Iterator[tuple[_Place, _Way]]:
    before, after = step.before, step.after
    if before is not None and after is not None and _place(before) == _place(after):
        if _reach(before) != _reach(after):
            yield _place(after), _BOTH_WAYS
        return
    if before is not None:
        yield _place(before), _Way.NARROWS
    if after is not None:
        yield _place(after), _Way.WIDENS


def _place(entry: RegistrationEntry) -> _Place:
    group = is_group(entry)
    return _Place(entry.spiffe_id if group else entry.parent_id, group)


def _reach(entry: RegistrationEntry) -> tuple[object, ...]:
    """What decides who gets an SVID of an entry, or which nodes are in a group, and what that SVID says."""
    return entry.spiffe_id, entry.selectors, entry.dns_names, entry.expires_at, entry.audiences, entry.observe
