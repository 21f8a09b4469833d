"""What both gRPC channels of svid.tls keep: whatever way leads to a server that is not wanted, it is refused, and it is told nothing."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import grpc
import pytest

from svid.integrations.grpc_checks import PeerCheck
from svid.integrations.grpc_client import grpc_aio_channel, grpc_channel
from svid.integrations.grpc_server import grpc_server
from svid.tls.authorize import exactly
from tests.contract.tls_clients import SECRET, World
from tests.doubles.grpcrunning import running
from tests.doubles.identity import SERVER, Identity
from tests.doubles.webserver import proxy


@dataclass(slots=True, kw_only=True)
class Asked:
    """A gRPC server, and the calls that it got."""

    port: int = 0
    methods: list[str] = field(default_factory=list)


class _Note(grpc.GenericRpcHandler):
    """Answers every method, and notes it."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        self._asked.methods.append(handler_call_details.method)
        return grpc.unary_unary_rpc_method_handler(lambda _, __: b"hello")


@contextlib.contextmanager
def grpc_of_the_web(world: World) -> Iterator[Asked]:
    asked = Asked()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[_Note(asked)])
    pem = (world.web.path.parent / "localhost.pem").read_bytes()
    asked.port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(pem, pem)]))
    with running(server):
        yield asked


@contextlib.contextmanager
def grpc_of(identity: Identity) -> Iterator[Asked]:
    asked = Asked()
    check = PeerCheck(identity, lambda _: True)
    server, asked.port = grpc_server("127.0.0.1:0", check, ThreadPoolExecutor(2), handlers=[_Note(asked)])
    with running(server):
        yield asked


@contextlib.contextmanager
def grpc_of_another_member(world: World) -> Iterator[Asked]:
    with grpc_of(Identity(world.domain.svid("/other"), world.domain.bundle)) as asked:
        yield asked


Options: TypeAlias = tuple[tuple[str, object], ...]


def by_grpc(client: Identity, port: int, options: Options) -> bytes:
    with grpc_channel(f"localhost:{port}", client, exactly(SERVER), options=options) as channel:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Who/Say")
        return method(b"secret", timeout=10, metadata=tuple(SECRET.items()))


def by_grpc_aio(client: Identity, port: int, options: Options) -> bytes:
    async def ask() -> bytes:
        async with grpc_aio_channel(f"localhost:{port}", client, exactly(SERVER), options=options) as channel:
            method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Who/Say")
            return await method(b"secret", timeout=10, metadata=tuple(SECRET.items()))

    return asyncio.run(ask())


GRPC_CLIENTS = pytest.mark.parametrize("ask", [by_grpc, by_grpc_aio])
GRPC_WAYS: Mapping[str, tuple[tuple[str, ...], Callable[[str], Options]]] = {
    "direct": ((), lambda _: ()),
    "variables": (("http_proxy", "https_proxy", "grpc_proxy", "HTTPS_PROXY", "ALL_PROXY"), lambda _: ()),
    "options": ((), lambda url: (("grpc.http_proxy", url), ("grpc.enable_http_proxy", 1))),
    "name": ((), lambda _: (("grpc.ssl_target_name_override", "localhost"), ("grpc.default_authority", "localhost"))),
}


@GRPC_CLIENTS
@pytest.mark.parametrize("way", GRPC_WAYS)
@pytest.mark.parametrize("unwanted", [grpc_of_the_web, grpc_of_another_member])
def test_a_grpc_server_that_is_not_wanted_is_refused_whatever_way_leads_to_it(
    ask: Callable[[Identity, int, Options], bytes],
    way: str,
    unwanted: Callable[[World], contextlib.AbstractContextManager[Asked]],
    world: World,
) -> None:
    variables, options = GRPC_WAYS[way]
    with unwanted(world) as server, proxy() as between:
        for name in variables:
            world.environment.setenv(name, f"http://localhost:{between.port}")
        with pytest.raises(grpc.RpcError):
            ask(world.client, server.port, options(f"http://localhost:{between.port}"))
        assert not server.methods
        assert not between.heads


@GRPC_CLIENTS
@pytest.mark.parametrize("way", GRPC_WAYS)
def test_the_grpc_server_that_is_wanted_answers_by_the_same_ways(
    ask: Callable[[Identity, int, Options], bytes],
    way: str,
    world: World,
) -> None:
    variables, options = GRPC_WAYS[way]
    with grpc_of(world.server) as wanted, proxy() as between:
        for name in variables:
            world.environment.setenv(name, f"http://localhost:{between.port}")
        assert ask(world.client, wanted.port, options(f"http://localhost:{between.port}")) == b"hello"


async def test_no_channel_is_made_of_arguments_in_the_wrong_order(client: Identity) -> None:
    with (
        pytest.raises(TypeError, match="source: expected"),
        grpc_channel("localhost:1", exactly(SERVER), client),  # type: ignore[arg-type]  # the mistake
    ):
        pass
    with pytest.raises(TypeError, match="source: expected"):
        async with grpc_aio_channel("localhost:1", exactly(SERVER), client):  # type: ignore[arg-type]  # the mistake
            pass
