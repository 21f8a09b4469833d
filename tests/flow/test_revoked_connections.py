"""From the attestor's word to the end of a connection: a real source, a real connection, and the receipt that says so."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from svid.errors import RevokedError
from svid.integrations.asgi_guard import JWTGuard
from svid.integrations.grpc_checks import PeerCheck
from svid.integrations.grpc_client import grpc_channel
from svid.integrations.grpc_server import grpc_server
from svid.tls.authorize import exactly
from svid.tls.context import client_context, server_context
from svid.wire.denials import Enforced
from svid.workloadapi.sources import JWTSource, X509Source
from tests.doubles.denialsapi import DenialsDouble
from tests.doubles.grpcrunning import running
from tests.doubles.identity import CLIENT, SERVER, Identity
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.workloadapi import WorkloadAPIDouble


@pytest.fixture
def denials() -> DenialsDouble:
    return DenialsDouble()


@pytest.fixture
def api(tmp_path: Path, domain: TrustDomainDouble, denials: DenialsDouble) -> Iterator[WorkloadAPIDouble]:
    with WorkloadAPIDouble(tmp_path, denials=denials) as double:
        double.say("FetchX509SVID", domain.answer(domain.svid("/server")))
        double.say("FetchJWTBundles", domain.jwt_answer())
        yield double


def test_a_connection_ends_and_the_attestor_is_told_by_whom(
    api: WorkloadAPIDouble, denials: DenialsDouble, client: Identity
) -> None:
    with X509Source(api.socket) as source, ThreadPoolExecutor(1) as pool:
        context = server_context(source, exactly(CLIENT))
        near, far = socket.socketpair()
        accepted = pool.submit(context.wrap_socket, far, server_side=True)
        with (
            closing(client_context(client, exactly(SERVER)).wrap_socket(near)) as mine,
            closing(accepted.result(10)) as theirs,
        ):
            mine.sendall(b"hello")
            assert theirs.recv(5) == b"hello"
            waiting = pool.submit(theirs.recv, 1)
            epoch = denials.deny(client.svid.serial)
            with pytest.raises(RevokedError, match="was revoked"):
                waiting.result(10)
            denials.wait_for_receipts(Enforced(point="server_context", epoch=epoch))


def test_an_open_call_ends(api: WorkloadAPIDouble, denials: DenialsDouble, client: Identity) -> None:
    over = threading.Event()

    def talk(_: bytes, __: object) -> Iterator[bytes]:
        yield b"hello"
        over.wait(10)

    service = grpc.method_handlers_generic_handler("test.Open", {"Talk": grpc.unary_stream_rpc_method_handler(talk)})
    with X509Source(api.socket) as source:
        check = PeerCheck(source, exactly(CLIENT))
        server, port = grpc_server("127.0.0.1:0", check, ThreadPoolExecutor(2), handlers=[service])
        with running(server), grpc_channel(f"localhost:{port}", client, exactly(SERVER)) as channel:
            method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/test.Open/Talk")
            replies = method(b"", timeout=10)
            assert next(replies) == b"hello"
            denials.deny(client.svid.serial)
            assert replies.code() is grpc.StatusCode.UNAUTHENTICATED
            over.set()


def test_a_guard_says_which_denials_it_enforces(api: WorkloadAPIDouble, denials: DenialsDouble) -> None:
    async def app(*_: object) -> None:
        raise AssertionError

    with JWTSource(api.socket) as source:
        guard = JWTGuard(app, source=source, audience="db", authorize=exactly(CLIENT))
        epoch = denials.deny(7)
        denials.wait_for_receipts(Enforced(point="JWTGuard", epoch=epoch))
        del guard
