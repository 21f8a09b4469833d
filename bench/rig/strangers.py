"""Strangers who begin to connect but never finish, from as many addresses of loopback as a test or a bench needs."""

import contextlib
import errno
import select
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Strangers", "addresses", "client_hello", "dial", "half_open"]

_LOOKS, _LOOK_SECONDS = 200, 0.1
_BIND_ADDRESS_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT: a port is chosen as of connect()


def client_hello() -> bytes:
    """A whole ClientHello: the door answers it, and waits for the rest of the handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


class Strangers:
    """Connections that are never finished."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self._sockets = sockets

    def standing(self) -> int:
        """How many of them the door has not ended."""
        return sum(_stands(sock) for sock in self._sockets)

    def wait_for_ends(self, left: int = 0) -> None:
        """Return once at most that many are left."""
        for _ in range(_LOOKS):
            if self.standing() <= left:
                return
            select.select([sock for sock in self._sockets if _stands(sock)], [], [], _LOOK_SECONDS)
        raise TimeoutError(f"strangers: expected {left} to be left, found {self.standing()}")


def _stands(sock: socket.socket) -> bool:
    try:
        while sock.recv(65_536):
            pass
    except OSError as e:
        return e.errno in {errno.EAGAIN, errno.ENOTCONN}  # ENOTCONN: not accepted yet
    return False


def dial(target: str, address: str) -> socket.socket:
    """Begin to connect from that address, without waiting."""
    host, _, port = target.rpartition(":")
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_IP, _BIND_ADDRESS_NO_PORT, 1)
    sock.bind((address, 0))
    sock.connect_ex((host, int(port)))
    return sock


def addresses(count: int) -> Iterator[str]:
    """Addresses of loopback that nobody else in a test uses."""
    for number in range(count):
        yield f"127.1.{number // 250}.{number % 250 + 1}"


@contextmanager
def half_open(target: str, count: int, *, from_addresses: int = 1, hello: bytes = b"") -> Iterator[Strangers]:
    """Hold that many connections half open for as long as the block runs; with `hello`, each sends that."""
    places = list(addresses(from_addresses))
    sockets: list[socket.socket] = []
    try:
        for number in range(count):
            sock = dial(target, places[number % len(places)])
            sockets.append(sock)
            if hello:
                with contextlib.suppress(OSError):
                    sock.send(hello)
        yield Strangers(sockets)
    finally:
        for sock in sockets:
            sock.close()
