"""Kinds of refusal as gRPC statuses and back, by name: one table for the doors, the attestor's client and the command.

Names, because grpcio and grpclib each have an enumeration of their own. What a refusal tells whom is decided at the doors (api/status).
"""

from cognomen.daemon.errors import Kind

__all__ = ["kind_of_status", "status_of_kind"]

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
    "CANCELLED": Kind.UNAVAILABLE,  # by the connection's end
}


def status_of_kind(kind: Kind) -> str:
    """Name the status that says this."""
    return _STATUSES[kind]


def kind_of_status(status: str) -> Kind:
    """Say what a status of that name means; one that we never send means that something is broken."""
    return _KINDS.get(status, Kind.INTERNAL)
