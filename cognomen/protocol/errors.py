"""Refused: how the parts of a daemon refuse a request; only the API layer knows status codes."""

from enum import StrEnum
from typing import Self

__all__ = ["FileRefused", "Kind", "Reason", "Refused"]


class Kind(StrEnum):
    """Why something was refused, classified by what the peer can do about it."""

    INVALID = "INVALID"  # the request itself is wrong: do not repeat it
    UNAUTHENTICATED = "UNAUTHENTICATED"  # we do not know who you are
    DENIED = "DENIED"  # we know who you are, and you may not
    NOT_FOUND = "NOT_FOUND"
    EXISTS = "EXISTS"
    CONFLICT = "CONFLICT"  # read again, then try again
    EXHAUSTED = "EXHAUSTED"  # a limit is reached: try later, or ask for less
    UNAVAILABLE = "UNAVAILABLE"  # not now: try again
    INTERNAL = "INTERNAL"  # our fault


class Reason(StrEnum):
    """Why a node was refused, for a program that has to choose what to do next. A value never changes: older attestors read it."""

    BANNED = "banned"
    EVICTED = "evicted"  # or purged: an operator sent it away, and what was signed for it is revoked
    SVID_EXPIRED = "node-svid-expired"  # by the issuer's clock
    SUPERSEDED = "node-svid-superseded"  # a later SVID of the node is in use: it may be a clone
    ATTESTED_BEFORE = "attested-before"  # its proof is good for one admission only


class Refused(Exception):  # noqa: N818 - a refusal is an answer, not an error
    """A request was refused.

    Args:
        kind: what the peer can do about it.
        detail: safe for the peer to read.
        hint: for the operator: what to do next.
        facts: what a log line should carry; never a secret.

    Attributes:
        reason: for the peer's program, if it can do something about it; None: it cannot, or its peer is older than we are.
        is_on_record: whether it is already in the audit record.
    """

    def __init__(self, kind: Kind, detail: str, *, hint: str = "", **facts: str | int) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.hint = hint
        self.reason: Reason | None = None
        self.facts = facts
        self.is_on_record = False

    def because(self, reason: Reason | None) -> Self:
        """Give the reason; returns the refusal itself."""
        self.reason = reason
        return self


class FileRefused(Refused):
    """A file or a directory of this machine is missing, or the system refuses it: no daemon was asked."""
