"""The declared graph as a picture: a box for each component and each audience outside, in columns from callers to callees."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.printable import printable
from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.tables import AgentState, ComponentKind

__all__ = ["MOST_BOXES", "as_svg"]

MOST_BOXES = 200
"""How many components and audiences a picture shows: more of them nobody can read."""

_CHARACTER, _HEIGHT, _PADDING = 7.3, 26, 10  # of a monospace font of 12 px
_ROW, _BETWEEN, _MARGIN = 40, 110, 20
_LONGEST = 60  # characters of a label
_FILLS: Mapping[ComponentKind | None, str] = {
    ComponentKind.ORCHESTRATOR: "#dbeafe",
    ComponentKind.REASONING: "#ede9fe",
    ComponentKind.CONNECTOR: "#dcfce7",
    ComponentKind.OTHER: "#f3f4f6",
    None: "#fef9c3",  # an audience outside
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    label: str
    told: str
    kind: ComponentKind | None
    is_active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        return self.y + _HEIGHT / 2


def as_svg(rulebook: Rulebook) -> Iterator[str]:
    """The lines of an SVG document.

    Raises:
        Refused: INVALID when there are more than MOST_BOXES boxes.
    """
    nodes, edges = _graph(rulebook)
    if len(nodes) > MOST_BOXES:
        raise Refused(
            Kind.INVALID,
            f"graph: expected at most {MOST_BOXES} components and audiences for a picture, found {len(nodes)}",
            hint="draw it with Graphviz: --format dot",
        )
    boxes = _placed(nodes, _columns(nodes, edges))
    width = max((box.x + box.width for box in boxes.values()), default=0) + _MARGIN
    height = max((box.y for box in boxes.values()), default=0) + _HEIGHT + _MARGIN
    counts = {
        "agent": len(rulebook.agents),
        "component": sum(1 for _ in rulebook.components()),
        "declared call": len(edges),
    }
    told = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items())
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
        ' role="img" aria-labelledby="title desc" font-family="monospace" font-size="12">'
    )
    yield f'<title id="title">Who may call whom</title><desc id="desc">{told}</desc>'
    yield '<rect width="100%" height="100%" fill="white"/>'
    yield '<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    yield '<path d="M0,0 L8,4 L0,8 z" fill="#6b7280"/></marker></defs>'
    for caller, callee in edges:
        yield f'<path d="{_line(boxes[caller], boxes[callee])}" fill="none" stroke="#6b7280" marker-end="url(#end)"/>'
    for name, node in nodes.items():
        box = boxes[name]
        dashes = "" if node.is_active else ' stroke-dasharray="4 3"'
        yield f"<g><title>{escape(node.told)}</title>"
        yield (
            f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{_HEIGHT}" rx="5" fill="{_FILLS[node.kind]}"'
            f' stroke="#374151"{dashes}/>'
        )
        yield f'<text x="{box.x + _PADDING:.1f}" y="{box.middle + 4:.1f}">{escape(node.label)}</text></g>'
    yield "</svg>"


def _graph(rulebook: Rulebook) -> tuple[dict[str, _Node], list[tuple[str, str]]]:
    nodes: dict[str, _Node] = {}
    edges: list[tuple[str, str]] = []
    for agent in rulebook.agents.values():
        for component in agent.components.values():
            nodes[f"/{component.name}"] = _Node(
                label=_short(str(component.name)),
                told=printable(f"{component.name}: {component.kind} of {agent.owner}, {agent.state}"),
                kind=component.kind,
                is_active=agent.state is AgentState.ACTIVE,
            )
    for component in rulebook.components():
        edges += [(f"/{component.name}", f"/{callee}") for callee in sorted(component.may_call)]
        for audience in sorted(rulebook.external_audiences(component)):
            nodes.setdefault(f"={audience}", _Node(label=_short(audience), told=printable(audience), kind=None))
            edges.append((f"/{component.name}", f"={audience}"))
    return nodes, edges


def _columns(nodes: Mapping[str, _Node], edges: Sequence[tuple[str, str]]) -> Mapping[str, int]:
    """In which column each is: a caller before those that it calls, as far as there is no circle; audiences in the last one."""
    callees: dict[str, list[str]] = {name: [] for name in nodes}
    called = set()
    for caller, callee in edges:
        callees[caller].append(callee)
        called.add(callee)
    found: dict[str, int] = {}
    roots = [name for name in nodes if name not in called]
    for start in [*roots, *nodes]:  # who is only in a circle comes after them
        if start in found:
            continue
        found[start] = 0
        line = [start]
        for name in line:  # grows meanwhile
            for callee in callees[name]:
                if callee not in found:
                    found[callee] = found[name] + 1
                    line.append(callee)
    last = max((column for name, column in found.items() if nodes[name].kind is not None), default=-1) + 1
    return {name: last if nodes[name].kind is None else column for name, column in found.items()}


def _placed(nodes: Mapping[str, _Node], columns: Mapping[str, int]) -> Mapping[str, _Box]:
    boxes: dict[str, _Box] = {}
    x = float(_MARGIN)
    for column in range(max(columns.values(), default=-1) + 1):
        here = [name for name in nodes if columns[name] == column]
        width = max((_cells(nodes[name].label) for name in here), default=0) * _CHARACTER + 2 * _PADDING
        for row, name in enumerate(here):
            boxes[name] = _Box(x=x, y=_MARGIN + row * _ROW, width=width)
        x += width + _BETWEEN
    return boxes


def _line(caller: _Box, callee: _Box) -> str:
    """From the right side of a caller to the left side of whom it calls; backwards, around on the right side of both."""
    x, y = caller.x + caller.width, caller.middle
    if callee.x > caller.x:
        far = callee.x - 1
        bend = (far - x) / 2
        return f"M{x:.1f},{y:.1f} C{x + bend:.1f},{y:.1f} {far - bend:.1f},{callee.middle:.1f} {far:.1f},{callee.middle:.1f}"
    far = callee.x + callee.width + 1
    bend = max(x, far) + _BETWEEN / 2
    return f"M{x:.1f},{y:.1f} C{bend:.1f},{y:.1f} {bend:.1f},{callee.middle + 6:.1f} {far:.1f},{callee.middle + 6:.1f}"


def _cells(text: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(one) in "WF") for one in text)


def _short(text: str) -> str:
    text = printable(text, most=_LONGEST)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
