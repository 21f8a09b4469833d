"""Which components a process is by a rulebook, and why it is not another one: for tests, and for questions before anything is applied.

The matching itself is the attestor's (`matching`, `nearness`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cognomen.protocol.entry import EntryID
from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import fact_with_one_value
from cognomen.rulebook.compiling import entries_of, parent_of
from cognomen.rulebook.matching import Index
from cognomen.rulebook.nearness import nearest
from cognomen.rulebook.rules import Component, ComponentName, Nodes, Rulebook
from cognomen.rulebook.tables import AgentState
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["Engine", "Miss", "Shown"]

_SOME_DOMAIN = TrustDomain("example.org")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a process shows, and what the node on which it runs shows.

    Args:
        node_path: the path of the node's SPIFFE ID; empty: it does not matter.
        knows_node: whether `node` is all that it shows; if not, it may show any other selector.
    """

    selectors: frozenset[Selector]
    node: frozenset[Selector] = frozenset()
    node_path: str = ""
    knows_node: bool = True

    def is_on(self, nodes: Nodes) -> bool:
        """Whether the node is one of these."""
        return nodes.path == self.node_path if nodes.path else not self.node_lacks(nodes)

    def node_lacks(self, nodes: Nodes) -> frozenset[Selector]:
        """The selectors of these nodes that this one certainly lacks."""
        if self.knows_node:
            return nodes.selectors - self.node
        known = {fact_with_one_value(one) for one in self.node} - {""}
        return frozenset(one for one in nodes.selectors - self.node if fact_with_one_value(one) in known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A component that a process is not.

    Args:
        lacks: the selectors that the process lacks.
        has_any: whether it has any of the others.
        node_lacks: those that the node lacks; for a component on one node, none: it is another node.
        state: of its agent; one that is not active has no identities.
    """

    component: Component
    lacks: tuple[Selector, ...]
    has_any: bool
    node_lacks: tuple[Selector, ...]
    is_other_node: bool
    state: AgentState


class Engine:
    """Finds components. It is made once for many questions."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._components: dict[EntryID, Component] = {}
        self._nodes: dict[SpiffeID, Nodes] = {}
        self._indexes: dict[SpiffeID, Index] = {}
        self._states = {name: agent.state for name, agent in rulebook.agents.items()}
        for component in rulebook.components():
            parent = parent_of(component.nodes, _SOME_DOMAIN)
            self._nodes[parent] = component.nodes
            index = self._indexes.setdefault(parent, Index())
            for number, entry in enumerate(entries_of(rulebook, component, _SOME_DOMAIN)):
                entry_id = EntryID(f"{component.name.agent}.{component.name.component}.{number}")
                self._components[entry_id] = component
                index.add(replace(entry, id=entry_id))

    def match(self, shown: Shown) -> Sequence[Component]:
        """The components that it is, by name."""
        found = {
            self._components[entry.id].name: self._components[entry.id]
            for parent, nodes in self._nodes.items()
            if shown.is_on(nodes)
            for entry in self._indexes[parent].match(shown.selectors)
            if self._state_of(entry.id) is AgentState.ACTIVE
        }
        return [found[name] for name in sorted(found)]

    def misses(self, shown: Shown, *, limit: int) -> Sequence[Miss]:
        """The components that it nearly is, the nearest first."""
        matched = {one.name for one in self.match(shown)}
        found: dict[ComponentName, Miss] = {}
        for parent, nodes in self._nodes.items():
            index = self._indexes[parent]
            node_lacks = tuple(sorted(shown.node_lacks(nodes)))
            is_other_node = not shown.is_on(nodes) and not node_lacks
            near = [(one.entry, one.lacks) for one in nearest(index.all(), shown.selectors, limit=limit)]
            for entry, lacks in [*((entry, ()) for entry in index.match(shown.selectors)), *near]:
                component = self._components[entry.id]
                miss = Miss(
                    component=component,
                    lacks=lacks,
                    has_any=len(lacks) < len(entry.selectors),
                    node_lacks=node_lacks,
                    is_other_node=is_other_node,
                    state=self._state_of(entry.id),
                )
                known = found.get(component.name)
                if component.name not in matched and (known is None or _distance(miss) < _distance(known)):
                    found[component.name] = miss
        return sorted(found.values(), key=_distance)[:limit]

    def _state_of(self, entry_id: EntryID) -> AgentState:
        return self._states[self._components[entry_id].name.agent]


def _distance(miss: Miss) -> tuple[bool, int, ComponentName]:
    """The state of its agent does not count: that is one word to change."""
    return not miss.has_any, len(miss.lacks) + len(miss.node_lacks) + miss.is_other_node, miss.component.name
