"""Whether HTTP/2 allows a header list; whether it makes a gRPC call is decided in `call`.

h2 can check this itself, but ends the whole connection because of one bad list, where RFC 9113 tells us to end one stream.
"""

import re
from collections.abc import Iterable

__all__ = ["fault_of_request", "fault_of_trailers"]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(r"[\0\r\n]|\A[ \t]|[ \t]\Z")
_REQUIRED = frozenset({":method", ":scheme", ":path"})
_PSEUDO = _REQUIRED | {":authority"}
_OF_CONNECTION = frozenset({"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"})

_Fields = Iterable[tuple[str, str]]


def fault_of_request(fields: _Fields) -> str | None:
    """Say what makes a request malformed; None if nothing does.

    Source: RFC 9113 8.2.1, 8.2.2, 8.3, 8.3.1.
    """
    pseudo = set[str]()
    others = False
    for name, value in fields:
        if name[:1] == ":":
            if name not in _PSEUDO or name in pseudo or others:
                return f"pseudo-header: expected {', '.join(sorted(_PSEUDO))}, each once and before all others"
            if not value and name in _REQUIRED:
                return f"{name}: expected, found nothing"
            pseudo.add(name)
        else:
            others = True
        if fault := _fault(name.removeprefix(":"), value):
            return fault
    return None if pseudo >= _REQUIRED else f"pseudo-header: expected {', '.join(sorted(_REQUIRED))}, found fewer"


def fault_of_trailers(fields: _Fields) -> str | None:
    """Say what makes trailers malformed; None if nothing does.

    Source: RFC 9113 8.1, 8.2.
    """
    return next((fault for name, value in fields if (fault := _fault(name, value))), None)


def _fault(name: str, value: str) -> str | None:
    if not _NAME.fullmatch(name):
        return "field name: expected only lower-case letters, digits and some marks"
    if _BAD_VALUE.search(value):
        return f"{name}: expected a value without line ends, NUL or surrounding space"
    if name in _OF_CONNECTION or (name == "te" and value != "trailers"):
        return f"{name}: connection-specific fields are not allowed"
    return None
