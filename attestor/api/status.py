"""Translate refusals to the gRPC statuses that workloads get: what the workload sees, and what only the log shows.

The flows and decisions choose the refusal; nothing else in the attestor knows a status code.
"""

from collections.abc import Callable

import structlog
from grpclib.const import Status

from attestor.metrics import Metrics
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.status import status_of_kind

__all__ = ["counting", "translate"]

log = structlog.get_logger(__name__)


def translate(err: Exception) -> tuple[Status, str]:
    """Translate an exception to a status; the hint is for the operator and stays in the log.

    Clients never retry after INVALID_ARGUMENT, so any exception that is not a refusal counts as our fault.
    """
    if isinstance(err, Refused) and err.kind is not Kind.INTERNAL:
        log.debug("workload refused", kind=err.kind, reason=err.detail, hint=err.hint, **err.facts)
        return Status[status_of_kind(err.kind)], err.detail
    log.error("call failed", exc_info=err)
    return Status.INTERNAL, "internal error"


def counting(metrics: Metrics) -> Callable[[Exception], tuple[Status, str]]:
    """Translate like `translate`, and count by kind."""

    def translate_and_count(err: Exception) -> tuple[Status, str]:
        metrics.workload_refusals.labels(err.kind if isinstance(err, Refused) else Kind.INTERNAL).inc()
        return translate(err)

    return translate_and_count
