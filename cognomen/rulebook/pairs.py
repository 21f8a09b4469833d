"""Which pairs of components one process can be, or only facts about its program tell apart: for all pairs of many components at once.

Each component has a place, of as many bits as it has sets of selectors; the highest of them is about the component. So what holds between
one component and all others is one number, in which they can be counted without looking at each. Two rulebooks can have the same places,
so that their pairs can be compared.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from cognomen.protocol.selector import Selector
from cognomen.rulebook.exclusion import Alike, Compatible, Facts, facts_of
from cognomen.rulebook.rules import Component, ComponentName, Nodes

__all__ = ["USER_FACTS", "Like", "Pairs", "Places", "Shown"]

USER_FACTS = ("unix:uid", "unix:user")

_ONE_NODE = "node"  # as a fact: a node has one path
_ROOT = {"unix:user:root": "unix:uid:0"}  # the one user whose name and number belong together everywhere


class Places:
    """Where each component is among the bits."""

    def __init__(self, components: Iterable[Component], more: Iterable[Component] = ()) -> None:
        lengths: dict[ComponentName, int] = {}
        for one in (*components, *more):
            lengths[one.name] = max(lengths.get(one.name, 0), len(one.proofs))
        self._first: dict[ComponentName, int] = {}
        self._at: dict[int, ComponentName] = {}
        self.count = 0
        tops = bytearray(sum(lengths.values()) // 8 + 1)
        for name, length in lengths.items():
            self._first[name] = self.count
            self.count += length
            top = self.count - 1
            self._at[top] = name
            tops[top >> 3] |= 1 << (top & 7)
        self._tops = int.from_bytes(tops, "little")
        self._low = ((1 << self.count) - 1) ^ self._tops
        self._last = {self._first[name]: top for top, name in self._at.items()}

    def first(self, name: ComponentName) -> int:
        """The bit of a component's first set of selectors."""
        return self._first[name]

    def top(self, name: ComponentName) -> int:
        """The bit that is about a component."""
        return self._last[self._first[name]]

    def tops(self, names: Iterable[ComponentName]) -> int:
        """The bits that are about these components."""
        tops = bytearray(self.count // 8 + 1)
        for name in names:
            top = self.top(name)
            tops[top >> 3] |= 1 << (top & 7)
        return int.from_bytes(tops, "little")

    def bits(self, name: ComponentName) -> int:
        """All bits of a component."""
        first, top = self._first[name], self.top(name)
        return ((2 << (top - first)) - 1) << first

    def components(self, sets: int) -> int:
        """The components of which any set is among these.

        In each place, what is below its highest bit overflows into it, unless it is 0.
        """
        return ((((sets & self._low) + self._low) | sets) if self._low else sets) & self._tops

    def names(self, components: int) -> Iterator[ComponentName]:
        """The components in these bits, in order."""
        while components:
            lowest = components & -components
            yield self._at[lowest.bit_length() - 1]
            components ^= lowest


class Like(NamedTuple):
    """Which components after one are like it, as bits: those that a process can be as well, and those of the same user."""

    overlap: int
    shared_user: int


class Shown(NamedTuple):
    """What shows that two components are alike.

    Args:
        selectors: what a process shows.
        user: the one that both have.
    """

    selectors: frozenset[Selector]
    user: str


class Pairs:
    """The pairs of some components, all of which have a place."""

    def __init__(self, components: Iterable[Component], places: Places) -> None:
        self._places = places
        self._components = {one.name: one for one in components}
        self._proofs: list[frozenset[Selector]] = [frozenset()] * places.count
        facts: list[Facts] = [{}] * places.count
        nodes: list[Facts] = [{}] * places.count
        self._users = Alike(places.count)
        self._used = 0
        used = Alike(places.count)
        for one in sorted(self._components.values(), key=lambda one: places.first(one.name)):
            at = places.first(one.name)
            for number, selectors in enumerate(one.proofs, at):
                self._proofs[number], facts[number], nodes[number] = selectors, facts_of(selectors), _node_facts(one)
                used.add(None, number)
                for user in _users(facts[number]):
                    self._users.add(user, number)
        self._used = used[None]
        self._facts = facts
        self._can_be, self._can_run_with = Compatible(facts), Compatible(nodes)

    def like(self, name: ComponentName) -> Like:
        """The components after this one that are like it."""
        overlap = shared_user = 0
        for number in self._numbers(name):
            beside = self._can_run_with[number] & self._used
            both = beside & self._can_be[number]
            overlap |= both
            if same := self._same_user(number):
                shared_user |= same & (beside ^ both)
        after = self._places.top(name) + 1
        overlap, shared_user = (self._places.components(one >> after << after) for one in (overlap, shared_user))
        return Like(overlap, shared_user)

    def shown(self, name: ComponentName, other: ComponentName, *, overlap: bool) -> Shown:
        """What shows that these two are alike.

        Args:
            overlap: that a process can be both; else, that they have one user.
        """
        others = self._places.bits(other) & self._used
        for number in self._numbers(name):
            beside = self._can_run_with[number] & others
            both = beside & self._can_be[number]
            if overlap and both:
                at = (both & -both).bit_length() - 1
                return Shown(self._proofs[number] | self._proofs[at], "")
            for user in _users(self._facts[number]):
                if not overlap and (beside ^ both) & self._users[user]:
                    return Shown(self._proofs[number], user)
        raise AssertionError(f"{name} and {other} are not alike")

    def _same_user(self, number: int) -> int:
        found = 0
        for user in _users(self._facts[number]):
            if self._users.count(user) > 1:
                found |= self._users[user]
        return found

    def _numbers(self, name: ComponentName) -> range:
        first = self._places.first(name)
        return range(first, first + len(self._components[name].proofs))


def _node_facts(component: Component) -> Facts:
    nodes: Nodes = component.nodes
    return {_ONE_NODE: nodes.path} if nodes.path else facts_of(nodes.selectors)


def _users(facts: Mapping[str, str]) -> Iterator[str]:
    """The users that a process has which shows these facts."""
    yield from dict.fromkeys(_ROOT.get(facts[fact], facts[fact]) for fact in USER_FACTS if fact in facts)
