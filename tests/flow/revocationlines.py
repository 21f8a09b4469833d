"""Lines through each integration of svid.tls, over which a test sees what passes before and after a revocation.

A line leads from a peer, who may be revoked, to an enforcement point. Each message on it says whose it is and when it was sent, so that
whoever receives one after the peer's revocation knows whether it was sent after it as well: then it should not have come.
"""

import asyncio
import contextlib
import queue
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import grpc
import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bench.rig.loops import accepting, in_own_loop, leave_nothing_open
from svid.integrations.asgi_guard import JWTGuard
from svid.integrations.grpc_checks import BearerCheck, PeerCheck
from svid.integrations.grpc_client import grpc_aio_channel, grpc_channel
from svid.integrations.grpc_server import grpc_aio_server, grpc_interceptor, grpc_server
from svid.integrations.httpx_client import httpx_async_client, httpx_client
from svid.integrations.requests_session import requests_session
from svid.integrations.urllib_opener import urllib_opener
from svid.tls.authorize import any_in, exactly
from svid.tls.connections import end_when_revoked
from svid.tls.context import client_context, server_context
from tests.doubles.grpcrunning import running
from tests.doubles.identity import SERVER, Identity, KnowingIdentity, KnowingTokens
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.uvicornrunning import uvicorn_on

__all__ = ["INTEGRATIONS", "Line", "Open", "Peer", "World"]

_TALK = "/test.Talk/Talk"
_SECONDS = 20

Line: TypeAlias = Callable[[], None]
"""Sends a message and receives the answer."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Somebody who may be revoked, and the number by which that is said: an X.509 serial, or a token's."""

    number: int
    identity: Identity
    token: str


Open: TypeAlias = Callable[[Peer], contextlib.AbstractContextManager[Line]]
"""Opens a line of a peer's."""


@dataclass(kw_only=True)
class World:
    """A trust domain, what the enforcement points know, and when the last message of each peer was sent that came.

    Attributes:
        point: the end of a connection that enforces.
        tokens: the verifier that enforces.
    """

    domain: TrustDomainDouble
    point: KnowingIdentity = field(init=False)
    tokens: KnowingTokens = field(init=False)
    last: dict[int, float] = field(default_factory=dict)
    passed: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _made: int = 0

    def __post_init__(self) -> None:
        self.point = KnowingIdentity(self.domain.svid("/server"), self.domain.bundle)
        self.tokens = KnowingTokens(self.domain.bundle)

    def peer(self, *, by_token: bool) -> Peer:
        """Make somebody new; on lines to other clients it is a server."""
        self._made += 1
        svid = self.domain.svid("/server")
        token = self.domain.token("/server", "db", jti=f"{self._made:032x}")
        number = self._made if by_token else svid.serial
        return Peer(number=number, identity=Identity(svid, self.domain.bundle), token=token)

    def message(self, number: int) -> bytes:
        """Say something now, on that peer's line."""
        return f"{number:x} {time.perf_counter():.9f}\n".encode()

    def receive(self, message: bytes) -> int:
        """Take note of what came; whose it is."""
        if not message:
            raise ConnectionResetError("the other end hung up")
        number, sent = message.split()
        with self._lock:
            whose = int(number, 16)
            self.last[whose] = max(self.last.get(whose, 0.0), float(sent))
            self.passed[whose] = self.passed.get(whose, 0) + 1
        return whose

    def answer(self, message: bytes) -> bytes:
        """Take note of what came, and say something back."""
        return self.message(self.receive(message))

    def app(self, *, echoes: bool = False) -> Starlette:
        """The same as an ASGI app.

        Args:
            echoes: the answer is what came, as old as it is: behind a guard the response to a request that was admitted goes on.
        """

        async def answer(request: Request) -> PlainTextResponse:
            message = await request.body()
            said = self.answer(message)
            return PlainTextResponse(message if echoes else said)

        return Starlette(routes=[Route("/", answer, methods=["POST"])])


# Servers and clients of the standard library


@contextlib.contextmanager
def _blocking_server(world: World, source: Identity) -> Iterator[int]:
    """A thread for each connection."""
    context = server_context(source, any_in(world.domain.name))

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, context.wrap_socket(connection, server_side=True) as tls:
            while message := tls.recv():
                tls.sendall(world.answer(message))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,)).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept)
        accepting.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


@contextlib.contextmanager
def _asyncio_server(world: World, source: Identity) -> Iterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while message := await reader.readline():
                writer.write(world.answer(message))
                await writer.drain()

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[int]:
        context = server_context(source, any_in(world.domain.name))
        async with accepting(await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)) as port:
            yield port

    with in_own_loop(serving) as port:
        yield port


@contextlib.contextmanager
def _blocking_line(world: World, ours: Identity, number: int, port: int) -> Iterator[Line]:
    context = client_context(ours, exactly(SERVER))
    plain = socket.create_connection(("127.0.0.1", port), timeout=_SECONDS)
    with plain, context.wrap_socket(plain) as connection:

        def pass_one() -> None:
            connection.sendall(world.message(number))
            world.receive(connection.recv())

        yield pass_one


@contextlib.contextmanager
def _asyncio_line(world: World, ours: Identity, number: int, port: int) -> Iterator[Line]:
    context = client_context(ours, exactly(SERVER))

    async def pass_one() -> None:
        writer.write(world.message(number))
        world.receive(await asyncio.wait_for(reader.readline(), _SECONDS))

    with asyncio.Runner() as runner:
        reader, writer = runner.run(_connect(port, context))
        try:
            yield lambda: runner.run(pass_one())
        finally:
            runner.run(leave_nothing_open())


async def _connect(port: int, context: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    end_when_revoked(writer.transport)
    return reader, writer


# HTTP


def _uvicorn(loop: Literal["asyncio", "uvloop"]) -> "Serve":
    return lambda world, source: uvicorn_on(world.app(), source, any_in(world.domain.name), loop=loop)


@contextlib.contextmanager
def _guarded_app(world: World, _: Identity) -> Iterator[int]:
    """Behind a JWTGuard; who connects is somebody who is never revoked."""
    guard = JWTGuard(world.app(echoes=True), source=world.tokens, audience="db", authorize=any_in(world.domain.name))
    unrevoked = world.peer(by_token=False).identity
    with uvicorn_on(guard, unrevoked, any_in(world.domain.name)) as port:
        yield port


@contextlib.contextmanager
def _httpx_line(world: World, ours: Identity, number: int, port: int, token: str = "") -> Iterator[Line]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    with httpx_client(ours, exactly(SERVER)) as client:
        client.timeout = httpx.Timeout(_SECONDS)

        def pass_one() -> None:
            answer = client.post(f"https://127.0.0.1:{port}/", content=world.message(number), headers=headers)
            world.receive(answer.raise_for_status().content)

        yield pass_one


@contextlib.contextmanager
def _httpx_async_line(world: World, ours: Identity, number: int, port: int) -> Iterator[Line]:
    async def pass_one() -> None:
        answer = await client.post(f"https://127.0.0.1:{port}/", content=world.message(number), timeout=_SECONDS)
        world.receive(answer.content)

    with asyncio.Runner() as runner:
        client = httpx_async_client(ours, exactly(SERVER))
        try:
            yield lambda: runner.run(pass_one())
        finally:
            runner.run(client.aclose())
            runner.run(leave_nothing_open())


@contextlib.contextmanager
def _requests_line(world: World, ours: Identity, number: int, port: int) -> Iterator[Line]:
    with requests_session(ours, exactly(SERVER)) as session:

        def pass_one() -> None:
            answer = session.post(f"https://127.0.0.1:{port}/", data=world.message(number), timeout=_SECONDS)
            world.receive(answer.content)

        yield pass_one


@contextlib.contextmanager
def _urllib_line(world: World, ours: Identity, number: int, port: int) -> Iterator[Line]:
    opener = urllib_opener(ours, exactly(SERVER))

    def pass_one() -> None:
        with opener.open(f"https://127.0.0.1:{port}/", world.message(number), timeout=_SECONDS) as answer:
            world.receive(answer.read())

    yield pass_one


# gRPC: one open stream is a line


@contextlib.contextmanager
def _grpc_server(world: World, source: Identity, *others: grpc.ServerInterceptor) -> Iterator[int]:
    def talk(messages: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        for message in messages:
            yield world.answer(message)

    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Talk": grpc.stream_stream_rpc_method_handler(talk)}
    service = grpc.method_handlers_generic_handler("test.Talk", methods)
    check = PeerCheck(source, any_in(world.domain.name))
    server, port = grpc_server("127.0.0.1:0", check, ThreadPoolExecutor(16), interceptors=others, handlers=[service])
    with running(server):
        yield port


@contextlib.contextmanager
def _grpc_aio_server(world: World, source: Identity) -> Iterator[int]:
    async def talk(messages: AsyncIterator[bytes], _: "grpc.aio.ServicerContext[bytes, bytes]") -> AsyncIterator[bytes]:
        async for message in messages:
            yield world.answer(message)

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[int]:
        server, port = grpc_aio_server("127.0.0.1:0", PeerCheck(source, any_in(world.domain.name)))
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Talk": grpc.stream_stream_rpc_method_handler(talk)}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Talk", methods)])
        await server.start()
        try:
            yield port
        finally:
            await server.stop(0)

    with in_own_loop(serving) as port:
        yield port


@contextlib.contextmanager
def _bearer_checked(world: World, _: Identity) -> Iterator[int]:
    """A gRPC server that looks at tokens; who connects is somebody who is never revoked."""
    check = BearerCheck(world.tokens, audience="db", authorize=any_in(world.domain.name))
    with _grpc_server(world, world.peer(by_token=False).identity, grpc_interceptor(check)) as port:
        yield port


@contextlib.contextmanager
def _grpc_line(world: World, ours: Identity, number: int, port: int, token: str = "") -> Iterator[Line]:
    messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with grpc_channel(f"127.0.0.1:{port}", ours, exactly(SERVER)) as channel:
        talk: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(_TALK)
        answers = talk(iter(messages.get, None), metadata=(("authorization", f"Bearer {token}"),) if token else ())

        def pass_one() -> None:
            messages.put(world.message(number))
            world.receive(next(answers, b""))

        try:
            yield pass_one
        finally:
            messages.put(None)
            answers.cancel()


@contextlib.contextmanager
def _grpc_aio_channel(world: World) -> Iterator[Open]:
    """All lines in one loop: grpc.aio has one poller for a process."""

    @contextlib.asynccontextmanager
    async def running_loop() -> AsyncIterator[asyncio.AbstractEventLoop]:
        yield asyncio.get_running_loop()

    with in_own_loop(running_loop) as loop:

        def reach(world: World, ours: Identity, number: int, port: int) -> contextlib.AbstractContextManager[Line]:
            return _grpc_aio_line(world, ours, number, port, loop)

        with _client(reach, _grpc_server)(world) as open_line:
            yield open_line


@contextlib.contextmanager
def _grpc_aio_line(
    world: World, ours: Identity, number: int, port: int, loop: asyncio.AbstractEventLoop
) -> Iterator[Line]:
    leaving = contextlib.AsyncExitStack()

    async def begin() -> "grpc.aio.StreamStreamCall[bytes, bytes]":
        channel = await leaving.enter_async_context(grpc_aio_channel(f"127.0.0.1:{port}", ours, exactly(SERVER)))
        talk: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(_TALK)
        return talk()

    async def pass_one() -> None:
        try:
            await call.write(world.message(number))
        except asyncio.InvalidStateError as e:  # as grpc.aio says that the call has ended
            raise ConnectionResetError(str(e)) from e
        answer = await asyncio.wait_for(call.read(), _SECONDS)
        world.receive(answer if isinstance(answer, bytes) else b"")

    async def end() -> None:
        call.cancel()
        await leaving.aclose()

    call = asyncio.run_coroutine_threadsafe(begin(), loop).result()
    try:
        yield lambda: asyncio.run_coroutine_threadsafe(pass_one(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result()


# Which of them enforces


Serve: TypeAlias = Callable[[World, Identity], contextlib.AbstractContextManager[int]]
_Reach: TypeAlias = Callable[[World, Identity, int, int], contextlib.AbstractContextManager[Line]]
_Run: TypeAlias = Callable[[World], contextlib.AbstractContextManager[Open]]


def _server(serve: Serve, reach: _Reach) -> _Run:
    """The server enforces; peers are its clients."""

    @contextlib.contextmanager
    def run(world: World) -> Iterator[Open]:
        with serve(world, world.point) as port:
            yield lambda peer: reach(world, peer.identity, peer.number, port)

    return run


def _client(reach: _Reach, serve: Serve) -> _Run:
    """The client enforces; each peer is a server of its own."""

    @contextlib.contextmanager
    def run(world: World) -> Iterator[Open]:
        ports: dict[int, int] = {}
        lock = threading.Lock()

        def open_line(peer: Peer) -> contextlib.AbstractContextManager[Line]:
            with lock:
                if peer.number not in ports:
                    ports[peer.number] = servers.enter_context(serve(world, peer.identity))
            return reach(world, world.point, peer.number, ports[peer.number])

        with contextlib.ExitStack() as servers:
            yield open_line

    return run


@contextlib.contextmanager
def _guard(world: World) -> Iterator[Open]:
    with _guarded_app(world, world.point) as port:
        yield lambda peer: _httpx_line(world, peer.identity, peer.number, port, peer.token)


@contextlib.contextmanager
def _bearer(world: World) -> Iterator[Open]:
    with _bearer_checked(world, world.point) as port:
        yield lambda peer: _grpc_line(world, peer.identity, peer.number, port, peer.token)


BY_TOKEN = {"JWTGuard": _guard, "BearerCheck": _bearer}
BY_CERTIFICATE = {
    "blocking sockets: server": _server(_blocking_server, _blocking_line),
    "blocking sockets: client": _client(_blocking_line, _blocking_server),
    "asyncio: server": _server(_asyncio_server, _asyncio_line),
    "asyncio: client": _client(_asyncio_line, _asyncio_server),
    "uvicorn on asyncio": _server(_uvicorn("asyncio"), _httpx_line),
    "uvicorn on uvloop": _server(_uvicorn("uvloop"), _httpx_line),
    "httpx": _client(_httpx_line, _uvicorn("asyncio")),
    "httpx in asyncio": _client(_httpx_async_line, _uvicorn("asyncio")),
    "requests": _client(_requests_line, _uvicorn("asyncio")),
    "urllib": _client(_urllib_line, _uvicorn("asyncio")),
    "grpc: server": _server(_grpc_server, _grpc_line),
    "grpc.aio: server": _server(_grpc_aio_server, _grpc_line),
    "grpc: channel": _client(_grpc_line, _grpc_server),
    "grpc.aio: channel": _grpc_aio_channel,
}
INTEGRATIONS = {**BY_CERTIFICATE, **BY_TOKEN}
