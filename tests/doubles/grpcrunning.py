"""A gRPC server that runs for as long as a test needs it."""

import contextlib
from collections.abc import Iterator

import grpc

__all__ = ["running"]


@contextlib.contextmanager
def running(server: grpc.Server) -> Iterator[None]:
    """Start the server, and stop it at the end, its calls with it."""
    server.start()
    try:
        yield
    finally:
        server.stop(0).wait()
