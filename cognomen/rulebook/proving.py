"""What can be proved of a rulebook: what is usually a mistake, each time with the selectors that show it.

A finding is certain: a process that shows these selectors, on a node that shows those, is what it says. A component that allows the guard
(`tables.Guard`) has no such finding; of two components, both must allow it. What is allowed is listed by `loosened`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cognomen.protocol.selector import Selector
from cognomen.rulebook.exclusion import Facts, compatible_pairs, excludes, facts_of
from cognomen.rulebook.rules import Component, Nodes, Rulebook
from cognomen.rulebook.tables import ComponentKind, Guard

__all__ = ["Finding", "loosened", "prove"]

_USER_FACTS = ("unix:uid", "unix:user")
_ONE_NODE = "node"  # as a fact: a node has one path


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that holds for these rules.

    Args:
        components: the one that the finding is about first.
        selectors: what a process shows for which it holds; empty: it does not depend on a process.
        nodes: the node on which it runs.
        problem: in words.
        mend: what to change.
    """

    guard: Guard
    components: tuple[Component, ...]
    selectors: frozenset[Selector] = frozenset()
    nodes: tuple[Nodes, ...] = ()
    problem: str
    mend: str

    @property
    def is_allowed(self) -> bool:
        """Whether all its components allow it."""
        return all(self.guard in one.allow for one in self.components)


class _Proof(NamedTuple):
    component: Component
    selectors: frozenset[Selector]
    facts: Facts


def prove(rulebook: Rulebook) -> Iterator[Finding]:
    """Yield every finding that is not allowed, about components of active agents."""
    yield from (one for one in _all(rulebook) if not one.is_allowed)


def loosened(rulebook: Rulebook) -> Iterator[Finding]:
    """Yield every finding that its components allow."""
    yield from (one for one in _all(rulebook) if one.is_allowed)


def _all(rulebook: Rulebook) -> Iterator[Finding]:
    for component in rulebook.active():
        yield from _of_kind(rulebook, component)
        yield from _any_user(component)
    yield from _shared_audiences(rulebook)
    proofs = list(_proofs(rulebook))
    yield from _overlaps(proofs)
    yield from _shared_users(proofs)


def _proofs(rulebook: Rulebook) -> Iterator[_Proof]:
    for component in rulebook.active():
        nodes = component.nodes
        place = {_ONE_NODE: nodes.path} if nodes.path else facts_of(nodes.selectors)
        for selectors in component.proofs:
            yield _Proof(component, selectors, {**facts_of(selectors), **place})


def _of_kind(rulebook: Rulebook, component: Component) -> Iterator[Finding]:
    if component.kind is ComponentKind.REASONING and component.audiences:
        yield Finding(
            guard=Guard.EXTERNAL_AUDIENCE,
            components=(component,),
            problem=f"a reasoning component reaches {', '.join(sorted(component.audiences))}, which is not its model",
            mend="give that audience to a connector, and let the reasoning component call the connector",
        )
    for name in component.may_call:
        callee = rulebook.component(name)
        if callee is None or callee.kind is not ComponentKind.ORCHESTRATOR or name.agent == component.name.agent:
            continue
        yield Finding(
            guard=Guard.FOREIGN_ORCHESTRATOR,
            components=(component,),
            problem=f"it may call {name}, the orchestrator of another agent",
            mend="call a connector of that agent",
        )


def _any_user(component: Component) -> Iterator[Finding]:
    for selectors in component.proofs:
        is_unix = all(one.type == "unix" for one in selectors)
        if is_unix and not facts_of(selectors).keys() & set(_USER_FACTS):
            yield Finding(
                guard=Guard.ANY_USER,
                components=(component,),
                selectors=selectors,
                nodes=(component.nodes,),
                problem="every user of the node can show these selectors",
                mend="add unix:uid",
            )


def _shared_audiences(rulebook: Rulebook) -> Iterator[Finding]:
    owned = {one.audience for one in rulebook.providers.values() if one.owner}
    first: dict[str, Component] = {}
    for component in rulebook.active():
        for audience in sorted(rulebook.external_audiences(component) - owned):
            other = first.setdefault(audience, component)
            owners = {rulebook.agents[one.name.agent].owner for one in (other, component)}
            if len(owners) > 1:
                yield Finding(
                    guard=Guard.SHARED_AUDIENCE,
                    components=(component, other),
                    problem=f"{' and '.join(sorted(owners))} both use {audience}, and nobody answers for it",
                    mend="name its owner in a table [provider.…]",
                )


def _overlaps(proofs: Sequence[_Proof]) -> Iterator[Finding]:
    """Two components that one process on one node matches."""
    told: set[tuple[Component, Component]] = set()
    for first, second in compatible_pairs([one.facts for one in proofs]):
        one, other = proofs[first], proofs[second]
        if one.component is other.component or (one.component, other.component) in told:
            continue
        told.add((one.component, other.component))
        yield Finding(
            guard=Guard.OVERLAP,
            components=(one.component, other.component),
            selectors=one.selectors | other.selectors,
            nodes=_both(one.component.nodes, other.component.nodes),
            problem=f"a process can be {one.component.name} and {other.component.name} at once",
            mend="add a selector in which they differ, such as unix:uid",
        )


def _shared_users(proofs: Sequence[_Proof]) -> Iterator[Finding]:
    """Two components of one user of one node, which only facts about the program tell apart: that user can run either program."""
    by_user: defaultdict[tuple[str, str], list[_Proof]] = defaultdict(list)
    for one in proofs:
        for fact in _USER_FACTS:
            if fact in one.facts:
                by_user[fact, one.facts[fact]].append(one)
    told: set[tuple[Component, Component]] = set()
    for (_, user), sharing in by_user.items():
        for first, second in _pairs_of_places(sharing):
            one, other = sharing[first], sharing[second]
            pair = (one.component, other.component)
            if one.component is other.component or pair in told or not excludes(one.facts, other.facts):
                continue
            told.add(pair)
            yield Finding(
                guard=Guard.SHARED_USER,
                components=pair,
                selectors=one.selectors,
                nodes=_both(one.component.nodes, other.component.nodes),
                problem=f"{other.component.name} has {user} too: whoever runs as that user can be either of them",
                mend="give each a uid of its own",
            )


def _pairs_of_places(proofs: Sequence[_Proof]) -> Iterator[tuple[int, int]]:
    """Pairs that can be on one node."""
    places: list[Facts] = []
    for one in proofs:
        nodes = one.component.nodes
        places.append({_ONE_NODE: nodes.path} if nodes.path else facts_of(nodes.selectors))
    return compatible_pairs(places)


def _both(one: Nodes, other: Nodes) -> tuple[Nodes, ...]:
    """What a node is that both name."""
    if one.path or other.path:
        return tuple(dict.fromkeys(each for each in (one, other) if not each.is_any))
    return (Nodes(selectors=one.selectors | other.selectors),)
