"""Refusals as gRPC statuses, for both kinds of doors: what a peer learns, and what only the log says.

Others decide which refusal it is. Apart from web/, nothing else in the issuer knows a status code.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import structlog
from grpclib.const import Status

from cognomen.process.exceptions import forget_frames, telling_cancellations_apart
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.status import REASON, status_of_kind
from svid.errors import SVIDError

__all__ = ["answering", "refusal_of", "translate"]

log = structlog.get_logger(__name__)


def refusal_of(err: Exception) -> Refused:
    """Return what an exception means to the peer; if it is our fault or the machine's, log it with its cause."""
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
    """Translate it to a status of the admin socket. Its callers are operators, so the hint is included, on its own line."""
    refused = refusal_of(err)
    return Status[status_of_kind(refused.kind)], f"{refused.detail}\n{refused.hint}" if refused.hint else refused.detail


@asynccontextmanager
async def answering(context: grpc.aio.ServicerContext[object, object]) -> AsyncIterator[None]:
    """Turn an exception in the block into the status of this call."""
    try:
        with telling_cancellations_apart():
            yield
    except grpc.aio.AbortError:
        raise
    except Exception as err:  # noqa: BLE001 - the one place where a door sees them all
        refused = refusal_of(err)
        try:
            reason = () if refused.reason is None else ((REASON, refused.reason.value),)
            await context.abort(grpc.StatusCode[status_of_kind(refused.kind)], refused.detail, trailing_metadata=reason)
        except grpc.aio.AbortError as aborted:
            # The call keeps the exception, whose frames keep the call: a cycle for the garbage collector, unless we cut it after the call.
            asyncio.get_running_loop().call_soon(forget_frames, aborted)
            raise
