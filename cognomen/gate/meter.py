"""What a peer has sent, measured in whole HTTP/2 frames before HTTP/2 is understood, and whether it may send more now.

Decided here: what a frame costs, which frames never reach h2, when patience ends. No I/O and no clock: bytes and moments are handed in.
Not decided here: what happens to a peer that must wait (`connection`), how many connections there may be (`gate`).

`Frames` is in one of three states: before the preface, between header blocks, inside a header block. `Bucket` holds units; below zero it
is in debt. `Patience` is a bucket for control frames alone, those that no call needs. What holds:

* A cut is whole frames. How the bytes arrived changes neither what is passed on nor what it costs.
* An open header block never exceeds its limit, and each frame of it counts at least one byte: h2 never sees an endless block.
* In t seconds a bucket gives its burst, its rate times t, and one cut more at most, which becomes the debt.
* An answered call gives back what the control frames around it cost: ANSWERED_WORTH at most, and never more than was taken.

Example, with the default rate of 10,000 units a second. A call of 100 bytes of headers and 10 bytes of data costs 3 units: one for each of
the two frames, and one for the headers (100 / 64, rounded down). So one connection may make some 3,300 calls a second. A peer
that sends nothing but resets, of 50 units each, gets 200 through at once and 200 more each second. Our patience of 25,000 units with it
sinks by 10,000 at once and by 5,000 a second from then on, so the connection ends after 3 seconds and 800 resets.
"""

import struct
from dataclasses import dataclass

__all__ = ["ANSWERED_WORTH", "Bucket", "Cut", "Frames", "Limits", "Misbehaved", "Patience", "goaway", "http1_answer"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_METHODS = (
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"PATCH ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PRI ",
)  # HTTP/1's
_LONGEST_METHOD = 8
_HEADER_BYTES = 9
_FRAME_BYTES = 16_384  # SETTINGS_MAX_FRAME_SIZE, which we never raise
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 7, 8, 9
_END_STREAM, _END_HEADERS = 0x1, 0x4
_HIGHEST_STREAM = 2**31 - 1
_PROTOCOL_ERROR, _FRAME_SIZE_ERROR, _ENHANCE_YOUR_CALM = 0x1, 0x6, 0xB

_UNIT_BYTES = 1024
_HEADER_UNIT_BYTES = 64  # decoding takes up to 20 µs
_CUT_HEADER_BYTES = 128
_CALL_COST = 1  # the frames that calls consist of; turns keep those fair, so here they only count
_CONTROL_COST = 10  # frames that a well-behaved client sends now and then
_RESET_COST = 50  # a call begun for nothing
_PATIENCE_SECONDS = 5

ANSWERED_WORTH = _RESET_COST + 2 * _CONTROL_COST
"""What an answered call excuses: clients end a stream by a reset once they have what they want, and send a PING to measure how it went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one socket allows; the defaults suit the Workload API.

    Units: rate is in units a second for one connection; a unit is one frame of a call, or 1 KiB, or 64 bytes of headers; PING, SETTINGS and
    their like cost 10, a reset 50, less what answered calls excuse. A burst of one second's worth is free. A uid has the rate of
    `connections_worth` connections, however many it opens. header_bytes is of a header block, and of the list that it decodes to, with 32
    bytes for each field as RFC 9113 6.5.2 counts.
    """

    connections_per_uid: int = 256
    connections: int = 1024
    calls_per_connection: int = 100
    calls_per_uid: int = 1024
    calls: int = 8192
    message_bytes: int = 64 * 1024
    header_bytes: int = 8 * 1024
    header_fields: int = 64
    rate: int = 10_000
    connections_worth: int = 4
    stall_seconds: float = 10  # to finish the preface, a frame or a header block that was begun


class Misbehaved(Exception):  # noqa: N818 - says what the peer did
    """The peer broke the protocol or kept asking too much: the connection ends.

    Args:
        detail: safe for the peer to read.
        code: the HTTP/2 error code of the GOAWAY.
        http1: it did so in an older HTTP, and is answered in that.
    """

    def __init__(self, detail: str, code: int = _PROTOCOL_ERROR, *, http1: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.http1 = http1


class Bucket:
    """A token bucket that can fall into debt: what was taken is paid back before more is given.

    Units: rate is in tokens a second; moments are seconds of one monotonic clock.
    """

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = self._level = burst
        self._at = now

    def take(self, tokens: float, now: float) -> None:
        """Take tokens, into debt if need be."""
        self._level = min(self._burst, self._level + (now - self._at) * self._rate) - tokens
        self._at = now

    def give(self, tokens: float) -> None:
        """Give tokens back."""
        self._level = min(self._burst, self._level + tokens)

    def wait(self, now: float) -> float:
        """Seconds until the debt is paid back; 0 without debt."""
        return max(0.0, -self._level / self._rate - (now - self._at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The whole frames at the front of what waits.

    Units: size in bytes; cost and control (the part of it that calls do not need) in units of Limits.
    """

    size: int
    frames: int
    cost: int
    control: int


class Frames:
    """Finds the frame borders in one connection's bytes, and refuses what h2 would have to swallow first.

    Source: RFC 9113 3.4, 4.1, 6.10.
    """

    __slots__ = ("_block_bytes", "_greeted", "_header_bytes")

    def __init__(self, *, header_bytes: int) -> None:
        self._header_bytes = header_bytes
        self._greeted = False
        self._block_bytes = 0  # of the header block that is open; 0 = none is

    @property
    def greeted(self) -> bool:
        """Whether the peer has sent the preface."""
        return self._greeted

    @property
    def between_blocks(self) -> bool:
        """Whether the peer has greeted and has no header block open."""
        return self._greeted and self._block_bytes == 0

    def cut(self, waiting: bytearray, most: int) -> Cut:
        """Take the measure of at most so many whole frames at the front; the caller removes them.

        It ends earlier behind a header block that makes the blocks in it long: to decode one takes up to two milliseconds.

        Raises:
            Misbehaved: another preface, a frame over 16 KiB, a header block over the limit.
        """
        at, frames, cost, control, header_bytes = 0, 0, 0, 0, 0
        if not self._greeted:
            if not _PREFACE.startswith(waiting[: len(_PREFACE)]):
                raise Misbehaved(
                    "connection: expected the HTTP/2 preface, found other bytes",
                    http1=_is_http1(bytes(waiting[:_LONGEST_METHOD])),
                )
            if len(waiting) < len(_PREFACE):
                return Cut(size=0, frames=0, cost=0, control=0)
            self._greeted = True
            at = len(_PREFACE)
        for _ in range(most):
            if len(waiting) < at + _HEADER_BYTES:
                break
            length = int.from_bytes(waiting[at : at + 3], "big")
            if length > _FRAME_BYTES:
                raise Misbehaved(f"frame: expected at most {_FRAME_BYTES} bytes, found {length}", _FRAME_SIZE_ERROR)
            end = at + _HEADER_BYTES + length
            if len(waiting) < end:
                break
            kind, flags = waiting[at + 3], waiting[at + 4]
            self._follow_block(kind, flags, length)
            one = _cost(kind, flags, length)
            cost += one + length // (_HEADER_UNIT_BYTES if kind in {_HEADERS, _CONTINUATION} else _UNIT_BYTES)
            control += one if one > _CALL_COST else 0
            at = end
            frames += 1
            if kind in {_HEADERS, _CONTINUATION}:
                header_bytes += length
                if header_bytes > _CUT_HEADER_BYTES:
                    break
        return Cut(size=at, frames=frames, cost=cost, control=control)

    def _follow_block(self, kind: int, flags: int, length: int) -> None:
        if kind == _HEADERS:
            self._block_bytes = length + 1  # an empty block that stays open also counts
        elif kind == _CONTINUATION:
            self._block_bytes += length + 1
        else:
            return
        if self._block_bytes > self._header_bytes + 1:
            raise Misbehaved(f"headers: expected at most {self._header_bytes} bytes, found more", _ENHANCE_YOUR_CALM)
        if flags & _END_HEADERS:
            self._block_bytes = 0


def _is_http1(first: bytes) -> bool:
    """Whether a request of HTTP/1 begins like this."""
    return any(method.startswith(first) or first.startswith(method) for method in _METHODS)


def _cost(kind: int, flags: int, length: int) -> int:
    if kind in {_HEADERS, _WINDOW_UPDATE} or (kind == _DATA and (length or flags & _END_STREAM)):
        return _CALL_COST
    return _RESET_COST if kind == _RST_STREAM else _CONTROL_COST


class Patience:
    """Bears frames that no call needs for some seconds at half the connection's rate, then no longer."""

    __slots__ = ("_bucket",)

    def __init__(self, *, rate: float, now: float) -> None:
        self._bucket = Bucket(rate=rate / 2, burst=rate / 2 * _PATIENCE_SECONDS, now=now)

    def bear(self, control: int, now: float) -> None:
        """Note the control frames of one cut.

        Raises:
            Misbehaved: they have been too many for too long.
        """
        self._bucket.take(control, now)
        if self._bucket.wait(now) > 0:
            raise Misbehaved("connection: expected calls, found a flood of control frames", _ENHANCE_YOUR_CALM)

    def excuse(self, control: int) -> None:
        """Forget control frames that belonged to a call."""
        self._bucket.give(control)


def http1_answer(detail: str) -> bytes:
    """Answer a client of HTTP/1 in words that it understands.

    Source: RFC 9110 15.6.6, RFC 9112.
    """
    body = f"This socket speaks gRPC, over HTTP/2 without TLS. {detail}\n".encode()
    head = (
        "HTTP/1.1 505 HTTP Version Not Supported",
        "content-type: text/plain; charset=utf-8",
        f"content-length: {len(body)}",
        "connection: close",
    )
    return "\r\n".join((*head, "", "")).encode() + body


def goaway(code: int, detail: str, *, nothing_was_done: bool) -> bytes:
    """Say goodbye on an HTTP/2 connection that need not be open yet.

    Shape: an empty SETTINGS frame, a server's first, then GOAWAY with the detail as debug data. Its last stream is 0 when nothing was done,
    so that a client may repeat all its calls; otherwise the highest possible, so that it repeats no call automatically.

    Source: RFC 9113 6.8.
    """
    text = detail.encode()
    settings = struct.pack(">3xBBL", _SETTINGS, 0, 0)
    length = (len(text) + 8).to_bytes(3, "big")
    return (
        settings
        + length
        + struct.pack(">BBLLL", _GOAWAY, 0, 0, 0 if nothing_was_done else _HIGHEST_STREAM, code)
        + text
    )
