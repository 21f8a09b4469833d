"""uvicorn over mutual TLS, for as long as a test needs it."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Literal

import uvicorn

from svid.tls.authorize import Authorizer
from svid.tls.uvicorn_server import uvicorn_mtls
from tests.doubles.identity import Identity

__all__ = ["uvicorn_on"]


@contextlib.contextmanager
def uvicorn_on(
    app: object, server: Identity, authorize: Authorizer, *, loop: Literal["auto", "asyncio", "uvloop"] = "auto"
) -> Iterator[int]:
    """Serve an ASGI app in a thread of its own; the port."""
    options = uvicorn_mtls(server, authorize)
    config = uvicorn.Config(app, log_config=None, loop=loop, **options)  # type: ignore[arg-type]  # any ASGI app
    running = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        try:
            while not running.started:
                assert thread.is_alive()
                threading.Event().wait(0.01)
            yield listening.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()
