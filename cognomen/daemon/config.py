"""Configuration: one TOML file and the flags over it, read once into a frozen struct.

Decided here: how texts become durations, paths and SPIFFE IDs, and that a key nobody knows is refused. Which keys there are, and their
defaults, is in each daemon's config struct (issuer/config, attestor/config).
"""

import difflib
import ipaddress
import re
import tomllib
import typing
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import Enum
from pathlib import Path

import msgspec

from cognomen.daemon.errors import Kind, Refused
from svid.errors import SVIDError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["check_loopback", "expand_home", "format_duration", "load", "parse_duration"]

T = typing.TypeVar("T", bound=msgspec.Struct)

_MAX_CONFIG_BYTES = 1024 * 1024
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}
_DURATION = re.compile(r"(?:[0-9]{1,9}[dhms])+")


def load(path: Path | None, kind: type[T], overrides: Mapping[str, object]) -> T:
    """Read a configuration of that kind.

    Args:
        overrides: what the flags say, by dotted key; None means not given. Values are as TOML would have them.

    Raises:
        Refused: INVALID, naming the key, what was expected and what came; NOT_FOUND when there is no such file.
    """
    document = {} if path is None else _read(path)
    for key, value in overrides.items():
        if value is not None:
            _override(document, key, value)
    return _struct(document, kind, "")


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as 90s, 30m, 1h, 1h30m or 14d.

    Raises:
        ValueError: the text is none, or exceeds what a timedelta holds.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"expected a duration such as 90s, 30m, 1h or 1d, found {text!r}")
    try:
        return sum((int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([dhms])", text)), timedelta())
    except OverflowError as e:
        raise ValueError(f"expected a duration of at most 999999999 days, found {text!r}") from e


def format_duration(duration: timedelta) -> str:
    """Write a duration as `parse_duration` reads it, in the largest unit that divides it: 90s, 1h, 14d."""
    for unit, size in _UNITS.items():
        if duration and not duration % size:
            return f"{duration // size}{unit}"
    return f"{duration.total_seconds():g}s"


def expand_home(path: str | Path) -> Path:
    """Put the home directory in the place of a leading ~.

    Raises:
        Refused: INVALID when nobody knows where that is, as for a uid that is in no passwd file while HOME is not set.
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
        raise ValueError("expected a path, found an empty text")
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
    """Take 127.0.0.1:PORT or [::1]:PORT: what is told there is nobody else's business, and nothing asks who reads it.

    No name: what localhost is depends on files of the machine.

    Raises:
        ValueError: it is none, by the key.
    """
    match = _HOST_AND_PORT.fullmatch(address)
    try:
        host = ipaddress.ip_address((match and (match["four"] or match["six"])) or "")
    except ValueError:
        host = None
    if match is None or host is None or not host.is_loopback or int(match["port"]) >= 2**16:
        raise ValueError(f"{key}: expected an address of loopback such as 127.0.0.1:9091, found {address!r}")
    return str(host), int(match["port"])


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_CONFIG_BYTES + 1)
    except FileNotFoundError as e:
        raise Refused(Kind.NOT_FOUND, f"config {path}: expected a file, found none") from e
    except OSError as e:
        raise Refused(Kind.UNAVAILABLE, f"config {path}: {(e.strerror or str(e)).lower()}") from e
    if len(data) > _MAX_CONFIG_BYTES:
        raise Refused(Kind.INVALID, f"config {path}: expected at most {_MAX_CONFIG_BYTES} bytes, found more")
    try:
        return tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Refused(Kind.INVALID, f"config {path}: expected TOML: {e}") from e


def _override(document: dict[str, object], key: str, value: object) -> None:
    *tables, name = key.split(".")
    for table in tables:
        inner = document.setdefault(table, {})
        if not isinstance(inner, dict):
            raise _refusal(table, "a table", inner)
        document = inner
    document[name] = value


def _struct(document: Mapping[str, object], kind: type[T], prefix: str) -> T:
    """Convert key by key rather than at once, so that every refusal has the key's dotted name."""
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for name in document:
        if name not in fields:
            nearest = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{nearest[0]}?" if nearest else f"known keys: {', '.join(sorted(fields))}"
            raise Refused(Kind.INVALID, f"{prefix}{name}: expected a key that we know, found this", hint=hint)
    for name, field in fields.items():
        if field.required and name not in document:
            raise Refused(
                Kind.INVALID,
                f"{prefix}{name}: expected a value, found none",
                hint=f"set {prefix}{name} in the configuration, or give its flag",
            )
    values = {name: _value(value, fields[name].type, f"{prefix}{name}") for name, value in document.items()}
    try:
        return kind(**values)
    except (ValueError, SVIDError) as e:  # what __post_init__ checks
        raise Refused(Kind.INVALID, f"{prefix}{e}") from e


def _value(value: object, kind: object, key: str) -> object:
    for choice in typing.get_args(kind) or (kind,):
        if isinstance(choice, type) and issubclass(choice, msgspec.Struct):
            if not isinstance(value, dict):
                raise _refusal(key, "a table", value)
            return _struct(value, choice, f"{key}.")
        if choice in _FROM_TEXT:
            return _from_text(value, _FROM_TEXT[choice], key)
    try:
        return msgspec.convert(value, kind, strict=True)
    except msgspec.ValidationError as e:
        raise _refusal(key, _expected(kind, str(e)), value) from e


def _from_text(value: object, parse: Callable[[str], object], key: str) -> object:
    if not isinstance(value, str):
        raise _refusal(key, "a text", value)
    try:
        return parse(value)
    except (ValueError, SVIDError) as e:
        raise Refused(Kind.INVALID, f"{key}: {e}") from e


def _expected(kind: object, message: str) -> str:
    """Say what msgspec wanted: it writes "Expected `int`, got `str`", and does not list an enum's values."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(str(choice.value) for choice in kind)}"
    names = {int: "a whole number", str: "a text", bool: "true or false"}
    for choice in typing.get_args(kind) or (kind,):
        if choice in names:
            return names[choice]
    return message.partition(", got ")[0].removeprefix("Expected ").replace("`", "")


def _refusal(key: str, expected: str, value: object) -> Refused:
    return Refused(Kind.INVALID, f"{key}: expected {expected}, found {value!r}")
