"""A gRPC client over a Unix socket that costs almost nothing, so that a row measures the server.

It knows what a Workload API answers and no more: no CONTINUATION, no dynamic header table (it asks for none). What hostile clients send:
bench/rig/attacks.
"""

import asyncio
import struct
import time
from pathlib import Path
from typing import Self, cast

from hpack import Decoder, Encoder

from bench.rig.attacks import frame

__all__ = ["Call", "CallFailed", "Connection", "framed", "wait_for_identity"]

_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_HEADER_TABLE_SIZE, _INITIAL_WINDOW_SIZE = 1, 4
_CANCEL = 8
_WINDOW = 2**20
_HEAD = struct.Struct(">BHBBL")
_LENGTH = struct.Struct(">BL")
_PREFACE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(_SETTINGS, 0, 0, struct.pack(">HLHL", _HEADER_TABLE_SIZE, 0, _INITIAL_WINDOW_SIZE, _WINDOW))
    + frame(_WINDOW_UPDATE, 0, 0, struct.pack(">L", _WINDOW))
)
_MOST_UNREAD = 10_000
_SECONDS = 60.0
_READY_SECONDS = 30.0


class CallFailed(Exception):  # noqa: N818 - as svid's Refused: says what happened
    """A call ended with a status other than OK, or without a status."""


def framed(message: bytes) -> bytes:
    """One message as gRPC sends it."""
    return _LENGTH.pack(0, len(message)) + message


class Call:
    """One call in progress: its messages, each with the time at which it was complete."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.consumed = 0
        self._heard: asyncio.Queue[tuple[float, bytes] | str] = asyncio.Queue(_MOST_UNREAD)

    def feed(self, data: memoryview, moment: float) -> None:
        """Take bytes of the body."""
        self.buffer += data
        while len(self.buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self.buffer)[1]
            if len(self.buffer) < end:
                return
            self._heard.put_nowait((moment, bytes(self.buffer[_LENGTH.size : end])))
            del self.buffer[:end]

    def end(self, reason: str) -> None:
        """Take the end; an empty reason is OK."""
        self._heard.put_nowait(reason)

    async def next(self, seconds: float = _SECONDS) -> tuple[float, bytes]:
        """The next message, and when it arrived, by time.perf_counter.

        Raises:
            CallFailed: it ended instead.
            TimeoutError: neither came in time.
        """
        async with asyncio.timeout(seconds):
            heard = await self._heard.get()
        if isinstance(heard, str):
            raise CallFailed(heard or "ended")
        return heard

    async def ended(self) -> None:
        """Return when it has ended with OK; drop what arrives before."""
        while isinstance(heard := await self._heard.get(), tuple):
            continue
        if heard:
            raise CallFailed(heard)


class Connection(asyncio.Protocol):
    """One HTTP/2 connection."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._farewell = self._lost = ""
        self._buffer = bytearray()
        self._calls: dict[int, Call] = {}
        self._following = 1
        self._consumed = 0
        self._statuses: dict[bytes, str | None] = {}
        self._headers: dict[str, bytes] = {}

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Connect."""
        _, connection = await asyncio.get_running_loop().create_unix_connection(cls, str(path))
        return connection

    def close(self) -> None:
        """Close it, with every call."""
        if self._transport is not None:
            self._transport.close()

    def call(self, method: str, body: bytes) -> Call:
        """Begin a call of the Workload API.

        Args:
            body: the one message of it, framed.

        Raises:
            CallFailed: the connection was lost, and why.
        """
        if self._lost:
            raise CallFailed(self._lost)
        number, self._following = self._following, self._following + 2
        call = self._calls[number] = Call()
        headers = frame(_HEADERS, _END_HEADERS, number, self._header_block(method))
        self._write(headers + frame(_DATA, _END_STREAM, number, body))
        return call

    async def unary(self, method: str, body: bytes) -> bytes:
        """Call, and return the one answer; raises CallFailed if it is not OK."""
        call = self.call(method, body)
        _, answer = await call.next()
        await call.ended()
        return answer

    def cancel(self, call: Call) -> None:
        """Reset a call in progress; does nothing if it has ended."""
        for number in [number for number, one in self._calls.items() if one is call]:
            del self._calls[number]
            self._write(frame(_RST, 0, number, struct.pack(">L", _CANCEL)))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send HTTP/2's preface."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's class has no base class of asyncio
        self._transport.write(_PREFACE)

    def connection_lost(self, exc: Exception | None) -> None:
        """Inform the calls."""
        self._lost = f"connection lost: {exc or self._farewell or 'closed'}"
        for call in self._calls.values():
            call.end(self._lost)
        self._calls.clear()

    def data_received(self, data: bytes) -> None:
        """Take bytes, and handle the frames that are complete now."""
        moment = time.perf_counter()
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= _HEAD.size:
            high, low, kind, flags, number = _HEAD.unpack_from(self._buffer, at)
            end = at + _HEAD.size + (high << 16 | low)
            if len(self._buffer) < end:
                break
            self._take(kind, flags, number, bytes(self._buffer[at + _HEAD.size : end]), moment)
            at = end
        del self._buffer[:at]

    def _take(self, kind: int, flags: int, number: int, payload: bytes, moment: float) -> None:
        match kind:
            case 0:
                self._take_data(flags, number, payload, moment)
            case 1:
                self._take_headers(flags, number, payload)
            case 3:
                self._end(number, f"reset: {int.from_bytes(payload, 'big')}")
            case 4 | 6 if not flags & _ACK:
                self._write(frame(kind, _ACK, 0, payload if kind == _PING else b""))
            case 7:
                self._farewell = payload[8:].decode(errors="replace")
            case 9:
                raise ValueError("CONTINUATION: expected none")

    def _take_data(self, flags: int, number: int, payload: bytes, moment: float) -> None:
        self._consumed = self._replenish(0, self._consumed + len(payload))
        call = self._calls.get(number)
        if call is None:
            return
        if not flags & _END_STREAM:
            call.consumed = self._replenish(number, call.consumed + len(payload))
        begin, end = (1, len(payload) - payload[0]) if flags & _PADDED else (0, len(payload))
        call.feed(memoryview(payload)[begin:end], moment)
        if flags & _END_STREAM:
            self._end(number, "ended without a status")

    def _take_headers(self, flags: int, number: int, payload: bytes) -> None:
        begin, end = (1, len(payload) - payload[0]) if flags & _PADDED else (0, len(payload))
        if flags & _PRIORITY:
            begin += 5
        if flags & _END_STREAM:
            status = self._status(payload[begin:end])
            self._end(number, "" if status == "0" else f"status {status}")

    def _status(self, block: bytes) -> str | None:
        """The status in a header block; an equal block always means the same, because there is no dynamic table."""
        if block not in self._statuses:
            decoder = Decoder()
            decoder.max_allowed_table_size = 0
            decoder.header_table_size = 0
            fields = {str(name): str(value) for name, value, *_ in decoder.decode(block)}
            self._statuses[block] = fields.get("grpc-status")
        return self._statuses[block]

    def _replenish(self, number: int, consumed: int) -> int:
        if consumed < _WINDOW // 4:
            return consumed
        self._write(frame(_WINDOW_UPDATE, 0, number, struct.pack(">L", consumed)))
        return 0

    def _end(self, number: int, reason: str) -> None:
        if (call := self._calls.pop(number, None)) is not None:
            call.end(reason)

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._lost:
            self._transport.write(data)

    def _header_block(self, method: str) -> bytes:
        if method not in self._headers:
            encoder = Encoder()
            encoder.header_table_size = 0
            fields = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", f"/SpiffeWorkloadAPI/{method}"),
                (":authority", "localhost"),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
                ("workload.spiffe.io", "true"),
            ]
            self._headers[method] = encoder.encode(fields)[1:]  # without the table size update, legal only once
        return self._headers[method]


async def wait_for_identity(socket: Path) -> None:
    """Return when this process gets an X509-SVID there.

    Raises:
        TimeoutError: it is not.
    """
    connection = await Connection.open(socket)
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            try:
                await connection.call("FetchX509SVID", framed(b"")).next()
                break
            except CallFailed:
                await asyncio.sleep(0.05)
    connection.close()
