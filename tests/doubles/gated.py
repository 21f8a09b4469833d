"""A server behind the gate whose methods do what a test gives them, and a client that says what a test gives it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpclib.const import Cardinality, Handler, Status

from cognomen.gate.call import Call
from cognomen.gate.caller import Caller, peer
from cognomen.gate.gate import HoldsIdentity, Identify, Limits, listen
from cognomen.gate.unixrpc import Server, serve
from cognomen.protocol.errors import Refused

__all__ = ["Act", "As", "Doing", "answer", "never", "raw", "read_on", "served", "translate"]

Act = Callable[[Call], Awaitable[None]]


class As:
    """Names callers of any uid: the next one's is set by the test."""

    uid = 0

    def __call__(self, sock: socket.socket, *, accepted_at: float) -> Caller:
        return replace(peer(sock, accepted_at=accepted_at), uid=self.uid, owner=None)


class Doing:
    """Two methods that do what the test gives them."""

    def __init__(self, act: Act) -> None:
        self._act = act

    def __mapping__(self) -> Mapping[str, Handler]:
        return {
            "/test.Doing/Do": Handler(self._act, Cardinality.UNARY_UNARY, HealthCheckRequest, HealthCheckResponse),
            "/test.Doing/Stream": Handler(self._act, Cardinality.UNARY_STREAM, HealthCheckRequest, HealthCheckResponse),
            "/grpc.health.v1.Health/Check": Handler(
                self._act, Cardinality.UNARY_UNARY, HealthCheckRequest, HealthCheckResponse
            ),
        }


async def answer(call: Call) -> None:
    """Read the request, and say that all is well."""
    await call.recv_message()
    await call.send_message(HealthCheckResponse(status=HealthCheckResponse.SERVING))


async def never(call: Call) -> None:
    """Say something and then wait for the end."""
    await call.recv_message()
    await call.send_message(HealthCheckResponse())
    await asyncio.Event().wait()


def translate(err: Exception) -> tuple[Status, str]:
    if isinstance(err, Refused):
        return Status.PERMISSION_DENIED, err.detail
    return Status.INTERNAL, "internal error"


@asynccontextmanager
async def served(
    path: Path,
    act: Act = answer,
    *,
    limits: Limits | None = None,
    identify: Identify = peer,
    holds_identity: HoldsIdentity = lambda _: False,
) -> AsyncIterator[Server]:
    """A server on that path, of all methods of which a call does that."""
    async with serve(
        listen(path, 0o600),
        lambda _: [Doing(act)],
        limits or Limits(),
        translate=translate,
        identify=identify,
        holds_identity=holds_identity,
    ) as server:
        yield server


async def raw(path: Path, *sent: bytes) -> bytes:
    """Send bytes, and read until the server closes."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.writelines(sent)
    try:
        async with asyncio.timeout(10):
            return await read_on(reader)
    finally:
        writer.close()


async def read_on(reader: asyncio.StreamReader) -> bytes:
    found = b""
    try:
        while chunk := await reader.read(65_536):
            found += chunk
    except ConnectionResetError:
        pass  # the server closed before it had read everything
    return found
