"""Connections and calls that outlive the SVID of their peer, for a day: the next word of the issuer's ends them; by real TLS."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import pytest
import uvloop

from bench.rig.loops import leave_nothing_open
from svid.denials import OPEN_FOR
from svid.errors import RevokedError
from svid.integrations.grpc_checks import PeerCheck
from svid.integrations.grpc_client import grpc_channel
from svid.integrations.grpc_server import grpc_server
from svid.tls.authorize import matching
from svid.tls.connections import end_when_revoked
from svid.tls.context import client_context, server_context
from svid.tls.refusals import EndedPeerError, OutlivedPeerError, RevokedPeerError
from tests.doubles.clock import FakeClock
from tests.doubles.grpcrunning import running
from tests.doubles.identity import Identity, KnowingIdentity
from tests.doubles.trustdomain import TrustDomainDouble

ANYBODY = matching(lambda _: True)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture
def clock(domain: TrustDomainDouble) -> FakeClock:
    return FakeClock(domain.now.replace(microsecond=0))  # certificates end with a second


@pytest.fixture
def knowing(domain: TrustDomainDouble) -> KnowingIdentity:
    """The server, whose source knows of denials; the client's SVID lives for an hour."""
    return KnowingIdentity(domain.svid("/server"), domain.bundle)


@pytest.fixture
def ends(clock: FakeClock, client: Identity, knowing: KnowingIdentity) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """The client's end of a connection, and the server's."""
    of_client, of_server = client_context(client, ANYBODY), server_context(knowing, ANYBODY, clock=clock)
    near, far = socket.socketpair()
    for end in (near, far):
        end.settimeout(10)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(of_server.wrap_socket, far, server_side=True)
        with of_client.wrap_socket(near) as mine, other.result() as theirs:
            yield mine, theirs


def a_word_comes(knowing: KnowingIdentity, domain: TrustDomainDouble) -> None:
    """The issuer says that it is there, and nothing more."""
    knowing.revoke(domain.name)


def test_a_connection_ends_a_day_after_its_peers_svid_and_not_before(
    clock: FakeClock, domain: TrustDomainDouble, knowing: KnowingIdentity, ends: tuple[ssl.SSLSocket, ssl.SSLSocket]
) -> None:
    near, far = ends
    clock.advance(HOUR + OPEN_FOR)
    a_word_comes(knowing, domain)
    near.sendall(b"hello")
    assert far.recv(5) == b"hello"
    clock.advance(MINUTE)
    near.sendall(b"late")
    a_word_comes(knowing, domain)
    with pytest.raises(OutlivedPeerError, match=r"at most 1 day ago, found one of spiffe://example\.org/client") as why:
        far.recv(4)
    assert isinstance(why.value, EndedPeerError)
    assert not isinstance(why.value, RevokedError)
    with pytest.raises(OutlivedPeerError):
        far.sendall(b"late")
    assert near.recv(1) == b""


def test_it_can_be_denied_until_then_and_says_so(
    clock: FakeClock, client: Identity, knowing: KnowingIdentity, ends: tuple[ssl.SSLSocket, ssl.SSLSocket]
) -> None:
    clock.advance(HOUR + OPEN_FOR)
    knowing.revoke_svid(client.svid)
    with pytest.raises(RevokedPeerError):
        ends[1].recv(1)


def test_a_thread_that_waits_in_a_read_wakes_up(
    clock: FakeClock, domain: TrustDomainDouble, knowing: KnowingIdentity, ends: tuple[ssl.SSLSocket, ssl.SSLSocket]
) -> None:
    clock.advance(HOUR + OPEN_FOR + MINUTE)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ends[1].recv, 1)
        a_word_comes(knowing, domain)
        with pytest.raises(OutlivedPeerError):
            waiting.result(10)


def test_who_hears_often_looks_once_a_minute(
    clock: FakeClock, domain: TrustDomainDouble, knowing: KnowingIdentity, ends: tuple[ssl.SSLSocket, ssl.SSLSocket]
) -> None:
    near, far = ends
    clock.advance(HOUR + OPEN_FOR)
    a_word_comes(knowing, domain)
    clock.advance(MINUTE - timedelta(seconds=1))
    a_word_comes(knowing, domain)
    near.sendall(b"hello")
    assert far.recv(5) == b"hello"
    clock.advance(1)
    a_word_comes(knowing, domain)
    with pytest.raises(OutlivedPeerError):
        far.recv(1)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_idle_stream_ends(
    factory: Callable[[], asyncio.AbstractEventLoop],
    clock: FakeClock,
    domain: TrustDomainDouble,
    client: Identity,
    knowing: KnowingIdentity,
) -> None:
    async def run() -> None:
        accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Future()
        context = server_context(knowing, ANYBODY, clock=clock)
        listening = await asyncio.start_server(lambda *ends: accepted.set_result(ends), "127.0.0.1", 0, ssl=context)
        port = listening.sockets[0].getsockname()[1]
        near, to_close = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(client, ANYBODY))
        reader, writer = await accepted
        with contextlib.closing(listening), contextlib.closing(to_close):
            end_when_revoked(writer.transport)
            clock.advance(HOUR + OPEN_FOR + MINUTE)
            await asyncio.to_thread(a_word_comes, knowing, domain)
            with pytest.raises(OutlivedPeerError):
                await reader.read(1)
            with contextlib.suppress(ConnectionError):
                assert await near.read() == b""

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(run(), 20))
        runner.run(leave_nothing_open())


def test_an_open_call_of_a_grpc_server_ends(
    clock: FakeClock, domain: TrustDomainDouble, client: Identity, knowing: KnowingIdentity
) -> None:
    over = threading.Event()

    def talk(_: bytes, __: object) -> Iterator[bytes]:
        yield b"hello"
        over.wait(10)

    service = grpc.method_handlers_generic_handler("test.Open", {"Talk": grpc.unary_stream_rpc_method_handler(talk)})
    check = PeerCheck(knowing, ANYBODY, clock=clock)
    server, port = grpc_server("127.0.0.1:0", check, ThreadPoolExecutor(2), handlers=[service])
    with running(server), grpc_channel(f"127.0.0.1:{port}", client, ANYBODY) as channel:
        method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/test.Open/Talk")
        replies = method(b"", timeout=10)
        assert next(replies) == b"hello"
        clock.advance(HOUR + OPEN_FOR + MINUTE)
        a_word_comes(knowing, domain)
        assert replies.code() is grpc.StatusCode.UNAUTHENTICATED
        over.set()
