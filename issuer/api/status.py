"""Refusals as gRPC statuses, for both kinds of door: what a peer learns, and what only the log does.

Which refusal it is was decided below; nothing else in the issuer knows a status code, web/ aside.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import structlog
from grpclib.const import Status

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.status import status_of_kind
from cognomen.daemon.waiting import telling_cancellations_apart
from svid.errors import SVIDError

__all__ = ["answering", "refusal_of", "translate"]

log = structlog.get_logger(__name__)


def refusal_of(err: Exception) -> Refused:
    """Say what an exception means to the peer; what is our fault, or the machine's, is logged with its cause."""
    match err:
        case Refused():
            if err.kind is Kind.UNAVAILABLE:
                log.error("call failed", reason=err.detail, hint=err.hint, **err.facts)
            if err.kind is not Kind.INTERNAL:
                return err
            log.error("call failed", reason=err.detail, hint=err.hint, exc_info=err, **err.facts)
            return Refused(Kind.INTERNAL, "internal error")
        case SVIDError():
            return Refused(Kind.INVALID, str(err))
        case _:
            log.error("call failed", exc_info=err)
            return Refused(Kind.INTERNAL, "internal error")


def translate(err: Exception) -> tuple[Status, str]:
    """Say it as a status of the admin socket, whose callers are operators: the hint comes along, on a line of its own."""
    refused = refusal_of(err)
    return Status[status_of_kind(refused.kind)], f"{refused.detail}\n{refused.hint}" if refused.hint else refused.detail


@asynccontextmanager
async def answering(context: grpc.aio.ServicerContext[object, object]) -> AsyncIterator[None]:
    """Turn what the block raises into the status of this call."""
    try:
        with telling_cancellations_apart():
            yield
    except grpc.aio.AbortError:
        raise
    except Exception as err:  # noqa: BLE001 - the one place where a door sees them all
        refused = refusal_of(err)
        await context.abort(grpc.StatusCode[status_of_kind(refused.kind)], refused.detail)
