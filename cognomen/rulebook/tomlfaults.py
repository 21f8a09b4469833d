"""What is wrong in a file that is no TOML, in plain words: those of the parser are for programmers, and name neither key nor mend."""

import re
import tomllib
from ast import literal_eval
from typing import NamedTuple

from cognomen.rulebook.faults import key_of, shown

__all__ = ["NotTOML", "not_toml"]

_PLACE = re.compile(r"\(at (?:line ([0-9]+), column ([0-9]+)|end of document)\)")
_TUPLE = re.compile(r"\('[^()]*\)")
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*'))*)\s*="""
)
_HEADER = re.compile(r"\s*\[+([^\[\]\n]+)\]")
_WORD = re.compile(r"[^\s,\]}#]*")
_PLAN = '"cognomen_plan"'
_MOST_BEGINNING = 100


class NotTOML(NamedTuple):
    """What is wrong.

    Args:
        line: from 1.
    """

    line: int
    problem: str
    mend: str


def not_toml(text: str, error: tomllib.TOMLDecodeError) -> NotTOML:
    """Say what is wrong with a text that cannot be read as TOML."""
    if text.startswith("\ufeff"):
        return NotTOML(1, "expected TOML, found a byte order mark before it", "save the file as UTF-8 without BOM")
    if text.lstrip().startswith("{"):
        is_plan = _PLAN in text.lstrip()[:_MOST_BEGINNING]
        mend = (
            "it is a saved plan, which cognomen apply takes"
            if is_plan
            else "rules are TOML, and a plan is what plan --save wrote"
        )
        return NotTOML(1, "expected TOML, found JSON", mend)
    rows = text.split("\n")
    place = _PLACE.search(str(error))
    is_known = place is not None and place[1] is not None
    line, column = (int(place[1]), int(place[2])) if place is not None and is_known else (len(rows), 0)
    reason = _PLACE.sub("", str(error)).strip()
    rest = rows[line - 1][max(0, column - 1) :].strip() if is_known and line <= len(rows) else ""
    return _in_words(reason, line, rest, rows)


def _in_words(reason: str, line: int, rest: str, rows: list[str]) -> NotTOML:
    if reason.startswith("Cannot declare"):
        return NotTOML(line, f"the table {_named(reason)} is there twice", "write all its keys below one of the two")
    if reason.startswith(("Cannot overwrite", "Duplicate inline", "Cannot mutate")):
        at, key = _key_at(rows, line)
        inner = re.search(r"key '(.*)'$", reason)
        return NotTOML(at, f"the key {inner[1] if inner else key} is there twice", "keep one of them")
    if reason == "Invalid value":
        return _value(line, rest)
    problems = {
        "Illegal character '\\n'": "a text has no quotation mark at its end",
        "Invalid statement": f"expected KEY = VALUE or [TABLE], found {shown(rest)}",
        "Expected newline": f"expected the end of the line after a value, found {shown(rest)}",
    }
    said = (problem for beginning, problem in problems.items() if reason.startswith(beginning))
    return NotTOML(line, next(said, f"expected TOML: {reason[:1].lower()}{reason[1:]}"), "")


def _value(line: int, rest: str) -> NotTOML:
    found = _WORD.match(rest)
    word = found[0] if found is not None else ""
    if not word:
        return NotTOML(line, f"expected a value, found {shown(rest) if rest else 'nothing'}", "")
    mend = "" if word[0] in "\"'" else f'a text has quotation marks: "{word}"' if word.isprintable() else ""
    return NotTOML(line, f"expected a value, found {shown(word)}", mend)


def _named(reason: str) -> str:
    """The name of a table in a reason, which has it as a tuple of Python."""
    found = _TUPLE.search(reason)
    try:
        names = literal_eval(found[0]) if found is not None else ()
    except (ValueError, SyntaxError):
        names = ()
    return key_of(tuple(map(str, names))) or "there"


def _key_at(rows: list[str], line: int) -> tuple[int, str]:
    """The last line up to one that begins a key or a table, and its name."""
    for number in range(min(line, len(rows)), 0, -1):
        row = rows[number - 1]
        if found := _KEY.match(row) or _HEADER.match(row):
            return number, key_of((found[1].strip(),))
    return line, "there"
