"""What both gRPC servers and channels of svid.tls keep once the other side's credential is denied: open calls end, and nothing passes."""

import asyncio
import contextlib
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from queue import SimpleQueue
from typing import Protocol, TypeAlias, TypeVar, cast

import grpc
import pytest
import uvloop

from bench.rig.loops import in_own_loop
from svid.integrations.grpc_calls import Behaviour
from svid.integrations.grpc_checks import BearerCheck, PeerCheck
from svid.integrations.grpc_client import grpc_aio_channel, grpc_channel
from svid.integrations.grpc_server import (
    grpc_aio_interceptor,
    grpc_aio_server,
    grpc_interceptor,
    grpc_server,
    guarded_method,
)
from svid.spiffeid import SpiffeID
from svid.tls.authorize import exactly
from svid.tls.reports import Refusal
from tests.doubles.clock import FakeClock
from tests.doubles.grpcrunning import running
from tests.doubles.identity import CLIENT, SERVER, Identity, KnowingIdentity, KnowingTokens
from tests.doubles.trustdomain import TrustDomainDouble

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")

_SECONDS = 10
_END = b""
BIG = bytes(1 << 20)


@dataclass(slots=True, kw_only=True)
class Served:
    """A server, and what came to its methods."""

    port: int = 0
    got: list[bytes] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    """Set when a method has ended."""


Authorize: TypeAlias = Callable[[SpiffeID], bool]


class Serve(Protocol):
    """Serve with a check, and with one of tokens behind it."""

    def __call__(
        self, check: PeerCheck, bearer: BearerCheck | None = None
    ) -> contextlib.AbstractContextManager[Served]: ...


def _service(talk: object, collect: object, pour: object, pour_plainly: object) -> grpc.GenericRpcHandler:
    kinds = {
        "Talk": ("stream_stream", talk),
        "Collect": ("stream_unary", collect),
        "Pour": ("unary_stream", pour),
        "PourPlainly": ("unary_stream", pour_plainly),
    }
    methods = {name: getattr(grpc, f"{kind}_rpc_method_handler")(method) for name, (kind, method) in kinds.items()}
    return grpc.method_handlers_generic_handler("test.Open", methods)


class Plain:
    """All that gRPC asks of a stream of replies: no iterator in the sense of collections.abc."""

    def __init__(self, messages: Iterator[bytes]) -> None:
        self._messages = messages

    def __next__(self) -> bytes:
        return next(self._messages)


@contextlib.contextmanager
def blocking(check: PeerCheck, bearer: BearerCheck | None = None) -> Iterator[Served]:
    served = Served()

    def talk(requests: Iterator[bytes], _: object) -> Iterator[bytes]:
        try:
            for request in requests:
                served.got.append(request)
                yield request
        finally:
            served.over.set()

    def collect(requests: Iterator[bytes], _: object) -> bytes:
        try:
            served.got.extend(requests)
            return b"all"
        finally:
            served.over.set()

    def pour(_: bytes, __: object) -> Iterator[bytes]:
        try:
            while True:
                served.got.append(b"poured")
                yield BIG
        finally:
            served.over.set()

    def pour_plainly(request: bytes, context: object) -> Plain:
        return Plain(pour(request, context))

    server, served.port = grpc_server(
        "127.0.0.1:0",
        check,
        ThreadPoolExecutor(4),
        handlers=[_service(talk, collect, pour, pour_plainly)],
        interceptors=[grpc_interceptor(bearer)] if bearer else [],
    )
    with running(server):
        yield served


@contextlib.contextmanager
def asynchronous(check: PeerCheck, bearer: BearerCheck | None = None) -> Iterator[Served]:
    served = Served()

    async def talk(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        try:
            async for request in requests:
                served.got.append(request)
                yield request
        finally:
            served.over.set()

    async def collect(_: object, context: "grpc.aio.ServicerContext[object, object]") -> bytes:
        """By the context, which is gRPC's other way to messages."""
        try:
            while (request := await context.read()) is not grpc.aio.EOF:
                served.got.append(cast("bytes", request))
            return b"all"
        finally:
            served.over.set()

    async def pour(_: bytes, __: object) -> AsyncIterator[bytes]:
        try:
            while True:
                served.got.append(b"poured")
                yield BIG
        finally:
            served.over.set()

    async def pour_plainly(_: bytes, context: "grpc.aio.ServicerContext[object, object]") -> None:
        try:
            while True:
                served.got.append(b"poured")
                await context.write(BIG)
        finally:
            served.over.set()

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[None]:
        server, served.port = grpc_aio_server(
            "127.0.0.1:0",
            check,
            handlers=[_service(talk, collect, pour, pour_plainly)],
            interceptors=[grpc_aio_interceptor(bearer)] if bearer else [],
        )
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)

    with in_own_loop(serving):
        yield served


SERVERS = pytest.mark.parametrize("serve", [blocking, asynchronous])


class Talking:
    """A call of a blocking channel that sends what it is given."""

    def __init__(self, channel: grpc.Channel, method: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._given: SimpleQueue[bytes] = SimpleQueue()
        pieces = iter(self._given.get, _END)
        if method == "Talk":
            talk: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(f"/test.Open/{method}")
            self.answers = talk(pieces, timeout=_SECONDS, metadata=metadata)
            self._code = self.answers.code
        else:
            collect: grpc.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(f"/test.Open/{method}")
            self._code = collect.future(pieces, timeout=_SECONDS).code

    def say(self, message: bytes) -> None:
        self._given.put(message)

    def status(self) -> grpc.StatusCode:
        """How it ended."""
        try:
            return self._code()  # it waits for the end
        finally:
            self._given.put(_END)


@pytest.fixture
def knowing(domain: TrustDomainDouble) -> KnowingIdentity:
    """The server, whose source knows of denials."""
    return KnowingIdentity(domain.svid("/server"), domain.bundle)


@contextlib.contextmanager
def talking(served: Served, client: Identity, method: str) -> Iterator[Talking]:
    """A call that is open: one message went to the method."""
    with grpc_channel(f"localhost:{served.port}", client, exactly(SERVER)) as channel:
        call = Talking(channel, method)
        call.say(b"first")
        if method == "Talk":
            assert next(call.answers) == b"first"
        for _ in range(1000):
            if served.got:
                break
            served.over.wait(0.01)
        assert served.got == [b"first"]
        yield call


METHODS = pytest.mark.parametrize("method", ["Talk", "Collect"])
POURS = pytest.mark.parametrize("pour", ["Pour", "PourPlainly"])


class Pouring:
    """A call whose method sends for as long as it is let."""

    def __init__(self, channel: grpc.Channel, pour: str) -> None:
        method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"/test.Open/{pour}")
        self.answers = method(b"", timeout=_SECONDS)

    def status(self) -> grpc.StatusCode:
        """How it ends, read to its end."""
        with contextlib.suppress(grpc.RpcError):
            for _ in self.answers:
                pass
        return self.answers.code()


def wait_until_stuck(served: Served) -> None:
    """Return when the method has sent all that a caller takes who does not read."""
    seen, calm = 0, 0
    while calm < 20:
        served.over.wait(0.01)
        seen, calm = len(served.got), calm + 1 if served.got and len(served.got) == seen else 0


@SERVERS
def test_a_denied_caller_reaches_no_method(serve: Serve, client: Identity, knowing: KnowingIdentity) -> None:
    with serve(PeerCheck(knowing, exactly(CLIENT))) as served:
        knowing.revoke_svid(client.svid)
        with grpc_channel(f"localhost:{served.port}", client, exactly(SERVER)) as channel:
            call = Talking(channel, "Talk")
            call.say(b"secret")
            assert call.status() is grpc.StatusCode.UNAUTHENTICATED
        assert not served.got


@SERVERS
@METHODS
def test_an_idle_call_ends_at_once_when_its_caller_is_denied(
    serve: Serve, method: str, client: Identity, knowing: KnowingIdentity
) -> None:
    with serve(PeerCheck(knowing, exactly(CLIENT))) as served, talking(served, client, method) as call:
        knowing.revoke_svid(client.svid)
        assert call.status() is grpc.StatusCode.UNAUTHENTICATED
        assert served.over.wait(_SECONDS)


@SERVERS
@METHODS
def test_no_message_reaches_a_method_after_the_denial(
    serve: Serve, method: str, client: Identity, knowing: KnowingIdentity
) -> None:
    with serve(PeerCheck(knowing, exactly(CLIENT))) as served, talking(served, client, method) as call:
        for number in range(2000):
            call.say(b"%d" % number)
        knowing.revoke_svid(client.svid)
        at_the_denial = len(served.got)
        assert call.status() is grpc.StatusCode.UNAUTHENTICATED
        assert served.over.wait(_SECONDS)
        assert len(served.got) <= at_the_denial + 1  # which had been handed on, and not been noted yet


@SERVERS
@POURS
def test_a_call_whose_caller_does_not_read_ends_at_once(
    serve: Serve, pour: str, client: Identity, knowing: KnowingIdentity
) -> None:
    with (
        serve(PeerCheck(knowing, exactly(CLIENT))) as served,
        grpc_channel(f"localhost:{served.port}", client, exactly(SERVER)) as channel,
    ):
        call = Pouring(channel, pour)
        assert next(call.answers) == BIG
        wait_until_stuck(served)
        knowing.revoke_svid(client.svid)
        assert served.over.wait(_SECONDS)
        assert call.status() is grpc.StatusCode.UNAUTHENTICATED


@SERVERS
@POURS
def test_a_method_that_only_sends_is_asked_about_at_each_message(
    serve: Serve, pour: str, client: Identity, knowing: KnowingIdentity
) -> None:
    wanted = [True]
    with (
        serve(PeerCheck(knowing, lambda _: wanted[0])) as served,
        grpc_channel(f"localhost:{served.port}", client, exactly(SERVER)) as channel,
    ):
        call = Pouring(channel, pour)
        assert next(call.answers) == BIG
        wanted[0] = False
        assert call.status() is grpc.StatusCode.PERMISSION_DENIED


@SERVERS
@POURS
def test_a_denial_that_comes_while_a_caller_is_admitted_lets_it_reach_no_method(
    serve: Serve, pour: str, client: Identity, knowing: KnowingIdentity
) -> None:
    def deny(_: SpiffeID) -> bool:
        knowing.revoke_svid(client.svid)
        return True

    with (
        serve(PeerCheck(knowing, deny)) as served,
        grpc_channel(f"localhost:{served.port}", client, exactly(SERVER)) as channel,
    ):
        call = Pouring(channel, pour)
        assert call.status() is grpc.StatusCode.UNAUTHENTICATED
        assert not served.got


@SERVERS
def test_others_go_on(serve: Serve, domain: TrustDomainDouble, client: Identity, knowing: KnowingIdentity) -> None:
    other = Identity(domain.svid("/client"), domain.bundle)
    with (
        serve(PeerCheck(knowing, exactly(CLIENT))) as served,
        talking(served, other, "Talk") as unharmed,
        grpc_channel(f"localhost:{served.port}", client, exactly(SERVER)) as channel,
    ):
        denied = Talking(channel, "Talk")
        denied.say(b"hello")
        assert next(denied.answers)
        knowing.revoke_svid(client.svid)
        assert denied.status() is grpc.StatusCode.UNAUTHENTICATED
        unharmed.say(b"hello")
        assert next(unharmed.answers) == b"hello"
        unharmed.say(_END)


@SERVERS
def test_an_open_call_ends_when_the_bundle_of_its_caller_leaves(
    serve: Serve, domain: TrustDomainDouble, client: Identity, knowing: KnowingIdentity
) -> None:
    with serve(PeerCheck(knowing, exactly(CLIENT))) as served, talking(served, client, "Talk") as call:
        knowing.change(domain.svid("/server"))
        assert call.status() is grpc.StatusCode.UNAUTHENTICATED


@SERVERS
def test_an_open_call_ends_at_its_next_message_when_the_authorizer_thinks_otherwise(
    serve: Serve, client: Identity, knowing: KnowingIdentity
) -> None:
    wanted = [True]
    with serve(PeerCheck(knowing, lambda _: wanted[0])) as served, talking(served, client, "Talk") as call:
        wanted[0] = False
        call.say(b"secret")
        assert call.status() is grpc.StatusCode.PERMISSION_DENIED
        assert served.got == [b"first"]


@SERVERS
def test_an_old_truth_refuses_new_calls_and_no_open_one(
    serve: Serve, client: Identity, knowing: KnowingIdentity
) -> None:
    check = PeerCheck(knowing, exactly(CLIENT), refuse_after=timedelta(seconds=30))
    with serve(check) as served, talking(served, client, "Talk") as call:
        knowing.age = timedelta(minutes=1)
        call.say(b"second")
        assert next(call.answers) == b"second"
        with grpc_channel(f"localhost:{served.port}", client, exactly(SERVER)) as channel:
            assert Talking(channel, "Talk").status() is grpc.StatusCode.UNAVAILABLE
        call.say(_END)


@SERVERS
def test_an_open_call_outlives_the_svid_by_which_it_was_admitted(
    serve: Serve, domain: TrustDomainDouble, client: Identity, knowing: KnowingIdentity
) -> None:
    clock = FakeClock(domain.now)
    with serve(PeerCheck(knowing, exactly(CLIENT), clock=clock)) as served, talking(served, client, "Talk") as call:
        clock.jump(timedelta(hours=2))
        domain.rotate()
        knowing.change(knowing.svid, domain.bundle)
        call.say(b"second")
        assert next(call.answers) == b"second"
        with grpc_channel(f"localhost:{served.port}", client, exactly(SERVER)) as channel:
            assert Talking(channel, "Talk").status() is grpc.StatusCode.UNAUTHENTICATED
        call.say(_END)


# tokens


@SERVERS
@pytest.mark.parametrize("later", [timedelta(), timedelta(hours=1, minutes=4)], ids=["live", "over for four minutes"])
def test_an_open_call_ends_when_its_token_is_denied(
    serve: Serve, domain: TrustDomainDouble, client: Identity, server: Identity, later: timedelta
) -> None:
    tokens, clock = KnowingTokens(domain.bundle), FakeClock(domain.now)
    check = BearerCheck(tokens, audience="db", authorize=exactly(CLIENT), clock=clock)
    metadata = (("authorization", "Bearer " + domain.token("/client", "db", jti=f"{7:032x}")),)
    with (
        serve(PeerCheck(server, exactly(CLIENT)), check) as served,
        grpc_channel(f"localhost:{served.port}", client, exactly(SERVER)) as channel,
    ):
        call = Talking(channel, "Talk", metadata)
        call.say(b"first")
        assert next(call.answers) == b"first"
        clock.jump(later)
        tokens.revoke(domain.name, 7)
        assert call.status() is grpc.StatusCode.UNAUTHENTICATED
        assert Talking(channel, "Talk", metadata).status() is grpc.StatusCode.UNAUTHENTICATED
        assert served.got == [b"first"]


@SERVERS
def test_an_open_call_ends_five_minutes_after_its_token(
    serve: Serve, domain: TrustDomainDouble, client: Identity, server: Identity
) -> None:
    tokens, clock = KnowingTokens(domain.bundle), FakeClock(domain.now)
    check = BearerCheck(tokens, audience="db", authorize=exactly(CLIENT), clock=clock)
    token = domain.token("/client", "db", lifetime=timedelta(hours=1))
    with (
        serve(PeerCheck(server, exactly(CLIENT)), check) as served,
        grpc_channel(f"localhost:{served.port}", client, exactly(SERVER)) as channel,
    ):
        call = Talking(channel, "Talk", (("authorization", f"Bearer {token}"),))
        call.say(b"first")
        assert next(call.answers) == b"first"
        clock.advance(timedelta(hours=1, minutes=4))
        tokens.revoke(domain.name)  # a word of the issuer's, that denies nothing
        call.say(b"second")
        assert next(call.answers) == b"second"
        clock.advance(timedelta(minutes=1, seconds=1))
        tokens.revoke(domain.name)
        assert call.status() is grpc.StatusCode.UNAUTHENTICATED


class Outermost(grpc.aio.ServerInterceptor):
    """Notes how many cancellations of a method's task are left to whoever called the method."""

    def __init__(self) -> None:
        self.left: SimpleQueue[int] = SimpleQueue()

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[RequestT, ReplyT] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[RequestT, ReplyT] | None":
        def noting(behaviour: Behaviour) -> Behaviour:
            async def method(request: object, context: object) -> None:
                try:
                    await cast("Awaitable[None]", behaviour(request, context))
                finally:
                    task = asyncio.current_task()
                    assert task is not None
                    self.left.put(task.cancelling())

            return method

        return guarded_method(await continuation(handler_call_details), noting)


async def test_a_call_that_was_ended_is_not_cancelled_any_more_for_who_is_around_it(
    domain: TrustDomainDouble,
) -> None:
    tokens, outermost = KnowingTokens(domain.bundle), Outermost()

    async def talk(requests: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    check = BearerCheck(tokens, audience="db", authorize=exactly(CLIENT))
    server = grpc.aio.server(
        interceptors=[outermost, grpc_aio_interceptor(check)], handlers=[_service(talk, talk, talk, talk)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    metadata = (("authorization", "Bearer " + domain.token("/client", "db", jti=f"{7:032x}")),)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        calls: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/test.Open/Talk")
        call = calls(timeout=_SECONDS, metadata=metadata)
        await call.write(b"first")
        assert await call.read() == b"first"
        tokens.revoke(domain.name, 7)
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
    await server.stop(0)
    assert outermost.left.get_nowait() == 0


async def test_a_denial_that_comes_while_a_call_begins_to_answer_ends_it_with_a_status(
    domain: TrustDomainDouble,
) -> None:
    """The loop stands still from there to the denial, so that it hears of that first."""
    tokens, denied = KnowingTokens(domain.bundle), threading.Event()

    async def wait(_: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
        asyncio.get_running_loop().call_soon(denied.wait, _SECONDS)
        await context.send_initial_metadata(())
        await asyncio.Event().wait()

    def call(port: int) -> grpc.StatusCode:
        metadata = (("authorization", "Bearer " + domain.token("/client", "db", jti=f"{7:032x}")),)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/test.Open/Pour")
            answers = method(b"", timeout=_SECONDS, metadata=metadata)
            answers.initial_metadata()
            tokens.revoke(domain.name, 7)
            denied.set()
            return answers.code()

    check = BearerCheck(tokens, audience="db", authorize=exactly(CLIENT))
    server = grpc.aio.server(interceptors=[grpc_aio_interceptor(check)], handlers=[_service(wait, wait, wait, wait)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    assert await asyncio.to_thread(call, port) is grpc.StatusCode.UNAUTHENTICATED
    await server.stop(0)


@SERVERS
def test_a_call_that_is_over_is_not_refused_any_more(
    serve: Serve, domain: TrustDomainDouble, client: Identity, knowing: KnowingIdentity
) -> None:
    """Not in the log, nor in the counts, even while the garbage collector has not seen it yet."""
    told: list[Refusal] = []
    check = PeerCheck(knowing, exactly(CLIENT), on_refused=told.append)
    bearer = BearerCheck(KnowingTokens(domain.bundle), audience="db", authorize=exactly(CLIENT))
    gc.disable()
    try:
        with (
            serve(check, bearer) as served,
            grpc_channel(f"localhost:{served.port}", client, exactly(SERVER)) as channel,
        ):
            assert Talking(channel, "Talk").status() is grpc.StatusCode.UNAUTHENTICATED  # it has no token
        knowing.change(domain.svid("/server"))  # without a bundle
        knowing.revoke_svid(client.svid)
    finally:
        gc.enable()
    assert told == []


def test_a_check_that_nobody_uses_hears_of_no_changes(knowing: KnowingIdentity) -> None:
    check = PeerCheck(knowing, exactly(CLIENT))
    assert knowing.subscribers == 1
    del check
    gc.collect()
    assert knowing.subscribers == 0


# channels


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy])
def _policy(request: pytest.FixtureRequest) -> Iterator[None]:
    """By which the loop of a channel's relay is made."""
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(request.param())
    yield
    asyncio.set_event_loop_policy(before)


@pytest.fixture
def caller(domain: TrustDomainDouble) -> KnowingIdentity:
    """The client, whose source knows of denials."""
    return KnowingIdentity(domain.svid("/client"), domain.bundle)


@SERVERS
@pytest.mark.usefixtures("_policy")
def test_a_channel_ends_with_a_denied_server(
    serve: Serve, server: Identity, caller: KnowingIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(PeerCheck(server, exactly(CLIENT))) as served, talking(served, caller, "Talk") as call:
        assert not served.over.wait(0.3)  # until gRPC has nothing of its own to say, which would end it, too
        caller.revoke_svid(server.svid)
        assert call.status() is grpc.StatusCode.UNAVAILABLE
        assert "was revoked" in caplog.text
        with grpc_channel(f"localhost:{served.port}", caller, exactly(SERVER)) as channel:
            again = Talking(channel, "Talk")
            again.say(b"secret")
            assert again.status() is grpc.StatusCode.UNAVAILABLE
        assert served.got == [b"first"]


@SERVERS
def test_an_asynchronous_channel_ends_with_a_denied_server(
    serve: Serve, server: Identity, caller: KnowingIdentity
) -> None:
    async def run(served: Served) -> None:
        async with grpc_aio_channel(f"localhost:{served.port}", caller, exactly(SERVER)) as channel:
            calls: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/test.Open/Talk")
            call = calls(timeout=_SECONDS)
            await call.write(b"first")
            assert await call.read() == b"first"
            caller.revoke_svid(server.svid)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call.read()
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE

    with serve(PeerCheck(server, exactly(CLIENT))) as served:
        asyncio.run(run(served))
        assert served.got == [b"first"]
