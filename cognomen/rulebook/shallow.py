"""Refuse a document that is nested deeper than any rulebook, before tomllib reads it.

tomllib needs time that grows as the square of the number of names in one dotted key, and a level of Python's stack for each array within
an array. With both limited, its time is linear in the length of the document.

Only strings, comments and marks are told apart here. Up to the first error in a document, that is what tomllib does; and it reads nothing
after that.

Source: TOML 1.0.0
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["MOST_DEEP", "MOST_DOTS", "Deep", "too_deep"]

MOST_DOTS = 8
"""How many dots a key or the header of a table may have; ours have at most four."""

MOST_DEEP = 64
"""How many arrays and inline tables may be within each other; ours have at most two."""

_MARK = re.compile(r"""\"{3}|'{3}|["']|\#[^\n]*|[.,=\[\]{}\n]""")
_ENDS = {
    '"""': re.compile(r'\\.|"{3,5}', re.DOTALL),
    "'''": re.compile("'{3,5}"),
    '"': re.compile(r'\\[^\n]|["\n]'),
    "'": re.compile("['\n]"),
}
"""What ends a string, by what begins it, or escapes its end; no string of one line goes on in the next."""


class Deep(NamedTuple):
    """Where a document is too deep, and what mends it.

    Args:
        line: from 1.
    """

    line: int
    problem: str
    mend: str


def too_deep(document: str) -> Deep | None:
    """The first place that is too deep; None: there is none."""
    dots = depth = 0
    for mark, place in _marks(document):
        match mark:
            case ".":
                dots += 1
                if dots > MOST_DOTS:
                    problem = f"expected a key with at most {MOST_DOTS} dots, found more"
                    return Deep(_line(document, place), problem, "write tables within each other, or quote the name")
            case "[" | "{":  # a header is no array, but is closed in its own line
                dots, depth = 0, depth + 1
                if depth > MOST_DEEP:
                    problem = f"expected at most {MOST_DEEP} arrays and tables within each other, found more"
                    return Deep(_line(document, place), problem, "close what is open above it")
            case "]" | "}":
                dots, depth = 0, max(0, depth - 1)
            case "," | "=" | "\n":
                dots = 0
    return None


def _marks(document: str) -> Iterator[tuple[str, int]]:
    """What is outside of strings, and the beginnings of strings and comments; and where each is."""
    place = 0
    while found := _MARK.search(document, place):
        yield found[0], found.start()
        place = found.end()
        if (end := _ENDS.get(found[0])) is not None:
            place = _end_of_string(document, place, end)


def _end_of_string(document: str, place: int, end: re.Pattern[str]) -> int:
    while found := end.search(document, place):
        place = found.end()
        if not found[0].startswith("\\"):
            return place
    return len(document)


def _line(document: str, place: int) -> int:
    return document.count("\n", 0, place) + 1
