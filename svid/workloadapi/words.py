"""gRPC's errors in our own words: they show a gate's reason for turning us away, and point out a web server."""

import re

from svid.errors import WorkloadAPIError

__all__ = ["answered"]

_HTTP_ANSWER = "http2 header with status"  # gRPC's name for the answer of a web server
_NO_GRPC = "the server there speaks HTTP, not gRPC; the address must be that of a Workload API"
_GOODBYE = re.compile(r"\(GOAWAY received; Error code: 11; Debug Text: (.+)\)$")  # gRPC's words around a gate's reason


def answered(code: str, details: str) -> WorkloadAPIError:
    """Make an error of what came instead of an answer.

    Args:
        code: the name of gRPC's status.
        details: gRPC's own words.
    """
    if (turned_away := _GOODBYE.search(details)) is not None:  # it came before any call; gRPC reports UNAVAILABLE
        return WorkloadAPIError(f"the Workload API turned this process away: {_balanced(turned_away[1])}", code=code)
    hint = _NO_GRPC if _HTTP_ANSWER in details else ""
    return WorkloadAPIError(f"the Workload API answered {code}: {details}", code=code, hint=hint)


def _balanced(text: str) -> str:
    """Remove closing brackets at the end that gRPC opened before the text: sometimes it nests one error in another."""
    while text.endswith(")") and text.count(")") > text.count("("):
        text = text[:-1]
    return text
