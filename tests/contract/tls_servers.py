"""The servers of svid.tls, each made as people make it, with one application that says who was asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc

from bench.rig.loops import accepting, in_own_loop
from svid.integrations.grpc_checks import PeerCheck
from svid.integrations.grpc_server import grpc_aio_server, grpc_server
from svid.tls.authorize import exactly
from svid.tls.context import server_context
from tests.doubles.grpcrunning import running
from tests.doubles.identity import CLIENT, Identity
from tests.doubles.uvicornrunning import uvicorn_on
from tests.doubles.webserver import web_server

__all__ = ["Served", "blocking", "by_asyncio", "by_grpc", "by_grpc_aio", "by_uvicorn"]


@dataclass(slots=True, kw_only=True)
class Served:
    """Where a server listens, and how often its application was asked."""

    port: int = 0
    asked: list[str] = field(default_factory=list)


@contextlib.contextmanager
def blocking(server: Identity) -> Iterator[Served]:
    with web_server(server_context(server, exactly(CLIENT))) as seen:
        yield Served(port=seen.port, asked=seen.heads)


@contextlib.contextmanager
def in_a_loop(serving: Callable[[Served], contextlib.AbstractAsyncContextManager[None]]) -> Iterator[Served]:
    """Serve in a thread of its own."""
    served = Served()
    with in_own_loop(lambda: serving(served)):
        yield served


@contextlib.contextmanager
def by_asyncio(server: Identity) -> Iterator[Served]:
    @contextlib.asynccontextmanager
    async def serving(served: Served) -> AsyncIterator[None]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
                served.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")

        context = server_context(server, exactly(CLIENT))
        async with accepting(await asyncio.start_server(answer, "127.0.0.1", ssl=context)) as served.port:
            yield

    with in_a_loop(serving) as served:
        yield served


@contextlib.contextmanager
def by_uvicorn(server: Identity) -> Iterator[Served]:
    served = Served()

    async def app(scope: dict[str, object], _: object, send: Callable[[dict[str, object]], object]) -> None:
        if scope["type"] == "http":
            served.asked.append(str(scope["path"]))
            await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[misc]  # ASGI
            await send({"type": "http.response.body", "body": b"hello"})  # type: ignore[misc]  # ASGI

    with uvicorn_on(app, server, exactly(CLIENT)) as served.port:
        yield served


@contextlib.contextmanager
def by_grpc(server: Identity) -> Iterator[Served]:
    served = Served()

    def say(_: bytes, __: grpc.ServicerContext) -> bytes:
        served.asked.append("Say")
        return b""

    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Say": grpc.unary_unary_rpc_method_handler(say)}
    check, workers = PeerCheck(server, exactly(CLIENT)), ThreadPoolExecutor(2)
    handlers = [grpc.method_handlers_generic_handler("test.Who", methods)]
    door, served.port = grpc_server("127.0.0.1:0", check, workers, handlers=handlers)
    with running(door):
        yield served


@contextlib.contextmanager
def by_grpc_aio(server: Identity) -> Iterator[Served]:
    @contextlib.asynccontextmanager
    async def serving(served: Served) -> AsyncIterator[None]:
        async def say(_: bytes, __: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
            served.asked.append("Say")
            return b""

        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {"Say": grpc.unary_unary_rpc_method_handler(say)}
        handlers = [grpc.method_handlers_generic_handler("test.Who", methods)]
        door, served.port = grpc_aio_server("127.0.0.1:0", PeerCheck(server, exactly(CLIENT)), handlers=handlers)
        await door.start()
        yield
        await door.stop(0)

    with in_a_loop(serving) as served:
        yield served
