"""The page of the SDK: groups of public names, each with an example of docs/reference/examples; each name with signature and docstring."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType

import svid

__all__ = ["groups", "sdk_page"]

_EXAMPLES = Path(__file__).resolve().parent / "examples"
_WIDTH = 100
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Shape|Source|Units): *(.*)")
_ITEM = re.compile(r" {4}(\w[\w, ]*): (.*)")
_PRIVATE = re.compile(r"=_\w+$")  # a default that only we can name
_FOR_US = {"renew"}  # what sources and clients do after a fork
_INTRODUCTION = """\
What `from svid import …` offers. [How to install it, and what it does in each framework](../how-to/protect-a-service.md).
Where a name is not here, it is not public and may change. A test runs each example, with `SPIFFE_ENDPOINT_SOCKET` set and the
identity `spiffe://example.org/web`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Some public names, and the example that shows them."""

    title: str
    text: str
    names: tuple[str, ...]
    code: str


def groups() -> list[Group]:
    """All groups, in the order of the page."""
    return [_group(path.read_text()) for path in sorted(_EXAMPLES.glob("*.py"))]


def _group(source: str) -> Group:
    title, *text, names = (ast.get_docstring(ast.parse(source)) or "").split("\n\n")
    listed = tuple(name.strip() for name in names.removeprefix("Names:").split(","))
    code = source.split('"""\n', 1)[1].strip()
    return Group(title=title.rstrip("."), text="\n\n".join(text), names=listed, code=code)


def sdk_page(made: str) -> str:
    """Write the page; `made` is its first line, which says by what it was made."""
    parts = [made, "# The SDK\n", _INTRODUCTION]
    for group in groups():
        parts += [
            f"\n## {group.title}\n",
            *([f"{group.text}\n"] if group.text else []),
            f"```python\n{group.code}\n```",
        ]
        for name in group.names:
            parts += [f"\n### `{name}`\n", *_described(name)]
    return "\n".join(parts) + "\n"


def _described(name: str) -> Iterator[str]:
    """The signature, the docstring, and the methods of a class."""
    item: object = getattr(svid, name)
    yield f"```python\n{_signature(item)}\n```\n"
    yield _markdown(inspect.getdoc(item) or "")
    if isinstance(item, type):
        methods = list(_methods(item))
        if methods:
            yield "\n| | |\n|---|---|\n" + "\n".join(methods)


def _tree(item: object) -> ast.stmt:
    return ast.parse(textwrap.dedent(inspect.getsource(item))).body[0]  # type: ignore[arg-type]  # a class or function


def _signature(item: object) -> str:
    node = _tree(item)
    if isinstance(node, ast.ClassDef):
        bases = "".join(f"({ast.unparse(base)})" for base in node.bases[:1] if issubclass(item, Exception | str))  # type: ignore[arg-type]  # a class
        return f"class {node.name}{bases or _call(_parameters(node))}"
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        raise TypeError(f"{item}: expected a class or a function")
    before = "".join(f"@{ast.unparse(one).rpartition('.')[2]}\n" for one in node.decorator_list)
    return f"{before}{_head(node)}{_call(_arguments(node.args))} -> {ast.unparse(node.returns or ast.Constant(None))}"


def _head(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    return f"{'async ' if isinstance(node, ast.AsyncFunctionDef) else ''}def {node.name}"


def _parameters(node: ast.ClassDef) -> list[str]:
    """What the constructor takes: the arguments of `__init__`, or the fields of a dataclass."""
    for one in node.body:
        if isinstance(one, ast.FunctionDef) and one.name == "__init__":
            return _arguments(one.args)[1:]
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    shown = [f"{ast.unparse(one.target)}: {ast.unparse(one.annotation)}" for one in fields]
    public = [one for one in shown if not one.startswith("_")]
    is_by_name = any("kw_only=True" in ast.unparse(one) for one in node.decorator_list)
    return ["*", *public] if is_by_name and public else public


def _arguments(arguments: ast.arguments) -> list[str]:
    """Each argument as it is written, without the ones that only tests give."""
    annotated = ast.FunctionDef(name="f", args=arguments, body=[ast.Pass()], decorator_list=[], returns=None)
    text = ast.unparse(ast.fix_missing_locations(annotated)).partition("(")[2].rpartition("):")[0]
    return [_PRIVATE.sub(" = …", one) for one in _split(text) if not one.startswith("clock:")]


def _split(text: str) -> list[str]:
    """Split at the commas that are not inside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _call(arguments: list[str]) -> str:
    line = f"({', '.join(arguments)})"
    return line if len(line) <= _WIDTH else "(\n" + "".join(f"    {one},\n" for one in arguments) + ")"


def _methods(item: type) -> Iterator[str]:
    """A row for each public method and property; what belongs to the language or to another library is left out."""
    seen: set[str] = set()
    for owner in item.__mro__:
        if not owner.__module__.startswith("svid."):
            continue
        for name, value in vars(owner).items():
            if name.startswith("_") or name in seen | _FOR_US:
                continue
            seen.add(name)
            if isinstance(value, property):
                yield f"| `{name}` | {_line(inspect.getdoc(value) or '')} |"
            elif inspect.isfunction(function := value.__func__ if isinstance(value, classmethod) else value):
                yield f"| `{name}({_names(function)})` | {_line(inspect.getdoc(function) or '')} |"


def _names(method: FunctionType) -> str:
    """The arguments of a method without their types."""
    arguments = _arguments(_tree(method).args)[1:]  # type: ignore[attr-defined]  # a function's
    return ", ".join(one.partition(":")[0] for one in arguments)


def _line(doc: str) -> str:
    return " ".join(doc.partition("\n\n")[0].split()).replace("|", "\\|")


def _markdown(doc: str) -> str:
    """A docstring as Markdown: its sections become lists."""
    lines: list[str] = []
    for line in doc.splitlines():
        if section := _SECTION.fullmatch(line):
            lines.append(f"**{section[1]}:** {section[2]}".rstrip() + ("" if section[2] else "\n"))
        elif item := _ITEM.fullmatch(line):
            lines.append(f"- `{item[1]}`: {item[2]}")
        else:
            lines.append(line.strip() if line.startswith(" " * 8) else line)
    return "\n".join(lines)
