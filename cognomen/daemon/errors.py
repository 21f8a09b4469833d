"""Refused: how a daemon says no, inside the house; only the doors know status codes."""

from enum import StrEnum

__all__ = ["Kind", "Refused"]


class Kind(StrEnum):
    """Why something was refused, by what the peer can do about it."""

    INVALID = "INVALID"  # the request itself is wrong: do not repeat it
    UNAUTHENTICATED = "UNAUTHENTICATED"  # we do not know who you are
    DENIED = "DENIED"  # we know who you are, and no
    NOT_FOUND = "NOT_FOUND"
    EXISTS = "EXISTS"
    CONFLICT = "CONFLICT"  # read again, then try again
    EXHAUSTED = "EXHAUSTED"  # a limit: later, or less
    UNAVAILABLE = "UNAVAILABLE"  # not now: try again
    INTERNAL = "INTERNAL"  # our fault


class Refused(Exception):  # noqa: N818 - a refusal is an answer, not an error
    """A request was refused.

    Args:
        kind: what the peer can do about it.
        detail: safe for the peer to read.
        hint: for the operator: what to do next.
        facts: what a log line should carry; never a secret.
    """

    def __init__(self, kind: Kind, detail: str, *, hint: str = "", **facts: str | int) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.hint = hint
        self.facts = facts
