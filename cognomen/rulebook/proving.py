"""What can be proved of a rulebook: what is usually a mistake, each time with the selectors that show it.

A finding is certain: a process that shows these selectors, on a node that shows those, is what it says. A component that allows the guard
(`tables.Guard`) has no such finding; of two components, both must allow it. What is allowed is listed by `loosened`.

Of the findings of one guard about one component, a few are listed and the others are counted: 10,000 components that may all be one
process are 50 million pairs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import NamedTuple

from cognomen.protocol.selector import Selector
from cognomen.rulebook.exclusion import facts_of
from cognomen.rulebook.pairs import USER_FACTS, Like, Pairs, Places
from cognomen.rulebook.rules import Component, Nodes, Rulebook
from cognomen.rulebook.tables import ComponentKind, Guard

__all__ = ["MOST_LISTED", "Finding", "loosened", "prove"]

MOST_LISTED = 3
"""How many findings of one guard about one component are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that holds for these rules.

    Args:
        components: the one that the finding is about first.
        selectors: what a process shows for which it holds; empty: it does not depend on a process.
        nodes: the node on which it runs.
        problem: in words.
        mend: what to change.
        is_new: whether it holds since these rules; what it is compared with, the caller has said.
        more: how many more there are like this one about the first component, beside those that are listed.
    """

    guard: Guard
    components: tuple[Component, ...]
    selectors: frozenset[Selector] = frozenset()
    nodes: tuple[Nodes, ...] = ()
    problem: str
    mend: str
    is_new: bool = False
    more: int = 0

    @property
    def is_allowed(self) -> bool:
        """Whether all its components allow it."""
        return not self.lacking

    @property
    def lacking(self) -> list[Component]:
        """Those of its components that do not allow it."""
        return [one for one in self.components if self.guard not in one.allow]

    @property
    def allowance(self) -> str:
        """What its components must say, so that it is allowed: all of them, and which of two still lacks it."""
        lacking = self.lacking
        which = ""
        if len(self.components) > 1 and lacking:
            which = f" in {lacking[0].name} too" if len(lacking) < len(self.components) else " in both components"
        return f'allow = ["{self.guard.value}"]{which}'


class _Single(NamedTuple):
    """A finding that needs no comparing, and what it is about, so that it is known again."""

    finding: Finding
    about: object

    @property
    def key(self) -> tuple[object, ...]:
        return self.finding.guard, self.finding.components[0].name, self.about


def prove(rulebook: Rulebook) -> Iterator[Finding]:
    """Yield the findings that are not allowed, about components of active agents; there is one exactly if there is any."""
    yield from _listed(_Group(one.finding, is_new=False) for one in _singles(rulebook) if not one.finding.is_allowed)
    yield from _pairs(rulebook, None, allowed=False)


def loosened(rulebook: Rulebook, since: Rulebook | None = None) -> Iterator[Finding]:
    """Yield the findings that their components allow.

    Args:
        since: what holds and is allowed by these rules too is not new; None: nothing is.
    """
    known = set() if since is None else {one.key for one in _singles(since) if one.finding.is_allowed}
    yield from _listed(
        _Group(one.finding, is_new=since is not None and one.key not in known)
        for one in _singles(rulebook)
        if one.finding.is_allowed
    )
    yield from _pairs(rulebook, since, allowed=True)


class _Group(NamedTuple):
    finding: Finding
    is_new: bool


def _listed(found: Iterable[_Group]) -> Iterator[Finding]:
    """A few of each guard and component, the new ones first; those about one component follow each other."""
    for _, group in groupby(found, key=lambda one: (one.finding.guard, one.finding.components[0].name)):
        alike = list(group)
        for is_new in (True, False):
            yield from _cut([one.finding for one in alike if one.is_new is is_new], is_new=is_new)


def _cut(found: Sequence[Finding], *, is_new: bool, more: int = 0) -> Iterator[Finding]:
    """The first of these; the last of them has the number of the others.

    Args:
        more: how many there are beside these.
    """
    some = found[:MOST_LISTED]
    more += len(found) - len(some)
    for at, one in enumerate(some, 1):
        yield replace(one, is_new=is_new, more=more if at == len(some) else 0)


def _singles(rulebook: Rulebook) -> Iterator[_Single]:
    for component in rulebook.active():
        yield from _of_kind(rulebook, component)
        yield from _any_user(component)
    yield from _shared_audiences(rulebook)


def _of_kind(rulebook: Rulebook, component: Component) -> Iterator[_Single]:
    if component.kind is ComponentKind.REASONING and component.audiences:
        finding = Finding(
            guard=Guard.EXTERNAL_AUDIENCE,
            components=(component,),
            problem=f"a reasoning component reaches {', '.join(sorted(component.audiences))}, which is not its model",
            mend="give that audience to a connector, and let the reasoning component call the connector",
        )
        yield _Single(finding, frozenset(component.audiences))
    for name in dict.fromkeys(component.may_call):
        callee = rulebook.component(name)
        if callee is None or callee.kind is not ComponentKind.ORCHESTRATOR or name.agent == component.name.agent:
            continue
        finding = Finding(
            guard=Guard.FOREIGN_ORCHESTRATOR,
            components=(component,),
            problem=f"it may call {name}, the orchestrator of another agent",
            mend="call a connector of that agent",
        )
        yield _Single(finding, name)


def _any_user(component: Component) -> Iterator[_Single]:
    for selectors in component.proofs:
        is_unix = all(one.type == "unix" for one in selectors)
        if is_unix and not facts_of(selectors).keys() & set(USER_FACTS):
            finding = Finding(
                guard=Guard.ANY_USER,
                components=(component,),
                selectors=selectors,
                nodes=(component.nodes,),
                problem="every user of the node can show these selectors",
                mend="add unix:uid",
            )
            yield _Single(finding, selectors)


def _shared_audiences(rulebook: Rulebook) -> Iterator[_Single]:
    owned = {one.audience for one in rulebook.providers.values() if one.owner}
    first: dict[str, Component] = {}
    for component in rulebook.active():
        for audience in sorted(rulebook.external_audiences(component) - owned):
            other = first.setdefault(audience, component)
            owners = {rulebook.agents[one.name.agent].owner for one in (other, component)}
            if len(owners) > 1:
                finding = Finding(
                    guard=Guard.SHARED_AUDIENCE,
                    components=(component, other),
                    problem=f"{' and '.join(sorted(owners))} both use {audience}, and nobody answers for it",
                    mend="name its owner in a table [provider.…]",
                )
                yield _Single(finding, audience)


def _pairs(rulebook: Rulebook, since: Rulebook | None, *, allowed: bool) -> Iterator[Finding]:
    """Two components that one process on one node matches, or that only facts about the program tell apart.

    In the second case, the user of both can run either program.
    """
    components = {one.name: one for one in rulebook.active()}
    if allowed and not any(one.allow for one in components.values()):
        return
    before = {} if since is None else {one.name: one for one in since.active()}
    places = Places(components.values(), before.values())
    pairs, guards = Pairs(components.values(), places), _Guards(components.values(), places)
    pairs_before, guards_before = Pairs(before.values(), places), _Guards(before.values(), places)
    for component in components.values():
        found = guards.split(component, pairs.like(component.name), allowed=allowed)
        if not any(found):
            continue
        known = Like(0, 0)
        if component.name in before:
            was = before[component.name]
            known = guards_before.split(was, pairs_before.like(was.name), allowed=True)
        for guard, bits, old in zip((Guard.OVERLAP, Guard.SHARED_USER), found, known, strict=True):
            for part, is_new in ((bits & ~old, since is not None), (bits & old, False)):
                some = [components[name] for name in islice(places.names(part), MOST_LISTED)]
                yield from _cut(
                    [_finding(guard, component, other, pairs) for other in some],
                    is_new=is_new,
                    more=part.bit_count() - len(some),
                )


class _Guards:
    """Which components allow what is found of pairs, as bits."""

    def __init__(self, components: Iterable[Component], places: Places) -> None:
        self._allow = {
            guard: places.tops(one.name for one in components if guard in one.allow)
            for guard in (Guard.OVERLAP, Guard.SHARED_USER)
        }

    def split(self, component: Component, like: Like, *, allowed: bool) -> Like:
        """Those of a component's pairs that both allow, or the others."""
        found = []
        for guard, bits in zip(self._allow, like, strict=True):
            both = bits & self._allow[guard] if guard in component.allow else 0
            found.append(both if allowed else bits ^ both)
        return Like(*found)


def _finding(guard: Guard, one: Component, other: Component, pairs: Pairs) -> Finding:
    is_overlap = guard is Guard.OVERLAP
    shown = pairs.shown(one.name, other.name, overlap=is_overlap)
    if is_overlap:
        problem = f"a process can be {one.name} and {other.name} at once"
        mend = "add a selector in which they differ, such as unix:uid"
    else:
        problem = f"{other.name} has {shown.user} too: whoever runs as that user can be either of them"
        mend = "give each a uid of its own"
    return Finding(
        guard=guard,
        components=(one, other),
        selectors=shown.selectors,
        nodes=_both(one.nodes, other.nodes),
        problem=problem,
        mend=mend,
    )


def _both(one: Nodes, other: Nodes) -> tuple[Nodes, ...]:
    """What a node is that both name."""
    if one.path or other.path:
        return tuple(dict.fromkeys(each for each in (one, other) if not each.is_any))
    return (Nodes(selectors=one.selectors | other.selectors),)
