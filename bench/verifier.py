"""One of a hundred processes that verify: it reports when it learned that the peer of its open connection was revoked.

Times are those of time.perf_counter, which is one clock (CLOCK_MONOTONIC) in all processes.
"""

import asyncio
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection

from bench.target import AUDIENCE
from svid import (
    JWTGuard,
    JWTSource,
    LiveContext,
    RevokedError,
    SpiffeID,
    TrustDomain,
    X509Source,
    client_context,
    exactly,
)
from svid.integrations.asgi_guard import Message, Receive, Send

__all__ = ["POINTS", "Refusals", "Shown", "hold", "verify"]

POINTS = 2
"""How many enforcement points a verifier has: a context and a guard."""

_HOLD_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a verifier gets: the address of its peer, the peer's chain (DER, leaf first), and a token."""

    port: int
    chain: bytes
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusals:
    """When the open connection ended, and since when a handshake and a token that were accepted before are refused."""

    connection: float
    handshake: float
    token: float


def verify(endpoint: str, target: SpiffeID, pipe: "Connection[Refusals | bool | None, Shown | None]") -> None:
    """Verify one peer after the other, as the pipe says; None ends it. The log is written, but nobody reads it."""
    logging.basicConfig(filename=os.devnull)
    with X509Source(endpoint) as x509, JWTSource(endpoint) as jwt, asyncio.Runner() as runner:
        context = client_context(x509, exactly(target))
        door = _Door(jwt, target, runner)
        pipe.send(None)
        while (shown := pipe.recv()) is not None:
            with closing(_connect(context, shown.port)) as connection:
                connection.recv(1)
                if not door.admits(shown.token):
                    raise AssertionError("the token is valid before it is revoked")
                pipe.send(None)
                ended = _end_of(connection)
                pipe.send(_refusals(ended, context, door, shown))
            pipe.recv()
            pipe.send(_is_refused(context, shown.port))


def hold(endpoint: str, trust_domain: TrustDomain, pipe: "Connection[None, int]") -> None:
    """Hold the denials, and report when that number is among them."""
    with X509Source(endpoint) as source:
        pipe.send(None)
        number = pipe.recv()
        while not source.is_denied(trust_domain, number):
            time.sleep(_HOLD_SECONDS)
        pipe.send(None)
        pipe.recv()


class _Door:
    """An app behind a JWTGuard."""

    def __init__(self, source: JWTSource, target: SpiffeID, runner: asyncio.Runner) -> None:
        async def app(_: Message, __: Receive, send: Send, /) -> None:
            await send({"type": "http.response.start", "status": 200})

        self._guard = JWTGuard(app, source=source, audience=AUDIENCE, authorize=exactly(target))
        self._runner = runner
        self._denied = threading.Event()
        source.on_denied(lambda *_: self._denied.set(), point="JWTGuard")  # one receipt for both

    def wait_for_denial(self) -> None:
        self._denied.wait()
        self._denied.clear()

    def admits(self, token: str) -> bool:
        return self._runner.run(self._status(token)) == 200

    async def _status(self, token: str) -> object:
        said: list[Message] = []

        async def receive() -> Message:
            raise AssertionError("a guard reads no body")

        async def send(message: Message) -> None:
            said.append(message)

        scope: Message = {"type": "http", "headers": [(b"authorization", f"Bearer {token}".encode())]}
        await self._guard(scope, receive, send)
        return said[0]["status"]


def _connect(context: LiveContext, port: int) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port)))


def _end_of(connection: ssl.SSLSocket) -> float:
    """Read until the peer is denied; returns when that was."""
    try:
        while connection.recv(1):
            pass
    except RevokedError:
        return time.perf_counter()
    raise AssertionError("the peer goes on sending until it is revoked")


def _refusals(ended: float, context: LiveContext, door: _Door, shown: Shown) -> Refusals:
    """Show the chain and the token, each when it should be refused, so that nothing polls."""
    handshake = time.perf_counter()
    if not _is_chain_refused(context, [shown.chain]):
        raise AssertionError("who is denied is refused before connections end")
    door.wait_for_denial()
    if door.admits(shown.token):
        raise AssertionError("a token that is denied is refused before a point is told")
    return Refusals(connection=ended, handshake=handshake, token=time.perf_counter())


def _is_chain_refused(context: LiveContext, chain: Sequence[bytes]) -> bool:
    try:
        context.admit(chain)
    except RevokedError:
        return True
    return False


def _is_refused(context: LiveContext, port: int) -> bool:
    """Whether a whole handshake is refused."""
    try:
        _connect(context, port).close()
    except RevokedError:
        return True
    return False
