"""What uvicorn over svid.tls keeps once a client's credential is denied, on asyncio's loop and on uvloop: not one byte more, either way."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Literal, TypeAlias, cast

import pytest

from svid.tls.authorize import exactly
from svid.tls.context import client_context
from tests.doubles.identity import CLIENT, SERVER, Identity, KnowingIdentity
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.uvicornrunning import uvicorn_on

_SECONDS = 10
_PIECE = bytes(64 * 1024)
_BIG = 60_000_000
Loop: TypeAlias = Literal["asyncio", "uvloop"]
Message: TypeAlias = MutableMapping[str, object]
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


class App:
    """Answers `hello`, all of it at once at `/big`, or sends without end at `/long`; counts the bytes that it gets."""

    def __init__(self) -> None:
        self.got = 0
        self.begun = threading.Event()
        self.over = threading.Event()

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if scope["type"] == "lifespan":
            return
        try:
            while (message := await receive())["type"] == "http.request":
                self.got += len(cast("bytes", message["body"]))
                if not message.get("more_body"):
                    break
                self.begun.set()
            if message["type"] == "http.disconnect":
                return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if scope["path"] == "/big":
                await send({"type": "http.response.body", "body": bytes(_BIG)})
                return
            while scope["path"] == "/long":
                await send({"type": "http.response.body", "body": _PIECE, "more_body": True})
                self.begun.set()
                await asyncio.sleep(0)  # uvicorn takes what is sent to a client that has left at once
                if self.over.is_set():
                    return
            await send({"type": "http.response.body", "body": b"hello"})
        finally:
            self.over.set()


@pytest.fixture
def knowing(domain: TrustDomainDouble) -> KnowingIdentity:
    """The server, whose source knows of denials."""
    return KnowingIdentity(domain.svid("/server"), domain.bundle)


@contextlib.contextmanager
def dialled(port: int, client: Identity) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as plain,
        client_context(client, exactly(SERVER)).wrap_socket(plain) as near,
    ):
        yield near


def rest(near: ssl.SSLSocket) -> bytes:
    """What still comes until the end, however that comes."""
    got = b""
    with contextlib.suppress(ConnectionError):
        while piece := near.recv(len(_PIECE)):
            got += piece
    return got


@LOOPS
def test_a_denied_client_asks_nothing(loop: Loop, client: Identity, knowing: KnowingIdentity) -> None:
    app = App()
    with uvicorn_on(app, knowing, exactly(CLIENT), loop=loop) as port:
        knowing.revoke_svid(client.svid)
        with dialled(port, client) as near:
            with contextlib.suppress(ConnectionError):
                near.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert rest(near) == b""
        assert not app.over.is_set()


@LOOPS
def test_a_connection_that_is_kept_is_closed_at_once(loop: Loop, client: Identity, knowing: KnowingIdentity) -> None:
    with uvicorn_on(App(), knowing, exactly(CLIENT), loop=loop) as port, dialled(port, client) as near:
        near.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        while not near.recv(1000).endswith(b"0\r\n\r\n"):
            pass
        knowing.revoke_svid(client.svid)
        assert rest(near) == b""


@LOOPS
def test_no_byte_of_a_request_is_taken_after_the_denial(
    loop: Loop, client: Identity, knowing: KnowingIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    app = App()
    with uvicorn_on(app, knowing, exactly(CLIENT), loop=loop) as port, dialled(port, client) as near:
        near.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n" + _PIECE)
        assert app.begun.wait(_SECONDS)
        while app.got < len(_PIECE):
            app.over.wait(0.01)
        knowing.revoke_svid(client.svid)
        with contextlib.suppress(OSError):
            near.sendall(_PIECE * 100)
        assert app.over.wait(_SECONDS)
        assert app.got == len(_PIECE)
    said = [record.name for record in caplog.records if record.levelname in {"WARNING", "ERROR"}]
    assert said == ["svid.tls.reports"]


@LOOPS
def test_an_answer_ends_amidst_itself(loop: Loop, client: Identity, knowing: KnowingIdentity) -> None:
    app = App()
    with uvicorn_on(app, knowing, exactly(CLIENT), loop=loop) as port, dialled(port, client) as near:
        near.sendall(b"GET /long HTTP/1.1\r\nhost: a\r\n\r\n")
        assert app.begun.wait(_SECONDS)
        assert near.recv(1)
        knowing.revoke_svid(client.svid)
        rest(near)  # what the kernel held, and then the end
        app.over.set()


@LOOPS
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
def test_what_a_client_did_not_read_goes_no_further(
    loop: Loop, connection: str, client: Identity, knowing: KnowingIdentity
) -> None:
    """But for what the kernel has already; also on a connection that uvicorn has closed, and that its loop keeps for what is left."""
    app = App()
    with uvicorn_on(app, knowing, exactly(CLIENT), loop=loop) as port, dialled(port, client) as near:
        near.sendall(b"GET /big HTTP/1.1\r\nhost: a\r\nconnection: " + connection.encode() + b"\r\n\r\n")
        assert app.over.wait(_SECONDS)
        assert near.recv(1)
        knowing.revoke_svid(client.svid)
        assert len(rest(near)) < _BIG // 3


@LOOPS
def test_others_go_on(loop: Loop, domain: TrustDomainDouble, client: Identity, knowing: KnowingIdentity) -> None:
    other = Identity(domain.svid("/client"), domain.bundle)
    with (
        uvicorn_on(App(), knowing, exactly(CLIENT), loop=loop) as port,
        dialled(port, client) as near,
        dialled(port, other) as unharmed,
    ):
        knowing.revoke_svid(client.svid)
        assert rest(near) == b""
        unharmed.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert b"hello" in rest(unharmed)
