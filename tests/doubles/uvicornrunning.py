"""uvicorn over mutual TLS, for as long as a test needs it."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Literal

import uvicorn

from bench.rig.loops import leave_nothing_open
from svid.integrations.uvicorn_server import uvicorn_mtls
from svid.tls.authorize import Authorizer
from svid.tls.reports import OnRefused
from tests.doubles.identity import Identity

__all__ = ["uvicorn_on"]


@contextlib.contextmanager
def uvicorn_on(
    app: object,
    server: Identity,
    authorize: Authorizer,
    *,
    loop: Literal["auto", "asyncio", "uvloop"] = "auto",
    on_refused: OnRefused | None = None,
) -> Iterator[int]:
    """Serve an ASGI app in a thread of its own; the port."""
    options = uvicorn_mtls(server, authorize, on_refused=on_refused)
    config = uvicorn.Config(app, log_config=None, loop=loop, **options)  # type: ignore[arg-type]  # any ASGI app
    running = uvicorn.Server(config)

    async def serve() -> None:
        try:
            await running.serve([listening])
        finally:
            await leave_nothing_open()

    def run() -> None:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(serve())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            while not running.started:
                assert thread.is_alive()
                threading.Event().wait(0.01)
            yield listening.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()
