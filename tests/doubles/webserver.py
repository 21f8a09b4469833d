"""Real servers on loopback that note what they are asked: a web server, and a proxy in front of one.

Threads and blocking sockets: each connection is closed when its server ends, wherever it stands, be it amidst its handshake.
"""

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["Seen", "lasting_web_server", "proxy", "web_server"]

_SECONDS = 20
_CONNECTIONS = 64  # at a time
_CHUNK = 64 * 1024


class Seen:
    """Where a server listens, the heads of the requests that it was sent, and how much it took of the body of one at `/taken-later`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heads: list[str] = []
        self.may_take = threading.Event()
        self.taken = 0
        self.is_over = threading.Event()

    @property
    def tunnels(self) -> list[str]:
        """Where a proxy was asked to dial."""
        return [head.split()[1] for head in self.heads if head.startswith("CONNECT ")]


@contextlib.contextmanager
def web_server(context: ssl.SSLContext | None = None, *, location: str = "") -> Iterator[Seen]:
    """Answer every request 200 and `hello`, or with a redirection that keeps method and body.

    Args:
        context: its TLS; None: plain http.
        location: where to, if anywhere.
    """
    status = f"307 Temporary Redirect\r\nlocation: {location}" if location else "200 OK"

    def serve(seen: Seen, near: socket.socket) -> None:
        seen.heads.append(_request(near))
        near.sendall(_answer(status, "hello"))

    with _running(serve, context) as seen:
        yield seen


@contextlib.contextmanager
def lasting_web_server(context: ssl.SSLContext) -> Iterator[Seen]:
    """Keep each connection: answer `hello`, or at `/long` bytes without end, as the body of `/taken` may be; at `/taken-later` it waits."""

    def serve(seen: Seen, near: socket.socket) -> None:
        while True:
            head = _head(near)
            seen.heads.append(head)
            path = head.split()[1]
            if path == "/taken-later":
                seen.taken += len(_some(near))
                seen.may_take.wait(_SECONDS)
                try:
                    while True:
                        seen.taken += len(_some(near))
                finally:
                    seen.is_over.set()
            if path == "/taken":
                while _some(near):
                    pass
            elif path == "/long":
                near.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n")
                while True:
                    near.sendall(bytes(_CHUNK))
            near.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")

    with _running(serve, context) as seen:
        yield seen


@contextlib.contextmanager
def proxy(context: ssl.SSLContext | None = None, *, to: int | None = None) -> Iterator[Seen]:
    """Dial where CONNECT says, and carry bytes; answer every other request by itself, as a proxy does that forwards.

    Args:
        context: the TLS to the proxy itself; None: none.
        to: the port of loopback where everybody is found; None: that of the CONNECT.
    """

    def serve(seen: Seen, near: socket.socket) -> None:
        head = _request(near)
        seen.heads.append(head)
        method, target, *_ = head.split()
        if method != "CONNECT":
            near.sendall(_answer("200 OK", "proxy"))
            return
        port = int(target.rpartition(":")[2]) if to is None else to
        with socket.create_connection(("127.0.0.1", port), timeout=_SECONDS) as far:
            near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _carry(near, far)

    with _running(serve, context) as seen:
        yield seen


def _answer(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()


def _request(near: socket.socket) -> str:
    """Read a request, and return its head; what is left unread would reset the connection before the answer is read."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(near)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += _some(near)
    return f"{head.decode()}\r\n\r\n"


def _head(near: socket.socket) -> str:
    """Read the head of a request, and nothing after it."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        if not (byte := near.recv(1)):
            raise EOFError
        data += byte
    return data.decode()


def _some(near: socket.socket) -> bytes:
    if not (data := near.recv(_CHUNK)):
        raise EOFError
    return data


def _carry(near: socket.socket, far: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    other = {near: far, far: near}
    while ready := select.select(other, [], [], _SECONDS)[0]:
        for one in ready:
            other[one].sendall(_some(one))
            while isinstance(one, ssl.SSLSocket) and one.pending():
                other[one].sendall(_some(one))


@contextlib.contextmanager
def _running(serve: Callable[[Seen, socket.socket], None], context: ssl.SSLContext | None) -> Iterator[Seen]:
    """Serve on a free port of loopback, in threads of its own."""
    connections: list[socket.socket] = []
    answers: list[Future[None]] = []

    def answer(near: socket.socket) -> None:
        with near, contextlib.suppress(OSError, EOFError):  # whoever called has left, as it should
            if isinstance(near, ssl.SSLSocket):
                near.do_handshake()
            serve(seen, near)

    def accept() -> None:
        with contextlib.suppress(OSError):  # it was shut down
            while True:
                near, _ = listening.accept()
                near.settimeout(_SECONDS)
                with contextlib.suppress(OSError):  # it has left already
                    if context is not None:
                        near = context.wrap_socket(near, server_side=True, do_handshake_on_connect=False)
                    connections.append(near)
                    answers.append(threads.submit(answer, near))

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(_CONNECTIONS) as threads:
        seen = Seen(listening.getsockname()[1])
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield seen
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for near in connections:
                with contextlib.suppress(OSError):  # it is closed already
                    socket.socket.shutdown(near, socket.SHUT_RDWR)  # not TLS's own: its thread may be within it
    for one in answers:
        one.result()
