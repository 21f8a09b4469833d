"""From the attestor's word about callers to a connection, a call or a request: a real source, and what it admits and ends."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from svid.errors import AuthorizationError, JWTSVIDError, WorkloadAPIError
from svid.integrations.bearer import verify_bearer
from svid.integrations.grpc_checks import BearerCheck, PeerCheck
from svid.integrations.grpc_client import grpc_channel
from svid.integrations.grpc_server import grpc_interceptor, grpc_server
from svid.spiffeid import SpiffeID
from svid.tls.authorize import exactly
from svid.tls.connections import CheckedSocket, peer_id
from svid.tls.context import LiveContext, client_context, server_context
from svid.tls.declared import declared
from svid.tls.refusals import OutdatedHandshakeError, UndeclaredPeerError, UnknownCallersError, UnwantedPeerError
from svid.tls.reports import Reason, Refusal
from svid.workloadapi.sources import JWTSource, X509Source
from tests.doubles.callersapi import CallersDouble, listed
from tests.doubles.denialsapi import DenialsDouble
from tests.doubles.fail import Fail
from tests.doubles.grpcrunning import running
from tests.doubles.identity import CLIENT, SERVER, Identity
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.workloadapi import WorkloadAPIDouble

OTHER = SpiffeID.parse("spiffe://example.org/other")
SHORT = timedelta(milliseconds=300)


@pytest.fixture
def callers() -> CallersDouble:
    return CallersDouble({SERVER: [CLIENT]})


@pytest.fixture
def api(tmp_path: Path, domain: TrustDomainDouble, callers: CallersDouble) -> Iterator[WorkloadAPIDouble]:
    with WorkloadAPIDouble(tmp_path, denials=DenialsDouble(), callers=callers) as double:
        double.say("FetchX509SVID", domain.answer(domain.svid("/server")))
        double.say("FetchJWTBundles", domain.jwt_answer())
        yield double


@pytest.fixture
def source(api: WorkloadAPIDouble) -> Iterator[X509Source]:
    with X509Source(api.socket) as source:
        yield source


def connect(door: LiveContext, client: Identity, leaving: ExitStack) -> tuple[CheckedSocket, CheckedSocket]:
    """Both ends of a connection; raises what the door raises."""
    near, far = socket.socketpair()
    leaving.callback(near.close)
    leaving.callback(far.close)
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(door.wrap_socket, far, server_side=True)
        mine = leaving.enter_context(closing(client_context(client, exactly(SERVER)).wrap_socket(near)))
        theirs = leaving.enter_context(closing(accepted.result(10)))
    assert isinstance(mine, CheckedSocket)
    assert isinstance(theirs, CheckedSocket)
    return mine, theirs


def test_a_connection_ends_when_its_peer_is_no_longer_declared(
    source: X509Source, callers: CallersDouble, client: Identity
) -> None:
    refusals: list[Refusal] = []
    authorize = declared(source)
    authorize.wait()
    door = server_context(source, authorize, on_refused=refusals.append)
    with ExitStack() as leaving, ThreadPoolExecutor(1) as pool:
        mine, theirs = connect(door, client, leaving)
        mine.sendall(b"hello")
        assert theirs.recv(5) == b"hello"
        callers.declare({SERVER: [CLIENT, OTHER]})
        waiting = pool.submit(theirs.recv, 1)
        callers.declare({SERVER: [OTHER]})
        with pytest.raises(UndeclaredPeerError, match=f"peer: {CLIENT} is no longer a declared caller"):
            waiting.result(10)
        with pytest.raises(UnwantedPeerError, match=f"expected a declared caller of {SERVER}, found {CLIENT}"):
            connect(door, client, leaving)
    assert [(one.reason, one.peer) for one in refusals] == [(Reason.NOT_ALLOWED, CLIENT)] * 2


async def test_a_connection_of_asyncio_ends_as_well(
    source: X509Source, callers: CallersDouble, client: Identity
) -> None:
    authorize = declared(source)
    await authorize.ready()
    ended: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(peer_id(writer.get_extra_info("ssl_object"))).encode())
        try:
            await reader.read()
        except AuthorizationError as e:
            ended.set_result(e)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context(source, authorize))
    async with server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_context(client, exactly(SERVER)), server_hostname="x"
        )
        assert (await reader.read(100)).decode() == str(CLIENT)
        callers.declare({SERVER: []})
        assert isinstance(await asyncio.wait_for(ended, 10), UndeclaredPeerError)
        writer.close()


def test_a_caller_that_left_the_list_while_it_was_admitted_is_ended(
    source: X509Source, callers: CallersDouble, client: Identity
) -> None:
    """Between the authorizer's answer and the moment from which the connection can be ended."""
    authorize = declared(source)
    authorize.wait()

    class Slow:
        """The same authorizer, after whose answer the list changes."""

        is_unwanted, subscribe = authorize.is_unwanted, authorize.subscribe

        def __call__(self, peer: SpiffeID) -> None:
            authorize(peer)
            changed = threading.Event()
            authorize.subscribe(changed.set)
            callers.declare({SERVER: []})
            assert changed.wait(10)

    with ExitStack() as leaving, pytest.raises(UndeclaredPeerError):
        connect(server_context(source, Slow()), client, leaving)


def test_an_open_call_ends_when_its_caller_is_no_longer_declared_and_goes_on_when_nobody_says(
    source: X509Source, callers: CallersDouble, client: Identity
) -> None:
    go_on, over = threading.Event(), threading.Event()

    def talk(_: bytes, __: object) -> Iterator[bytes]:
        yield b"hello"
        go_on.wait(10)
        yield b"still"
        over.wait(10)

    service = grpc.method_handlers_generic_handler("test.Open", {"Talk": grpc.unary_stream_rpc_method_handler(talk)})
    authorize = declared(source)
    authorize.wait()
    server, port = grpc_server("127.0.0.1:0", PeerCheck(source, authorize), ThreadPoolExecutor(4), handlers=[service])
    with running(server), grpc_channel(f"localhost:{port}", client, exactly(SERVER)) as channel:
        method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/test.Open/Talk")
        replies = method(b"", timeout=20)
        assert next(replies) == b"hello"
        gone = threading.Event()
        authorize.subscribe(gone.set)
        callers.opening = [Fail(grpc.StatusCode.PERMISSION_DENIED)]
        callers.say(Fail(grpc.StatusCode.PERMISSION_DENIED))
        assert gone.wait(10)
        go_on.set()
        assert next(replies) == b"still"
        refused = method(b"", timeout=20)
        assert refused.code() is grpc.StatusCode.UNAVAILABLE
        callers.opening = None
        authorize.wait()
        callers.declare({SERVER: []})
        assert replies.code() is grpc.StatusCode.PERMISSION_DENIED
        assert method(b"", timeout=20).code() is grpc.StatusCode.PERMISSION_DENIED
        over.set()


def test_a_call_with_a_token_ends_when_its_caller_is_no_longer_declared(
    api: WorkloadAPIDouble, callers: CallersDouble, domain: TrustDomainDouble
) -> None:
    over = threading.Event()

    def talk(_: bytes, __: object) -> Iterator[bytes]:
        yield b"hello"
        over.wait(10)

    service = grpc.method_handlers_generic_handler("test.Open", {"Talk": grpc.unary_stream_rpc_method_handler(talk)})
    with JWTSource(api.socket) as tokens:
        authorize = declared(tokens)
        authorize.wait()
        check = BearerCheck(tokens, audience="db", authorize=authorize)
        server = grpc.server(ThreadPoolExecutor(4), handlers=[service], interceptors=[grpc_interceptor(check)])
        port = server.add_insecure_port("127.0.0.1:0")
        with running(server), grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/test.Open/Talk")
            metadata = (("authorization", f"Bearer {domain.token('/client', 'db')}"),)
            replies = method(b"", timeout=20, metadata=metadata)
            assert next(replies) == b"hello"
            callers.declare({SERVER: [OTHER]})
            assert replies.code() is grpc.StatusCode.PERMISSION_DENIED
            over.set()


def test_a_token_of_a_caller_that_is_not_declared_is_refused(
    api: WorkloadAPIDouble, callers: CallersDouble, domain: TrustDomainDouble
) -> None:
    header = f"Bearer {domain.token('/client', 'db')}"
    with JWTSource(api.socket) as tokens:
        authorize = declared(tokens)
        authorize.wait()
        assert verify_bearer(header, tokens, audience="db", authorize=authorize).spiffe_id == CLIENT
        changed = threading.Event()
        authorize.subscribe(changed.set)
        callers.declare({SERVER: None})
        assert changed.wait(10)
        with pytest.raises(AuthorizationError, match="no rule declares who may call the default identity"):
            verify_bearer(header, tokens, audience="db", authorize=authorize)
        with pytest.raises(JWTSVIDError):
            verify_bearer("", tokens, audience="db", authorize=authorize)


def test_until_the_first_answer_everybody_is_refused(
    source: X509Source, callers: CallersDouble, client: Identity
) -> None:
    callers.opening = [listed({SERVER: [CLIENT]}, more=True)]
    authorize = declared(source)
    callers.wait_for_streams(1)
    with pytest.raises(WorkloadAPIError, match="has not said yet who may call"):
        authorize.wait(SHORT)
    door = server_context(source, authorize)
    with ExitStack() as leaving:
        with pytest.raises(OutdatedHandshakeError, match="callers: the Workload API has not said yet who may call"):
            connect(door, client, leaving)
        callers.say(listed({SERVER: [OTHER]}))
        authorize.wait()
        connect(door, client, leaving)


def test_an_attestor_that_does_not_say_who_may_call_is_named_and_everybody_is_refused(
    tmp_path: Path, domain: TrustDomainDouble, client: Identity
) -> None:
    with WorkloadAPIDouble(tmp_path) as other:
        other.say("FetchX509SVID", domain.answer(domain.svid("/server")))
        with X509Source(other.socket) as source, ExitStack() as leaving:
            authorize = declared(source)
            with pytest.raises(WorkloadAPIError, match="only Cognomen's attestor tells who may call") as refused:
                authorize.wait()
            assert refused.value.code == "UNIMPLEMENTED"
            with pytest.raises(OutdatedHandshakeError, match="does not say who may call"):
                connect(server_context(source, authorize), client, leaving)


def test_a_closed_source_admits_nobody_and_leaves_no_thread(api: WorkloadAPIDouble, callers: CallersDouble) -> None:
    source = X509Source(api.socket)
    authorize = declared(source)
    assert declared(source) is not authorize
    authorize.wait()
    callers.wait_for_streams(1)
    assert "svid-callers" in [one.name for one in threading.enumerate()]
    source.close()
    assert [one.name for one in threading.enumerate() if one.name.startswith("svid-")] == []
    with pytest.raises(UnknownCallersError, match="closed"):
        authorize(CLIENT)
    with pytest.raises(WorkloadAPIError, match="closed"):
        declared(source)


def test_a_callback_may_close_the_source(source: X509Source, callers: CallersDouble) -> None:
    authorize = declared(source)
    authorize.wait()
    closed = threading.Event()

    def close() -> None:
        source.close()
        closed.set()

    authorize.subscribe(close)
    callers.declare({SERVER: []})
    assert closed.wait(10)


def test_a_context_that_is_gone_is_told_no_more(source: X509Source) -> None:
    followed = source.declared_callers()
    followed.wait(timedelta(seconds=10))
    before = followed.subscribers
    door = server_context(source, declared(source))
    assert followed.subscribers == before + 1
    del door
    assert followed.subscribers == before
