"""A server's side of one TLS connection, and whoever calls at its other end."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

__all__ = ["called"]

_SECONDS = 10


@contextlib.contextmanager
def called(context: ssl.SSLContext, caller: Callable[[socket.socket], object]) -> Iterator[ssl.SSLSocket]:
    """Shake hands as a server with what `caller` does at the other end; what that makes is closed, and an OSError is its own affair."""
    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as leaving:
        near, far = (leaving.enter_context(one) for one in socket.socketpair())
        for end in (near, far):
            end.settimeout(_SECONDS)

        def call() -> None:
            with contextlib.suppress(OSError):
                made = caller(near)
                if isinstance(made, socket.socket):
                    leaving.enter_context(made)

        calling = pool.submit(call)
        leaving.callback(calling.result)
        with context.wrap_socket(far, server_side=True) as secured:
            yield secured
