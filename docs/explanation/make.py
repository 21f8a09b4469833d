"""Write the pages of docs/explanation that are drawn from the code: `python docs/explanation/make.py [FOLDER]`.

house.md is drawn from the imports. An arrow means an import. An arrow that follows from others is left out: if A imports B and B imports C,
A may import C as well. authorities.md and nodes.md are drawn from the tables in which the code looks up its steps
(issuer/decisions/transition).
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import grimp

from issuer.decisions.admission import NODE_LIFE
from issuer.decisions.authoritylife import AUTHORITY_LIFE
from issuer.decisions.transition import Life

__all__ = ["main", "write_pages"]

_HERE = Path(__file__).resolve().parent
_MADE = "<!-- made by docs/explanation/make.py (make reference) -->"
_PACKAGES = ("cognomen", "issuer", "attestor", "svid")
_SHARED = "cognomen"
_HOUSE = """# The house

This picture is drawn from the imports. An arrow goes from a package to one that it imports. If A imports B
and B imports C, the arrow from A to C is left out. `[tool.importlinter]` in
[pyproject.toml](../../pyproject.toml) says which imports are allowed, and `make contracts` checks it. The
first lines of each package and module say what it is for.
"""

_AUTHORITIES = """# The life of an authority

An authority is a key that signs. The bundle holds it while it is next, active or old. Each kind
(X.509 and JWT) has one active authority and, as a rule, one that is next. Nothing leaves the state
`retired`.

Drawn from `AUTHORITY_LIFE` in
[issuer/decisions/authoritylife.py](../../issuer/decisions/authoritylife.py). The code looks up each
step there before it takes it. When a step is due:
[issuer/decisions/rotation.py](../../issuer/decisions/rotation.py). What an operator may do:
[Rotate an authority](../how-to/rotate-an-authority.md).
"""
_NODES = """# The life of a node

A node is a machine that attested. The store has a row for it until an operator removes it. A ban
lasts as long as the row: only `cognomen node unban` ends it, and forgets the node. A banned node
cannot come back as this node. If its machine joins by token, a new invite lets it in as a new node;
if it proves an identity of its own, it gets the same id, so it is kept out.

Drawn from `NODE_LIFE` in [issuer/decisions/admission.py](../../issuer/decisions/admission.py). The
code looks up the steps *given an SVID*, *confirmed* and *banned* there before it takes them. A new
SVID of a node is pending until the node uses it, and is its current one from then on. What an
operator may do: [Add a node](../how-to/add-a-node.md), [Revoke](../how-to/revoke.md).

`cognomen node list` also shows `lost`, which is not stored: an active node is lost while its last SVID
has expired and it is not connected.
"""

Arrows = Mapping[str, frozenset[str]]
State = TypeVar("State", bound=StrEnum)


def write_pages(folder: Path) -> None:
    """Write the pages into that folder."""
    (folder / "house.md").write_text(_house())
    (folder / "authorities.md").write_text(_life(_AUTHORITIES, AUTHORITY_LIFE))
    (folder / "nodes.md").write_text(_life(_NODES, NODE_LIFE))


def _life(text: str, life: Life[State]) -> str:
    """Write the page of a table: the diagram, then a row for each step."""
    drawn, rows = ["```mermaid", "stateDiagram-v2"], ["\n| from | step | to | when |", "|---|---|---|---|"]
    for one in life.transitions:
        drawn.append(f"    {one.before or '[*]'} --> {one.after or '[*]'}: {one.step}")
        rows.append(f"| {one.before or 'no row'} | {one.step} | {one.after or 'no row'} | {one.when} |")
    return "\n".join([_MADE, text, *drawn, "```", *rows]) + "\n"


def _house() -> str:
    graph = grimp.build_graph(*_PACKAGES, cache_dir=None)
    imports = [(one, other) for one in graph.modules for other in graph.find_modules_directly_imported_by(one)]
    parts = [_MADE, _HOUSE, "## All of it\n", _drawn(_arrows(imports, _wing))]
    for package in _PACKAGES[1:]:
        inside = [
            (one, other)
            for one, other in imports
            if _root(one) == _root(other) == package and package not in {one, other}
        ]
        parts += [f"\n## `{package}`\n", _drawn(_arrows(inside, _room))]
    return "\n".join(parts) + "\n"


def _root(module: str) -> str:
    return module.partition(".")[0]


def _room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _wing(module: str) -> str:
    return _room(module) if _root(module) == _SHARED else _root(module)


def _arrows(imports: Iterable[tuple[str, str]], name: Callable[[str], str]) -> Arrows:
    arrows: dict[str, set[str]] = {}
    for one, other in imports:
        arrows.setdefault(name(one), set()).update({name(other)} - {name(one)})
        arrows.setdefault(name(other), set())
    return {one: frozenset(others) for one, others in arrows.items()}


def _drawn(arrows: Arrows) -> str:
    """Write a diagram, without the arrows that follow from others.

    Shape: Mermaid's flowchart, in a fenced block.
    """
    lines = ["```mermaid", "flowchart TD"]
    for one in sorted(arrows):
        lines.append(f'    {_id(one)}["{one}"]')
        following = {other for between in arrows[one] for other in _below(arrows, between)}
        lines += [f"    {_id(one)} --> {_id(other)}" for other in sorted(arrows[one] - following)]
    return "\n".join([*lines, "```"])


def _below(arrows: Arrows, one: str) -> frozenset[str]:
    found: set[str] = set()
    left = [one]
    while left:
        new = arrows[left.pop()] - found
        found |= new
        left += new
    return frozenset(found)


def _id(name: str) -> str:
    return name.replace(".", "_")


def main(arguments: list[str]) -> int:
    """Write the page into the given folder, or where it belongs."""
    write_pages(Path(arguments[0]) if arguments else _HERE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
