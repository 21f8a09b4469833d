"""What every end of svid.tls keeps: nothing is served or asked over TLS below 1.3, and nothing over a resumed session.

The other end is stock TLS, by an identity that is wanted: the version and the session alone are what is wrong with it.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import grpc
import pytest
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived

from svid.tls.authorize import exactly
from svid.tls.context import client_context
from tests.contract.tls_clients import CLIENTS, GRPC_CLIENTS, How, World
from tests.contract.tls_servers import Served, blocking, by_asyncio, by_grpc, by_grpc_aio, by_uvicorn
from tests.doubles.identity import SERVER, Identity, KnowingIdentity
from tests.doubles.stocktls import StockContext, stock_context
from tests.doubles.webserver import web_server

_SECONDS = 10
_CALL = [
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/test.Who/Say"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


class CallRefusedError(Exception):
    """A call that was answered with another status than OK."""


UNAUTHENTICATED = (b"16", b"unauthenticated")
REFUSED = (OSError, EOFError, CallRefusedError)


# servers


def ask_http(port: int, context: StockContext) -> None:
    """Ask once, and keep the session for the next time."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as plain,
        context.wrap_socket(plain, session=context.kept) as near,
    ):
        near.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = b""
        while piece := near.recv(4096):
            answer += piece
        if not answer.startswith(b"HTTP/1.1 200"):
            raise EOFError
        assert not near.session_reused
        context.kept = near.session


def ask_grpc(port: int, context: StockContext) -> None:
    """Do the same by a call."""
    context.set_alpn_protocols(["h2"])
    call = H2Connection()
    call.initiate_connection()
    call.send_headers(1, _CALL)
    call.send_data(1, bytes(5), end_stream=True)  # an empty message
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as plain,
        context.wrap_socket(plain, session=context.kept) as near,
    ):
        said: dict[bytes, bytes] = {}
        while b"grpc-status" not in said:
            near.sendall(call.data_to_send())
            for event in call.receive_data(near.recv(4096) or _nothing()):
                if isinstance(event, ResponseReceived | TrailersReceived):
                    said.update(event.headers)
        context.kept = near.session
    if said[b"grpc-status"] != b"0":
        raise CallRefusedError(said[b"grpc-status"], said[b"grpc-message"])


def _nothing() -> bytes:
    raise EOFError


Serve: TypeAlias = Callable[[Identity], contextlib.AbstractContextManager[Served]]
Ask: TypeAlias = Callable[[int, StockContext], None]
SERVERS = pytest.mark.parametrize(
    ("serve", "ask"),
    [
        (blocking, ask_http),
        (by_asyncio, ask_http),
        (by_uvicorn, ask_http),
        (by_grpc, ask_grpc),
        (by_grpc_aio, ask_grpc),
    ],
)


@SERVERS
def test_a_client_below_tls_1_3_is_served_nothing(
    serve: Serve, ask: Ask, client: Identity, server: Identity, tmp_path: Path
) -> None:
    old, new = (stock_context(client, tmp_path, server_side=False) for _ in range(2))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with serve(server) as served:
        with pytest.raises(REFUSED) as refused:
            ask(served.port, old)
        assert not served.asked
        if ask is ask_grpc:  # whose TLS cannot be told to have 1.3 alone
            assert refused.value.args == UNAUTHENTICATED
        ask(served.port, new)
        assert len(served.asked) == 1


@SERVERS
def test_a_client_that_kept_a_session_is_served_nothing_over_it(
    serve: Serve, ask: Ask, client: Identity, server: Identity, tmp_path: Path
) -> None:
    """It is refused, or shakes hands in full."""
    context = stock_context(client, tmp_path, server_side=False)
    with serve(server) as served:
        ask(served.port, context)
        if ask is ask_http:
            assert context.kept is None or not context.kept.has_ticket
            ask(served.port, context)
            assert len(served.asked) == 2
        else:
            assert context.kept is not None  # gRPC gives tickets, and no way to have none
            assert context.kept.has_ticket
            with pytest.raises(CallRefusedError) as refused:
                ask(served.port, context)
            assert refused.value.args == UNAUTHENTICATED
            assert len(served.asked) == 1


@SERVERS
def test_a_session_does_not_outlive_a_revocation(
    serve: Serve, ask: Ask, client: Identity, server: Identity, tmp_path: Path
) -> None:
    knowing = KnowingIdentity(server.svid, *server.bundles.values())
    context = stock_context(client, tmp_path, server_side=False)
    with serve(knowing) as served:
        ask(served.port, context)
        knowing.revoke_svid(client.svid)
        with pytest.raises(REFUSED):
            ask(served.port, context)
        assert len(served.asked) == 1


# clients


HTTP_CLIENTS = [pytest.param(one.ask, id=name) for name, one in CLIENTS.items()]
GRPC = [pytest.param(ask, id=name) for name, ask in GRPC_CLIENTS.items()]
AskWorld: TypeAlias = Callable[[Identity, str, How], str]


@pytest.mark.parametrize("ask", [*HTTP_CLIENTS, *GRPC])
def test_a_server_below_tls_1_3_is_asked_nothing(ask: AskWorld, world: World, tmp_path: Path) -> None:
    context = stock_context(world.server, tmp_path, server_side=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with web_server(context) as seen:
        with pytest.raises(Exception, match=r"(?i)ssl|tls|connect|unavailable"):
            ask(world.client, f"https://localhost:{seen.port}/", How(web=world.web))
        assert not seen.heads
    assert context.session_stats()["accept_good"] == 0


@pytest.mark.parametrize("ask", HTTP_CLIENTS)
def test_a_client_resumes_no_session_that_a_server_offers(ask: AskWorld, world: World, tmp_path: Path) -> None:
    context = stock_context(world.server, tmp_path, server_side=True)
    with web_server(context) as seen:
        for _ in range(2):
            assert ask(world.client, f"https://localhost:{seen.port}/", How(web=world.web)) == "hello"
    stats = context.session_stats()
    assert (stats["accept_good"], stats["hits"]) == (2, 0)


@pytest.mark.parametrize("ask", GRPC)
def test_a_channel_resumes_no_session_that_a_server_offers(ask: AskWorld, world: World, tmp_path: Path) -> None:
    """The server speaks no gRPC; what counts is how often hands are shaken."""
    context = stock_context(world.server, tmp_path, server_side=True)
    context.set_alpn_protocols(["h2"])
    with web_server(context) as seen:
        for _ in range(2):
            with pytest.raises(grpc.RpcError):
                ask(world.client, f"https://localhost:{seen.port}/", How(web=world.web))
    stats = context.session_stats()
    assert stats["accept_good"] >= 2
    assert stats["hits"] == 0


def test_one_context_resumes_no_session(world: World, tmp_path: Path) -> None:
    """Whatever a library keeps between two connections by it."""
    context, ours = (
        stock_context(world.server, tmp_path, server_side=True),
        client_context(world.client, exactly(SERVER)),
    )

    def connect(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as plain, ours.wrap_socket(plain) as near:
            near.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert near.recv(4096)
            assert not near.session_reused

    async def connect_too(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=ours)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read()
        writer.close()
        await writer.wait_closed()

    with web_server(context) as seen:
        for _ in range(2):
            connect(seen.port)
            asyncio.run(connect_too(seen.port))
    stats = context.session_stats()
    assert (stats["accept_good"], stats["hits"]) == (4, 0)
