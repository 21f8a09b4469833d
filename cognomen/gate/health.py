"""grpc.health.v1 for a gated Unix socket, on the messages of grpcio-health-checking.

grpclib has its own copy of these messages, which cannot be in one process with grpcio's, so we map the methods by hand (ADR-0001).
Not decided here: what healthy means; the owner of the state sets that.
"""

import asyncio
from collections.abc import Mapping

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from cognomen.gate.call import only_request

__all__ = ["Health", "HealthState"]

_NAME = "grpc.health.v1.Health"


class HealthState:
    """Which services of one socket are serving; shared by the `Health` of all its connections.

    Args:
        services: full names; the empty name means the whole server, and is always known.
    """

    def __init__(self, *services: str) -> None:
        self._serving = dict.fromkeys(("", *services), False)
        self._changed = asyncio.Event()

    def set_serving(self, *, serving: bool) -> None:
        """Set whether all services are serving."""
        self._serving = dict.fromkeys(self._serving, serving)
        self._changed.set()
        self._changed = asyncio.Event()

    def of(self, service: str) -> bool | None:
        """Whether that service is serving; None if there is no service of that name."""
        return self._serving.get(service)

    async def wait_for_change(self) -> None:
        """Return after the next `set_serving`."""
        await self._changed.wait()


class Health:
    """The health service of one connection."""

    def __init__(self, state: HealthState) -> None:
        self._state = state

    def __mapping__(self) -> Mapping[str, Handler]:
        return {
            f"/{_NAME}/Check": Handler(self._check, Cardinality.UNARY_UNARY, HealthCheckRequest, HealthCheckResponse),
            f"/{_NAME}/Watch": Handler(self._watch, Cardinality.UNARY_STREAM, HealthCheckRequest, HealthCheckResponse),
        }

    async def _check(self, stream: Stream[HealthCheckRequest, HealthCheckResponse]) -> None:
        serving = self._state.of((await only_request(stream)).service)
        if serving is None:
            raise GRPCError(Status.NOT_FOUND, "service: unknown on this socket")
        await stream.send_message(_response(serving))

    async def _watch(self, stream: Stream[HealthCheckRequest, HealthCheckResponse]) -> None:
        service = (await only_request(stream)).service
        while True:
            await stream.send_message(_response(self._state.of(service)))
            await self._state.wait_for_change()


def _response(serving: bool | None) -> HealthCheckResponse:  # noqa: FBT001 - None is also an answer
    if serving is None:
        return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
    return HealthCheckResponse(status=HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)
