"""What every gRPC server of svid.tls tells of a refusal: one warning, one count, one call of `on_refused`; and its peer learns no more."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import grpc
import pytest

from bench.rig.loops import in_own_loop
from svid.integrations.grpc_checks import BearerCheck, PeerCheck
from svid.integrations.grpc_client import grpc_channel
from svid.integrations.grpc_server import grpc_aio_interceptor, grpc_aio_server, grpc_interceptor, grpc_server
from svid.tls.authorize import exactly
from svid.tls.reports import Reason
from tests.contract.refusals import Told, check, counted
from tests.contract.tls_clients import World
from tests.doubles.grpcrunning import running
from tests.doubles.identity import CLIENT, SERVER, Identity, KnowingIdentity, KnowingTokens

METHOD = "/test.Who/Say"

Check: TypeAlias = PeerCheck | BearerCheck


@contextlib.contextmanager
def on_grpc(me: Identity, check: Check) -> Iterator[int]:
    peer_check = check if isinstance(check, PeerCheck) else PeerCheck(me, lambda _: True)
    extra = [grpc_interceptor(check)] if isinstance(check, BearerCheck) else []

    def stay(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"begun"
        while context.is_active():
            threading.Event().wait(0.01)

    say: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(lambda _, __: b"hello")
    methods = {"Say": say, "Stay": grpc.unary_stream_rpc_method_handler(stay)}
    handlers = [grpc.method_handlers_generic_handler("test.Who", methods)]
    server, port = grpc_server("127.0.0.1:0", peer_check, ThreadPoolExecutor(2), handlers=handlers, interceptors=extra)
    with running(server):
        yield port


@contextlib.contextmanager
def on_grpc_aio(me: Identity, check: Check) -> Iterator[int]:
    async def say(_: object, __: object) -> bytes:
        return b"hello"

    async def stay(_: object, __: object) -> AsyncIterator[bytes]:
        yield b"begun"
        await asyncio.Event().wait()

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[int]:
        peer_check = check if isinstance(check, PeerCheck) else PeerCheck(me, lambda _: True)
        extra = [grpc_aio_interceptor(check)] if isinstance(check, BearerCheck) else []
        saying: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(say)
        staying: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(stay)
        handlers = [grpc.method_handlers_generic_handler("test.Who", {"Say": saying, "Stay": staying})]
        server, port = grpc_aio_server("127.0.0.1:0", peer_check, handlers=handlers, interceptors=extra)
        await server.start()
        try:
            yield port
        finally:
            await server.stop(None)

    with in_own_loop(serving) as port:
        yield port


GRPC_SERVERS = pytest.mark.parametrize("serve", [on_grpc, on_grpc_aio])
ServeGRPC: TypeAlias = Callable[[Identity, Check], contextlib.AbstractContextManager[int]]


def call_grpc(me: Identity, port: int, token: str = "") -> str:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    with grpc_channel(f"127.0.0.1:{port}", me, lambda _: True) as channel:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        with pytest.raises(grpc.RpcError) as caught:
            method(b"", timeout=10, metadata=metadata)
    return f"{caught.value.code().name}: {caught.value.details()}"


@GRPC_SERVERS
@pytest.mark.parametrize("reason", [Reason.NOT_ALLOWED, Reason.REVOKED, Reason.UNAVAILABLE])
def test_a_grpc_server_tells_whom_it_refuses_by_its_certificate(
    serve: ServeGRPC, reason: Reason, world: World, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("server_context", reason)
    me = KnowingIdentity(world.server.svid, world.domain.bundle)
    with serve(me, PeerCheck(me, exactly(SERVER if reason is Reason.NOT_ALLOWED else CLIENT), on_refused=told)) as port:
        if reason is Reason.REVOKED:
            me.revoke_svid(world.client.svid)
        elif reason is Reason.UNAVAILABLE:
            me.deny()
        answer = call_grpc(world.client, port)
        refusal = told.one()
    answers = {
        Reason.NOT_ALLOWED: "PERMISSION_DENIED: forbidden",
        Reason.REVOKED: "UNAUTHENTICATED: unauthenticated",
        Reason.UNAVAILABLE: "UNAVAILABLE: unavailable",
    }
    assert answer == answers[reason]
    assert (refusal.reason, refusal.peer) == (reason, None if reason is Reason.UNAVAILABLE else CLIENT)
    assert refusal.address.startswith("127.0.0.1:")
    check(refusal, caplog, before)


@GRPC_SERVERS
def test_a_grpc_server_tells_of_a_token_that_is_not_wanted(
    serve: ServeGRPC, world: World, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("BearerCheck", Reason.NOT_ALLOWED)
    bearer = BearerCheck(KnowingTokens(world.domain.bundle), audience="db", authorize=exactly(SERVER), on_refused=told)
    with serve(world.server, bearer) as port:
        assert call_grpc(world.client, port, world.domain.token("/client", "db")) == "PERMISSION_DENIED: forbidden"
        refusal = told.one()
    assert (refusal.reason, refusal.peer) == (Reason.NOT_ALLOWED, CLIENT)
    assert refusal.address.startswith("127.0.0.1:")
    check(refusal, caplog, before)


@GRPC_SERVERS
def test_a_call_that_ends_because_its_caller_is_revoked_is_told_of_once(
    serve: ServeGRPC, world: World, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("server_context", Reason.REVOKED)
    me = KnowingIdentity(world.server.svid, world.domain.bundle)
    with (
        serve(me, PeerCheck(me, exactly(CLIENT), on_refused=told)) as port,
        grpc_channel(f"127.0.0.1:{port}", world.client, lambda _: True) as channel,
    ):
        method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/test.Who/Stay")
        answers = method(b"", timeout=10)
        assert next(answers) == b"begun"
        me.revoke_svid(world.client.svid)
        with pytest.raises(grpc.RpcError, match="unauthenticated"):
            next(answers)
        refusal = told.one()
    assert (refusal.reason, refusal.peer) == (Reason.REVOKED, CLIENT)
    assert refusal.address.startswith("127.0.0.1:")
    check(refusal, caplog, before)
