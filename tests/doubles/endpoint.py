"""A web server on loopback whose answers a double gives."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["SECONDS", "Respond", "serving"]

SECONDS = 20

Respond = Callable[[BaseHTTPRequestHandler, bytes], None]
"""Writes the answer to a request with this body."""


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    timeout = SECONDS

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with contextlib.suppress(OSError):  # whoever asked has left, as it should
            self.server.respond(self, body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def __init__(self, respond: Respond, context: ssl.SSLContext | None) -> None:
        self.respond = respond
        self._context = context
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        near, address = super().get_request()
        near.settimeout(SECONDS)
        if self._context is not None:
            near = self._context.wrap_socket(near, server_side=True, do_handshake_on_connect=False)
        return near, address

    def handle_error(self, *_: object) -> None:
        """Whoever called may have left amidst the handshake."""


@contextlib.contextmanager
def serving(
    respond: Respond, context: ssl.SSLContext | None, *, over: Callable[[], None] | None = None
) -> Iterator[int]:
    """Serve POST on a free port of loopback; the port.

    Args:
        context: its TLS; None: plain http.
        over: called before the server ends, to let go of requests that wait.
    """
    with _Server(respond, context) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            if over is not None:
                over()
            server.shutdown()
            thread.join()
