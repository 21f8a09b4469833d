"""Where the keys of a TOML document stand: tomllib says what a document means, and forgets the lines.

The document is valid: tomllib has read it. So values are only skipped here, and nothing is checked again.

Source: TOML 1.0.0
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

__all__ = ["Path", "line_of", "lines"]

Path: TypeAlias = tuple[str | int, ...]
"""The names of the tables around a key and its own; the tables of an array have numbers, from 0."""

_TOKEN = re.compile(
    r"""
    (?P<skipped>[ \t\r]+ | \#[^\n]*)
    | (?P<newline>\n)
    | (?P<quoted>
        \"\"\"[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*\"{3,5} | '''.*?'{3,5}
        | "[^"\\\n]*(?:\\.[^"\\\n]*)*" | '[^'\n]*'
      )
    | (?P<mark>[\[\]{}=,.])
    | (?P<bare>[^\s"'\[\]{}=,.\#]+)
    """,
    re.VERBOSE | re.DOTALL,
)


_MOST_NAMES = 32
"""Of a key; ours have a few, and what is below has the line of what is above it."""


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


def _tokens(document: str) -> Iterator[_Token]:
    line = 1
    for found in _TOKEN.finditer(document):
        kind = found.lastgroup or ""
        if kind != "skipped":
            yield _Token(kind, found[0], line)
        line += found[0].count("\n")


def lines(document: str) -> Mapping[Path, int]:
    """The line of each table and each key, from 1. Keys within inline tables and arrays have none of their own."""
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    tokens = _tokens(document)
    for first in tokens:
        if first.kind == "newline":
            continue
        if first.text == "[":
            second = next(tokens)
            is_array = second.text == "["
            names = _names(next(tokens) if is_array else second, tokens, end="]")
            if is_array:
                next(tokens)  # the second bracket
            table = _resolved(names[:-1], counts)
            if is_array:
                counts[(*table, names[-1])] = number = counts.get((*table, names[-1]), -1) + 1
                table = (*table, names[-1], number)
            else:
                table = (*table, names[-1])
            for length in range(1, len(table) + 1):  # the tables around it may have no line of their own
                found.setdefault(table[:length], first.line)
        else:
            found[(*table, *_names(first, tokens, end="="))] = first.line
            _skip_value(tokens)
    return found


def _names(first: _Token, tokens: Iterator[_Token], *, end: str) -> list[str]:
    """The names of a dotted key, up to the mark that ends it."""
    names = []
    token = first
    while token.text != end or token.kind != "mark":
        if token.kind == "quoted":
            names.append(str(tomllib.loads(f"x = {token.text}")["x"]))
        elif token.kind == "bare":
            names.append(token.text)
        token = next(tokens)
    return names[:_MOST_NAMES]


def _resolved(names: list[str], counts: Mapping[Path, int]) -> Path:
    """The tables around a header; of an array, the last one so far."""
    path: Path = ()
    for name in names:
        path = (*path, name)
        if path in counts:
            path = (*path, counts[path])
    return path


def _skip_value(tokens: Iterator[_Token]) -> None:
    depth = 0
    for token in tokens:
        if token.kind == "newline" and not depth:
            return
        if token.kind == "mark":
            depth += (token.text in "[{") - (token.text in "]}")


def line_of(path: Path, known: Mapping[Path, int]) -> int:
    """The line of a key, or of the nearest thing around it that has one; 1 for the document itself."""
    while path and path not in known:
        path = path[:-1]
    return known.get(path, 1)
