"""svid.tls's gRPC servers: there is no way to a method past the check, whoever added the method, the port or the interceptor."""

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, cast

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

import svid
from bench.rig.loops import in_own_loop
from svid.errors import JWTSVIDError
from svid.integrations.grpc_checks import BearerCheck, PeerCheck
from svid.integrations.grpc_client import grpc_channel
from svid.integrations.grpc_server import grpc_aio_interceptor, grpc_aio_server, grpc_interceptor, grpc_server
from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID
from svid.tls.authorize import Authorizer, exactly
from tests.doubles.grpcrunning import running
from tests.doubles.identity import CLIENT, SERVER, Identity

SERVICE = "test.Who"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Ports:
    """Where a server listens: with our TLS, and without any; and how often it was asked."""

    def __init__(self, secure: int, plain: int) -> None:
        self.secure = secure
        self.plain = plain
        self.asked: list[str] = []


Serve: TypeAlias = "Callable[[Identity, Authorizer], contextlib.AbstractContextManager[Ports]]"


def _handlers(make: Callable[[str], Callable[[object, object], object]]) -> grpc.GenericRpcHandler:
    """One method of each kind."""
    methods = {kind: getattr(grpc, f"{kind}_rpc_method_handler")(make(kind)) for kind in KINDS}
    return grpc.method_handlers_generic_handler(SERVICE, methods)


@contextlib.contextmanager
def blocking(server: Identity, authorize: Authorizer) -> Iterator[Ports]:
    ports = Ports(0, 0)

    def make(kind: str) -> Callable[[object, object], object]:
        def returns(_: object, __: object) -> bytes:
            ports.asked.append(kind)
            return b"hello"

        def yields(_: object, __: object) -> Iterator[bytes]:
            ports.asked.append(kind)
            yield b"hello"

        return yields if kind.endswith("stream") else returns

    check, workers = PeerCheck(server, authorize), ThreadPoolExecutor(4)
    door, ports.secure = grpc_server("127.0.0.1:0", check, workers, handlers=[_handlers(make)])
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), door)
    reflection.enable_server_reflection([SERVICE], door)
    ports.plain = door.add_insecure_port("127.0.0.1:0")
    with running(door):
        yield ports


@contextlib.contextmanager
def asynchronous(server: Identity, authorize: Authorizer) -> Iterator[Ports]:
    ports = Ports(0, 0)

    def make(kind: str) -> Callable[[object, object], object]:
        async def returns(_: object, __: object) -> bytes:
            ports.asked.append(kind)
            return b"hello"

        async def yields(_: object, __: object) -> AsyncIterator[bytes]:
            ports.asked.append(kind)
            yield b"hello"

        return yields if kind.endswith("stream") else returns

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[None]:
        check = PeerCheck(server, authorize)
        running, ports.secure = grpc_aio_server("127.0.0.1:0", check, handlers=[_handlers(make)])
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), running)
        reflection.enable_server_reflection([SERVICE], running)
        ports.plain = running.add_insecure_port("127.0.0.1:0")
        await running.start()
        try:
            yield
        finally:
            await running.stop(0)

    with in_own_loop(serving):
        yield ports


SERVERS = pytest.mark.parametrize("serve", [blocking, asynchronous])


def answers(channel: grpc.Channel, method: str, kind: str, request: bytes = b"") -> bytes:
    """Call a method of that kind, and give all that it answers."""
    calls = getattr(channel, kind)(method)
    reply = calls(iter([request]) if kind.startswith("stream") else request, timeout=10)
    return b"".join(reply) if kind.endswith("stream") else reply


LIST = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
METHODS = [
    *((f"/{SERVICE}/{kind}", kind, b"") for kind in KINDS),
    ("/grpc.health.v1.Health/Check", "unary_unary", health_pb2.HealthCheckRequest().SerializeToString()),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "stream_stream", LIST),
]


@SERVERS
def test_who_is_wanted_is_served_by_every_method(serve: Serve, client: Identity, server: Identity) -> None:
    with (
        serve(server, lambda peer: peer == CLIENT) as ports,
        grpc_channel(f"127.0.0.1:{ports.secure}", client, exactly(SERVER)) as channel,
    ):
        for method, kind, request in METHODS:
            assert answers(channel, method, kind, request)
        assert ports.asked == list(KINDS)


def fail(_: SpiffeID) -> bool:
    raise LookupError("a bug of the service's")


@SERVERS
@pytest.mark.parametrize("authorize", [exactly(SERVER), lambda _: False, lambda _: 1, fail], ids=range(4))
def test_who_is_not_wanted_reaches_no_method(
    serve: Serve, authorize: Authorizer, client: Identity, server: Identity
) -> None:
    with (
        serve(server, authorize) as ports,
        grpc_channel(f"127.0.0.1:{ports.secure}", client, exactly(SERVER)) as channel,
    ):
        for method, kind, request in METHODS:
            with pytest.raises(grpc.RpcError) as error:
                answers(channel, method, kind, request)
            assert cast("grpc.Call", error.value).code() is grpc.StatusCode.PERMISSION_DENIED, method
        assert not ports.asked


@SERVERS
def test_a_second_port_without_tls_leads_to_no_method(serve: Serve, server: Identity) -> None:
    with serve(server, lambda _: True) as ports, grpc.insecure_channel(f"127.0.0.1:{ports.plain}") as channel:
        for method, kind, request in METHODS:
            with pytest.raises(grpc.RpcError) as error:
                answers(channel, method, kind, request)
            assert cast("grpc.Call", error.value).code() is grpc.StatusCode.UNAUTHENTICATED, method
        assert not ports.asked


class NoTokens:
    """A verifier that takes no token."""

    def verify(self, token: str, audience: str | Collection[str]) -> JWTSVID:
        raise JWTSVIDError(f"{token}: expected one for {audience}")


def test_nothing_public_makes_credentials_of_a_port() -> None:
    for name in svid.__all__:
        assert "ServerCredentials" not in str(inspect.signature(getattr(svid, name))), name


def test_a_server_is_made_of_a_check_and_of_nothing_else(server: Identity) -> None:
    bearer = BearerCheck(NoTokens(), audience="db", authorize=exactly(CLIENT))
    with ThreadPoolExecutor(1) as workers:
        for check in (server, exactly(CLIENT), bearer, None):
            with pytest.raises(TypeError, match="check: expected a PeerCheck, found"):
                grpc_server("127.0.0.1:0", check, workers)  # type: ignore[arg-type]  # the mistake
            with pytest.raises(TypeError, match="check: expected a PeerCheck, found"):
                grpc_aio_server("127.0.0.1:0", check)  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize("make", [grpc_interceptor, grpc_aio_interceptor])
def test_an_interceptor_is_made_of_a_check_and_of_nothing_else(
    make: Callable[[object], object], server: Identity
) -> None:
    for check in (lambda _: False, exactly(CLIENT), server, None):
        with pytest.raises(TypeError, match="check: expected a BearerCheck or a PeerCheck, found"):
            make(check)


async def later(_: SpiffeID) -> bool:
    return True


def test_a_check_is_made_of_a_source_and_an_authorizer_in_that_order(server: Identity) -> None:
    for source, authorize in ((exactly(CLIENT), server), (server, None), (server, CLIENT), (server, later)):
        with pytest.raises(TypeError, match="expected"):
            PeerCheck(source, authorize)  # type: ignore[arg-type]  # the mistake
    for tokens, wanted in ((exactly(CLIENT), NoTokens()), (NoTokens(), None), (NoTokens(), later)):
        with pytest.raises(TypeError, match="expected"):
            BearerCheck(tokens, audience="db", authorize=wanted)  # type: ignore[arg-type]  # the mistake
