"""The declared graph: who may call whom, and which audiences outside each component reaches. As lines, or in the DOT language."""

from collections.abc import Iterator

from cognomen.protocol.printable import unmistakable
from cognomen.rulebook.rules import Component, Rulebook
from cognomen.rulebook.tables import ComponentKind

__all__ = ["as_dot", "as_lines"]

_SHAPES = {
    ComponentKind.ORCHESTRATOR: "hexagon",
    ComponentKind.REASONING: "ellipse",
    ComponentKind.CONNECTOR: "box",
    ComponentKind.OTHER: "plain",
}


def as_lines(rulebook: Rulebook) -> Iterator[str]:
    """One line for each component: `concierge/orchestrator → concierge/crm, concierge/reasoning`."""
    for component in rulebook.components():
        reached = [*map(str, sorted(component.may_call)), *map(unmistakable, _outside(rulebook, component))]
        yield f"{component.name} → {', '.join(reached)}" if reached else f"{component.name} → nothing"


def as_dot(rulebook: Rulebook) -> Iterator[str]:
    """The lines of a directed graph with a cluster for each agent, for Graphviz."""
    yield "digraph rulebook {"
    yield "  rankdir = LR;"
    for number, agent in enumerate(rulebook.agents.values()):
        yield f"  subgraph cluster_{number} {{"
        yield f"    label = {_quoted(f'{agent.name} ({agent.state}), {agent.owner}')};"
        for component in agent.components.values():
            yield f"    {_quoted(str(component.name))} [shape = {_SHAPES[component.kind]}];"
        yield "  }"
    outside = {one for component in rulebook.components() for one in rulebook.external_audiences(component)}
    for audience in sorted(outside):
        yield f"  {_quoted(audience)} [shape = note];"
    for component in rulebook.components():
        for callee in sorted(component.may_call):
            yield f"  {_quoted(str(component.name))} -> {_quoted(str(callee))};"
        for audience in _outside(rulebook, component):
            yield f"  {_quoted(str(component.name))} -> {_quoted(audience)};"
    yield "}"


def _outside(rulebook: Rulebook, component: Component) -> list[str]:
    return sorted(rulebook.external_audiences(component))


def _quoted(text: str) -> str:
    escaped = unmistakable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
