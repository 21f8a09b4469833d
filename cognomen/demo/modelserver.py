"""The double of a model's provider on a port of loopback, over HTTPS.

As a program it reports what happens as JSON lines on standard output, and SIGTERM ends it. What it allows: cognomen/demo/model.
"""

import argparse
import contextlib
import json
import signal
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cognomen.demo.model import Answer, Model, Rule, error
from cognomen.demo.telling import tell
from svid.clock import SystemClock

__all__ = ["main", "served"]

_MAX_BODY = 64 * 1024
_IDLE_SECONDS = 30
_COUNT_SECONDS = 1
_POLL_SECONDS = 0.05


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS

    def do_POST(self) -> None:
        """Answer the two paths, and nothing else."""
        try:
            answer = self._answer(self._body())
        except ValueError as e:
            self.close_connection = True  # the rest of a body may still come
            answer = error(HTTPStatus.BAD_REQUEST, "invalid_request_error", str(e))
        body = json.dumps(answer.body).encode()
        self.send_response_only(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> Mapping[str, object]:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal() and len(length) < 9) or int(length) > _MAX_BODY:  # noqa: PLR2004
            raise ValueError(f"expected a body of at most {_MAX_BODY} bytes")
        try:
            found = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ValueError("expected a JSON object")  # noqa: TRY004 - of what a stranger sends
        return found

    def _answer(self, asked: Mapping[str, object]) -> Answer:
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.partition("?")[0]
        if path == "/v1/oauth/token":
            return self.server.model.trade(asked, headers.get("anthropic-beta", ""))
        if path == "/v1/messages":
            return self.server.model.answer(asked, headers)
        return error(HTTPStatus.NOT_FOUND, "not_found_error", "there is nothing here")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a client may keep its connection for longer than we run

    def __init__(self, model: Model, context: ssl.SSLContext) -> None:
        self.model = model
        self._context = context
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[ssl.SSLSocket, tuple[str, int]]:
        """Accept, but leave the handshake to the thread of the connection: nobody keeps the others waiting."""
        near, address = super().get_request()
        near.settimeout(_IDLE_SECONDS)
        return self._context.wrap_socket(near, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: "socket.socket | tuple[bytes, socket.socket]", client_address: object) -> None:
        """A caller that leaves during the handshake or an answer is no news."""


@contextlib.contextmanager
def served(model: Model, identity: Path) -> Iterator[str]:
    """Serve in a thread, until the block ends; yields the base URL.

    Args:
        identity: PEM: the certificate for `localhost`, and its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    with _Server(model, context) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": _POLL_SECONDS})
        serving.start()
        try:
            yield f"https://localhost:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


def main() -> None:
    """Serve one rule until SIGTERM."""
    parser = argparse.ArgumentParser(prog="model")
    for name in ("issuer", "subject", "audience"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("trust", "identity"):
        parser.add_argument(f"--{name}", required=True, type=Path, metavar="FILE")
    arguments = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # in every thread that is made from here on
    rule = Rule(issuer=arguments.issuer, subject=arguments.subject, audience=arguments.audience)
    model = Model(rule, ssl.create_default_context(cafile=arguments.trust), tell, SystemClock())

    def count() -> None:
        tell("counted", made=0, answered=model.answered, failed=0, tokens=0, traded=model.traded)

    with served(model, arguments.identity) as url:
        tell("listening", port=int(url.rpartition(":")[2]))
        while signal.sigtimedwait({signal.SIGTERM}, _COUNT_SECONDS) is None:
            count()
    count()


if __name__ == "__main__":
    main()
