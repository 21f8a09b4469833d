"""Refusals as gRPC statuses, as workloads get them: what they learn, and what only the log does.

Which refusal it is was decided below; nothing else in the attestor knows a status code.
"""

from collections.abc import Callable

import structlog
from grpclib.const import Status

from attestor.metrics import Metrics
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.status import status_of_kind

__all__ = ["counting", "translate"]

log = structlog.get_logger(__name__)


def translate(err: Exception) -> tuple[Status, str]:
    """Say an exception as a status; the hint, which is for the operator, stays in the log.

    Clients never try again after INVALID_ARGUMENT: so what was not refused as such is our fault, whatever it is.
    """
    if isinstance(err, Refused) and err.kind is not Kind.INTERNAL:
        log.debug("workload refused", kind=err.kind, reason=err.detail, hint=err.hint, **err.facts)
        return Status[status_of_kind(err.kind)], err.detail
    log.error("call failed", exc_info=err)
    return Status.INTERNAL, "internal error"


def counting(metrics: Metrics) -> Callable[[Exception], tuple[Status, str]]:
    """Translate as `translate` does, and count by kind."""

    def translate_and_count(err: Exception) -> tuple[Status, str]:
        metrics.workload_refusals.labels(err.kind if isinstance(err, Refused) else Kind.INTERNAL).inc()
        return translate(err)

    return translate_and_count
