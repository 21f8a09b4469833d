"""Configuration: one TOML file, overridden by flags, read once into a frozen struct.

Decided here: how texts become durations, paths and SPIFFE IDs, and that unknown keys are refused. The keys and their defaults are in each
daemon's config struct (issuer/config, attestor/config).
"""

import difflib
import ipaddress
import os
import re
import stat
import tomllib
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from pathlib import Path

import msgspec

from cognomen.process.localids import PrivateGroups
from cognomen.process.ownpath import check_not_others
from cognomen.protocol.durations import parse_duration
from cognomen.protocol.errors import FileRefused, Kind, Refused
from cognomen.protocol.printable import printable
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "check_loopback",
    "expand_home",
    "is_table",
    "load",
    "read_table",
    "unknown_key",
]

T = typing.TypeVar("T", bound=msgspec.Struct)

_MAX_CONFIG_BYTES = 1024 * 1024
_MOST_LEVELS = 32  # of tables and arrays; ours and plugins' have a few
_LONGEST_KEY = 200  # that a message shows
_INTEGERS = range(-(2**63), 2**63)
_GROUPS = PrivateGroups()


def load(path: Path | None, kind: type[T], overrides: Mapping[str, object], *, groups: PrivateGroups = _GROUPS) -> T:
    """Read a configuration of that kind.

    Args:
        overrides: the flags' values, by dotted key; None means not given. Values have the types that TOML would give them.
        groups: the groups that have only one user, and so may write the file.

    Raises:
        Refused: INVALID, naming the key, what was expected and what was found; NOT_FOUND when there is no such file.
    """
    document = {} if path is None else _read(path, groups)
    for key, value in overrides.items():
        if value is not None:
            _override(document, key, value)
    return _struct(document, kind, "", top=frozenset(kind.__struct_fields__))


def read_table(document: Mapping[str, object], kind: type[T], *, key: str) -> T:
    """Convert a table of a configuration that was left unread to a struct of that kind; refuses as `load` does.

    Args:
        key: the dotted key of the table.
    """
    return _struct(document, kind, f"{key}.")


def unknown_key(name: str, known: Collection[str], prefix: str) -> Refused:
    """The refusal (INVALID) of a key that nobody reads, with the one that may have been meant.

    Args:
        prefix: of the dotted keys: empty, or the table's key and a dot.
    """
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {prefix}{nearest[0]}?" if nearest else f"known keys: {', '.join(sorted(known))}"
    return Refused(Kind.INVALID, f"{_shown_key(prefix + name)}: unknown key", hint=hint)


def is_table(kind: object) -> bool:
    """Whether the values of that type are tables, which a file can hold and a flag cannot."""
    origin = typing.get_origin(kind) or kind
    return isinstance(origin, type) and issubclass(origin, Mapping | msgspec.Struct)


def expand_home(path: str | Path) -> Path:
    """Replace a leading ~ by the home directory.

    Raises:
        Refused: INVALID when there is none: HOME is not set, and the uid is not in the passwd file.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as e:
        raise Refused(
            Kind.INVALID,
            f"path {path}: expected a home directory, found none",
            hint="set HOME, or name a path without ~",
        ) from e


def _path(text: str) -> Path:
    if not text:
        raise ValueError("expected a path, found an empty string")
    return expand_home(text)


_FROM_TEXT: Mapping[object, Callable[[str], object]] = {
    timedelta: parse_duration,
    TrustDomain: TrustDomain.parse,
    SpiffeID: SpiffeID.parse,
    Path: _path,
}


_HOST_AND_PORT = re.compile(
    r"(?:(?P<four>[0-9.]+)|\[(?P<six>[0-9a-f:.]+)\]):(?P<port>[0-9]{1,5})", re.ASCII | re.IGNORECASE
)


def check_loopback(key: str, address: str) -> tuple[str, int]:
    """Parse 127.0.0.1:PORT or [::1]:PORT; only loopback, because the pages there are private, and we do not authenticate readers.

    Names are refused: what localhost means depends on files of the machine.

    Raises:
        ValueError: it is not such an address; the message names the key.
    """
    match = _HOST_AND_PORT.fullmatch(address)
    try:
        host = ipaddress.ip_address((match and (match["four"] or match["six"])) or "")
    except ValueError:
        host = None
    if match is None or host is None or not host.is_loopback or int(match["port"]) >= 2**16:
        raise ValueError(f"{key}: expected a loopback address such as 127.0.0.1:9091, found {address!r}")
    return str(host), int(match["port"])


def _read(path: Path, groups: PrivateGroups) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            _check_writers(path, file.fileno(), groups)
            data = file.read(_MAX_CONFIG_BYTES + 1)
    except FileNotFoundError as e:
        raise FileRefused(Kind.NOT_FOUND, f"config {path}: no such file") from e
    except OSError as e:
        raise FileRefused(Kind.UNAVAILABLE, f"config {path}: {(e.strerror or str(e)).lower()}") from e
    if len(data) > _MAX_CONFIG_BYTES:
        raise Refused(Kind.INVALID, f"config {path}: expected at most {_MAX_CONFIG_BYTES} bytes, found more")
    try:
        document = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as e:
        raise Refused(Kind.INVALID, f"config {path}: expected TOML: {_in_words(e)}") from e
    _check_values(document)
    return document


def _in_words(error: ValueError | RecursionError) -> str:
    """What is wrong with a text, without words that presume Python."""
    match error:
        case tomllib.TOMLDecodeError():
            return str(error)
        case UnicodeDecodeError():
            return "expected UTF-8 text"
        case RecursionError():
            return "it is nested too deeply"
    return "a number has too many digits"


def _check_values(document: Mapping[str, object]) -> None:
    """Refuse what TOML can say and no key can mean: then the rest need not expect it, and every value can be shown in a message.

    Raises:
        Refused: INVALID, naming the dotted key.

    Source: TOML 1.0 (an integer has 64 bits)
    """
    level = [(_shown_key(name), value) for name, value in document.items()]
    for _ in range(_MOST_LEVELS):
        within: list[tuple[str, object]] = []
        for key, value in level:
            match value:
                case dict():
                    within += [(_shown_key(f"{key}.{name}"), inner) for name, inner in value.items()]
                case list():
                    within += [(f"{key}[{number}]", inner) for number, inner in enumerate(value)]
                case int() if value not in _INTEGERS:
                    raise Refused(Kind.INVALID, f"{key}: expected a number of at most 64 bits, found a larger one")
                case str() if "\0" in value:
                    raise _refusal(key, "a string without NUL characters", value)
        level = within
    if level:
        raise Refused(
            Kind.INVALID, f"{level[0][0]}: expected at most {_MOST_LEVELS} levels of tables and arrays, found more"
        )


def _check_writers(path: Path, descriptor: int, groups: PrivateGroups) -> None:
    """Refuse a file that others can write, because it decides what we do with our rights. Anybody may read it: it holds no secret.

    We check only the file, by its descriptor, and not the directories above it: Kubernetes mounts a ConfigMap below a directory that
    everybody seems able to write, and a file that somebody puts there in place of ours would belong to them.
    """
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        check_not_others(f"config {path}", descriptor, path, groups=groups)


def _override(document: dict[str, object], key: str, value: object) -> None:
    *tables, name = key.split(".")
    for table in tables:
        inner = document.setdefault(table, {})
        if not isinstance(inner, dict):
            raise _refusal(table, "a table", inner)
        document = inner
    document[name] = value


def _struct(document: Mapping[str, object], kind: type[T], prefix: str, *, top: Collection[str] = ()) -> T:
    """Convert key by key rather than at once, so that every refusal names the dotted key.

    Args:
        top: the keys of the file itself; none: it is not known to us.
    """
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name in document:
        if name not in fields:
            if prefix and name in top:
                raise Refused(Kind.INVALID, f"{prefix}{name}: unknown key", hint=_swallowed(name))
            raise unknown_key(name, fields, prefix)
    for name, field in fields.items():
        if field.required and name not in document:
            raise Refused(
                Kind.INVALID,
                f"{prefix}{name}: expected a value, found none",
                hint=f"set {prefix}{name} in the configuration"
                + ("" if prefix else ", or use its flag"),  # tables have no flags
            )
    values = {name: _value(value, fields[name].type, f"{prefix}{name}", top) for name, value in document.items()}
    try:
        return kind(**values)
    except (ValueError, SVIDError) as e:  # what __post_init__ checks
        raise Refused(Kind.INVALID, f"{prefix}{e}") from e


def _swallowed(name: str) -> str:
    """What to do with a key of the file itself that is in a table."""
    return f"a key after a [table] belongs to that table: write {name} before the first [table]"


def _value(value: object, kind: object, key: str, top: Collection[str]) -> object:
    for choice in _choices(kind):
        if isinstance(choice, type) and issubclass(choice, msgspec.Struct):
            return _struct(_table(value, key, top), choice, f"{key}.", top=top)
        if is_table(choice):
            _, inner = typing.get_args(choice) or (str, object)
            return {name: _value(one, inner, f"{key}.{name}", top) for name, one in _table(value, key, top).items()}
        if choice in _FROM_TEXT:
            return _from_text(value, choice, key)
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as e:
        raise _refusal(key, _expected(kind, str(e)), value) from e


def _choices(kind: object) -> Sequence[object]:
    """The types of a union, or the one type that it is."""
    return typing.get_args(kind) if typing.get_origin(kind) in {typing.Union, types.UnionType} else (kind,)


def _table(value: object, key: str, top: Collection[str]) -> Mapping[str, object]:
    if not isinstance(value, dict):
        _, is_inner, name = key.rpartition(".")
        hint = _swallowed(name) if is_inner and name in top else ""
        raise Refused(Kind.INVALID, _refusal(key, "a table", value).detail, hint=hint)
    return value


def _from_text(value: object, kind: object, key: str) -> object:
    if not isinstance(value, str):
        raise _refusal(key, 'a duration such as "90s", "30m" or "1h"' if kind is timedelta else "a string", value)
    try:
        return _FROM_TEXT[kind](value)
    except (ValueError, SVIDError) as e:
        raise Refused(Kind.INVALID, f"{_shown_key(key)}: {e}") from e


def _expected(kind: object, message: str) -> str:
    """Describe the expected value: msgspec writes "Expected `int`, got `str`", and does not list an enum's values."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(str(choice.value) for choice in kind)}"
    names = {int: "a whole number", str: "a string", bool: "true or false", float: "a number"}
    for choice in _choices(kind):
        if choice in names:
            return names[choice]
    expected = message.partition(", got ")[0].removeprefix("Expected ").replace("`", "")
    return "an array" if expected == "array" else expected


def _refusal(key: str, expected: str, value: object) -> Refused:
    return Refused(Kind.INVALID, f"{_shown_key(key)}: expected {expected}, found {printable(repr(value))}")


def _shown_key(key: str) -> str:
    """A key as a message can show it: quoted keys of TOML may hold anything, and as much of it as the file."""
    return printable(key, most=_LONGEST_KEY)
