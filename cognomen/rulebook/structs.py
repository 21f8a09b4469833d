"""Turn a table of a document into a struct, and find every fault of it in one run: msgspec alone stops at the first."""

import types
import typing
from collections.abc import Iterator, Mapping
from datetime import date
from enum import StrEnum
from functools import cache, partial
from typing import TypeVar

import msgspec
from msgspec import NODEFAULT, UnsetType

from cognomen.rulebook.faults import Mend, Tell, shown
from cognomen.rulebook.places import Path
from cognomen.rulebook.suggesting import suggestion

__all__ = ["read_struct"]

_WORDS: Mapping[object, str] = types.MappingProxyType(
    {
        str: "a text",
        date: "a date such as 2027-03-31",
        list[str]: "a list of texts",
        list[list[str]]: "a list of lists of texts",
        str | list[str]: "a text or a list of texts",
        Mapping[str, str]: "a table of texts",
        bool: "true or false",
        int | str: "a number",
        list[Mapping[str, str]]: "a list of tables of texts",
        Mapping[str, object]: "a table",
    }
)

_T = TypeVar("_T", bound=msgspec.Struct)


def read_struct(data: object, kind: type[_T], path: Path, tell: Tell, *, but: str = "") -> _T | None:
    """A table as a struct; None, and a fault for each key, if it cannot be one.

    Args:
        but: a key that somebody else reads.
    """
    if not isinstance(data, dict):
        tell(path, f"expected a table, found {shown(data)}", "")
        return None
    known = _fields(kind)
    faults = 0
    values: dict[str, object] = {}
    for name, value in data.items():
        if name == but:
            continue
        if name not in known:
            tell((*path, name), "unknown key", partial(suggestion, name, known))
            faults += 1
            continue
        if (inner := _table(known[name].type)) is not None:
            values[name] = read_struct(value, inner, (*path, name), tell)
            faults += values[name] is None
            continue
        try:
            values[name] = msgspec.convert(value, known[name].type)
        except msgspec.ValidationError:
            _tell_value(value, known[name].type, (*path, name), tell)
            faults += 1
    for name, one in known.items():
        if one.default is NODEFAULT and one.default_factory is NODEFAULT and name not in data:
            tell((*path, name), "missing", f"it is {_expected(one.type)}")
            faults += 1
    return None if faults else kind(**{known[name].name: value for name, value in values.items()})


def _tell_value(value: object, kind: object, path: Path, tell: Tell) -> None:
    """Note what is wrong with a value that is not of its kind."""
    choices = _choices(kind)
    if choices and isinstance(value, list) and typing.get_origin(_plain(kind)) is list:
        for number, each in enumerate(value):
            if each not in choices:
                _tell_choice(each, choices, f"one of {', '.join(choices)}", (*path, number), tell)
    else:
        _tell_choice(value, choices, _expected(kind), path, tell)


def _tell_choice(value: object, choices: list[str], expected: str, path: Path, tell: Tell) -> None:
    mend: Mend = partial(suggestion, value, choices) if isinstance(value, str) else ""
    tell(path, f"expected {expected}, found {shown(value)}", mend)


@cache
def _fields(kind: type[msgspec.Struct]) -> Mapping[str, msgspec.structs.FieldInfo]:
    return {one.encode_name: one for one in msgspec.structs.fields(kind)}


def _plain(kind: object) -> object:
    """A type without its annotations and without UNSET."""
    if typing.get_origin(kind) is typing.Annotated:
        return _plain(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        parts = [_plain(one) for one in typing.get_args(kind) if one is not UnsetType]
        found: object = parts[0]
        for part in parts[1:]:
            found = found | part  # type: ignore[operator]  # types
        return found
    if (origin := typing.get_origin(kind)) is not None:
        return origin[tuple(_plain(one) for one in typing.get_args(kind))]  # a generic type
    return kind


def _table(kind: object) -> type[msgspec.Struct] | None:
    """The struct of a table inside a table."""
    plain = _plain(kind)
    return plain if isinstance(plain, type) and issubclass(plain, msgspec.Struct) else None


def _choices(kind: object) -> list[str]:
    plain = _plain(kind)
    (inner,) = typing.get_args(plain) or (plain,) if typing.get_origin(plain) is list else (plain,)
    return [one.value for one in inner] if isinstance(inner, type) and issubclass(inner, StrEnum) else []


def _expected(kind: object) -> str:
    plain = _plain(kind)
    if choices := _choices(kind):
        words = f"one of {', '.join(choices)}"
        return f"a list with {words}" if typing.get_origin(plain) is list else words
    for meta in _metas(kind):
        if meta.pattern is not None:
            return "a duration such as 90s, 30m, 1h or 1d"
        if meta.ge is not None:
            return f"a whole number from {meta.ge} to {meta.le}"
        if meta.min_length:
            return "a text that is not empty"
    return _WORDS[plain]


def _metas(kind: object) -> Iterator[msgspec.Meta]:
    """The annotations of a type, also where it is one of several."""
    if typing.get_origin(kind) is typing.Annotated:
        inner, *metas = typing.get_args(kind)
        yield from (one for one in metas if isinstance(one, msgspec.Meta))
        yield from _metas(inner)
    elif typing.get_origin(kind) in (types.UnionType, typing.Union):
        for part in typing.get_args(kind):
            yield from _metas(part)
