"""Translate refusals to names of gRPC statuses and back: one table for both daemons' APIs, the attestor's client and the command.

It uses names because grpcio and grpclib each have their own enumeration. What a caller sees of a refusal is decided in api/status.
"""

from cognomen.protocol.errors import Kind, Reason

__all__ = ["REASON", "SENT_AWAY", "kind_of_status", "reason_of_text", "status_of_kind"]

REASON = "cognomen-reason"
"""The key of the trailing metadata that carries the reason of a refusal."""

SENT_AWAY = "the issuer sent this node away"
"""How the detail goes on with which every program of a node is refused whose node was evicted or banned."""

_STATUSES = {
    Kind.INVALID: "INVALID_ARGUMENT",
    Kind.UNAUTHENTICATED: "UNAUTHENTICATED",
    Kind.DENIED: "PERMISSION_DENIED",
    Kind.NOT_FOUND: "NOT_FOUND",
    Kind.EXISTS: "ALREADY_EXISTS",
    Kind.CONFLICT: "ABORTED",
    Kind.EXHAUSTED: "RESOURCE_EXHAUSTED",
    Kind.UNAVAILABLE: "UNAVAILABLE",
    Kind.INTERNAL: "INTERNAL",
}
_KINDS = {status: kind for kind, status in _STATUSES.items()} | {
    "DEADLINE_EXCEEDED": Kind.UNAVAILABLE,
    "CANCELLED": Kind.UNAVAILABLE,  # because the connection ended
}


def status_of_kind(kind: Kind) -> str:
    """The name of the status for this kind."""
    return _STATUSES[kind]


def kind_of_status(status: str) -> Kind:
    """The kind for a status of that name; a status that we never send means that something is broken."""
    return _KINDS.get(status, Kind.INTERNAL)


def reason_of_text(text: object) -> Reason | None:
    """The reason that a peer gave; None: it gave none, or one that we do not know, because it is newer than we are."""
    return Reason(text) if isinstance(text, str) and text in set(Reason) else None
