"""issuer/api/passage: what becomes of a connection whose ends leave in the middle of a word."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from pathlib import Path

from bench.rig.webca import WebAuthority
from issuer.api.passage import Passage, Proof, Stage
from tests.doubles.until import until

RESET = struct.pack("ii", 1, 0)  # SO_LINGER


class Door:
    """Lets everybody through, to a socket of the test's."""

    def __init__(self, context: ssl.SSLContext, inner: str) -> None:
        self.context, self.inner = context, inner

    def await_turn(self, passage: Passage, step: Callable[[], None]) -> None:
        del passage
        step()

    def admit(self, passage: Passage, proof: Proof) -> bool:
        del passage, proof
        return True

    def note_excess(self, passage: Passage, reason: str) -> None:
        raise AssertionError(passage, reason)

    def note_failure(self, passage: Passage, error: Exception) -> None:
        raise AssertionError(passage) from error

    def introduce(self, passage: Passage, name: str, proof: Proof) -> None:
        pass

    def forget(self, passage: Passage) -> None:
        pass


async def test_who_leaves_while_it_is_answered_costs_no_traceback(tmp_path: Path) -> None:
    """A stranger can do that as often as it likes."""
    authority, loop, wrong = WebAuthority(tmp_path), asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: wrong.append(context))
    with socket.socket(socket.AF_UNIX) as grpc, socket.create_server(("127.0.0.1", 0)) as listener:
        grpc.bind(str(tmp_path / "grpc"))
        grpc.listen()
        grpc.setblocking(False)
        stranger = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.setblocking(False)
        passage = Passage(Door(authority.server_context(), str(tmp_path / "grpc")), accepted, b"")
        passage.begin()
        stranger.settimeout(10)
        secured = await asyncio.to_thread(authority.client_context().wrap_socket, stranger, server_hostname="localhost")
        secured.sendall(b"hello")
        behind, _ = await loop.sock_accept(grpc)
        with behind:
            behind.sendall(b"welcome")  # both happen before the loop looks again: the answer first
            secured.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            secured.close()
            await until(lambda: passage.stage is Stage.ENDED)
    assert wrong == []
