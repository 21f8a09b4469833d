"""Refusals as gRPC statuses, as workloads get them: what they learn, and what only the log does.

Which refusal it is was decided below; nothing else in the attestor knows a status code.
"""

import structlog
from grpclib.const import Status

from cognomen.daemon.errors import Kind, Refused

__all__ = ["translate"]

log = structlog.get_logger(__name__)

_CODES = {
    Kind.INVALID: Status.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: Status.UNAUTHENTICATED,
    Kind.DENIED: Status.PERMISSION_DENIED,
    Kind.NOT_FOUND: Status.NOT_FOUND,
    Kind.EXISTS: Status.ALREADY_EXISTS,
    Kind.CONFLICT: Status.ABORTED,
    Kind.EXHAUSTED: Status.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: Status.UNAVAILABLE,
    Kind.INTERNAL: Status.INTERNAL,
}


def translate(err: Exception) -> tuple[Status, str]:
    """Say an exception as a status; the hint, which is for the operator, stays in the log.

    Clients never try again after INVALID_ARGUMENT: so what was not refused as such is our fault, whatever it is.
    """
    if isinstance(err, Refused) and err.kind is not Kind.INTERNAL:
        log.debug("workload refused", kind=err.kind, reason=err.detail, hint=err.hint, **err.facts)
        return _CODES[err.kind], err.detail
    log.error("call failed", exc_info=err)
    return Status.INTERNAL, "internal error"
