"""One accepted connection between the socket and the protocol that serves it: metered, taking turns, ended with its caller.

Decided here: when the bytes that came are passed on. Not decided here: what they cost (`meter`), who may connect (`gate`), what they mean
(`unixrpc`).

    state      what waits                          what happens next
    idle       nothing                             bytes come: ready
    ready      bytes, and a place in Turns         its turn comes: a slice goes to the guest, or it is in debt
    in debt    bytes; reading is paused            a timer ends when the debt is paid back: ready
    partial    part of a preface, frame or block   bytes come: ready; or `stall_seconds` pass: closing
    unread     bytes; the peer reads no answers    resume_writing: ready
    closing    a last message to the peer          it is closed when the message is written, or after `stall_seconds`

What holds: the guest gets whole frames, in order, and nothing before the preface. No bytes that could be served are forgotten: `_queued`
says that a turn or a timer will look at them. Reading pauses as soon as one longest frame waits, so 48 KiB or so wait at most.

Turns: the uids that have bytes waiting are served one slice each in turn, and so are the connections of one uid. A slice has 8 frames
at most. Once 16 frames or 2 ms are used up, the event loop goes on to the calls that these frames began. So the busiest uid delays the
call of another by some slices, however much it sends.

Example: uid 1 floods its connections a, b and c; then one call of 3 frames comes from uid 2. Round 1 serves 8 frames of a, the call of
uid 2, and 8 frames of b; round 2 serves c and a. The call has waited for 8 frames, and 30 more connections of uid 1 would not change that.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from cognomen.gate.accounts import AccountID
from cognomen.gate.meter import ANSWERED_WORTH, Bucket, Frames, Limits, Misbehaved, Patience, goaway, http1_answer
from cognomen.gate.outbox import Outbox

__all__ = ["Account", "GatedConnection", "Guest", "Turns"]

_SLICE_FRAMES = 8  # for one connection at a time
_ROUND_FRAMES = 16  # for all that wait, before the loop goes on to the calls these frames began
_ROUND_SECONDS = 0.002
_READ_BYTES = 32 * 1024
_ENOUGH_WAITING = 16 * 1024 + 9  # one whole frame of the longest kind


class Guest(Protocol):
    """The protocol behind the gate, as asyncio.Protocol has it, from the peer's preface on; it is given whole HTTP/2 frames."""

    @property
    def is_idle(self) -> bool:
        """Whether no call is in flight."""

    def connection_made(self, transport: Outbox, answered: Callable[[], None]) -> None:
        """Begin; whenever a call has ended that was answered, call `answered`."""

    def data_received(self, data: bytes) -> None:
        """Take some frames.

        Raises:
            Misbehaved: the connection is to end.
        """

    def pause_writing(self) -> None:
        """Stop writing: the peer does not read."""

    def resume_writing(self) -> None:
        """Write again."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is in flight."""

    async def wait_closed(self) -> None:
        """Return once nothing is in flight any more."""


@dataclass(slots=True)
class Account:
    """What one uid uses of a socket."""

    uid: AccountID
    bucket: Bucket
    connections: int = 0


class Turns:
    """Serves the uids that wait in turn, and the connections of one uid in turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: dict[int, deque[Callable[[], int]]] = {}
        self._scheduled = False

    def join(self, uid: int, serve: Callable[[], int]) -> None:
        """Wait for a turn; serve takes one slice and says how many frames that were."""
        self._waiting.setdefault(uid, deque()).append(serve)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._round)

    def _round(self) -> None:
        self._scheduled = False
        frames = 0
        try:
            until = self._loop.time() + _ROUND_SECONDS
            while self._waiting and frames < _ROUND_FRAMES and self._loop.time() < until:
                uid = next(iter(self._waiting))
                others = self._waiting.pop(uid)
                serve = others.popleft()
                if others:
                    self._waiting[uid] = others  # behind the other uids
                frames += serve()
        finally:
            self._schedule()


class GatedConnection(asyncio.BufferedProtocol):
    """The meter between a transport and its guest.

    Args:
        read_buffer: shared by all connections of a gate: it is filled and emptied in one step of the loop.
    """

    def __init__(self, guest: Guest, account: Account, limits: Limits, turns: Turns, read_buffer: memoryview) -> None:
        self.lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._guest, self._account, self._turns = guest, account, turns
        self._read_buffer = read_buffer
        now = self._loop.time()
        self._bucket = Bucket(rate=limits.rate, burst=limits.rate, now=now)
        self._patience = Patience(rate=limits.rate, now=now)
        self._control = 0  # what control frames have cost and no call has excused
        self._frames = Frames(header_bytes=limits.header_bytes)
        self._stall_seconds = limits.stall_seconds
        self._stalled: asyncio.TimerHandle | None = None
        self._waiting = bytearray()
        self._queued = False  # a turn, a timer or resume_writing will look at what waits
        self._writable = True
        self._introduced = False

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it waits or is under way."""
        return not self._waiting and self._guest.is_idle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the peer speak first, who may be no client of HTTP/2 at all; its time for the preface begins."""
        self._transport = cast("asyncio.Transport", transport)  # what a stream socket gets
        self._outbox = Outbox(self._transport, self._loop)
        self._watch_for_stall()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop reads into."""
        del sizehint
        return self._read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Keep what came until it is this connection's turn."""
        self._waiting += self._read_buffer[:nbytes]
        if len(self._waiting) >= _ENOUGH_WAITING:
            self._transport.pause_reading()
        self._queue()

    def pause_writing(self) -> None:
        """Hear nothing more from a peer that does not read: every answer would stay in memory."""
        self._writable = False
        if self._introduced:
            self._guest.pause_writing()

    def resume_writing(self) -> None:
        """Hear it again."""
        self._writable = True
        if self._introduced:
            self._guest.resume_writing()
        self._queue()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the guest."""
        self._waiting.clear()
        self._set_stall_timer(on=False)
        self.lost.set()
        if self._introduced:
            self._guest.connection_lost(exc)

    def end(self, detail: str, code: int) -> None:
        """Close the connection with the reason; a peer that does not read it has a little time to do so."""
        self._part(goaway(code, detail, nothing_was_done=False))

    def _part(self, last: bytes) -> None:
        if not self._transport.is_closing():
            self._outbox.write(last)
            self._outbox.close()
            self._loop.call_later(self._stall_seconds, self._transport.abort)

    def abort(self) -> None:
        """Close the connection at once, whether its peer reads or not."""
        self._transport.abort()

    def _excuse(self) -> None:
        """Give back what the control frames around one answered call have cost, and never more than was taken."""
        excused = min(self._control, ANSWERED_WORTH)
        if excused:
            self._control -= excused
            self._bucket.give(excused)
            self._account.bucket.give(excused)
            self._patience.excuse(excused)

    def _queue(self) -> None:
        if self._waiting and self._writable and not self._queued:
            self._queued = True
            self._turns.join(self._account.uid, self._take_turn)

    def _take_turn(self) -> int:
        self._queued = False
        if self._transport.is_closing() or not self._writable:
            return 0
        now = self._loop.time()
        wait = max(self._bucket.wait(now), self._account.bucket.wait(now))
        if wait > 0:
            self._queued = True
            self._transport.pause_reading()
            self._loop.call_later(wait, self._queue_again)
            return 0
        try:
            return self._serve_slice(now)
        except Misbehaved as err:
            self._part(http1_answer(err.detail) if err.http1 else goaway(err.code, err.detail, nothing_was_done=False))
            return _SLICE_FRAMES
        except BaseException:  # a fault of ours goes on to the loop's handler, this connection does not
            self._transport.abort()
            raise

    def _queue_again(self) -> None:
        self._queued = False
        self._queue()

    def _serve_slice(self, now: float) -> int:
        cut = self._frames.cut(self._waiting, _SLICE_FRAMES)
        self._bucket.take(cut.cost, now)
        self._account.bucket.take(cut.cost, now)
        self._control += cut.control
        self._patience.bear(cut.control, now)
        if cut.size:
            frames = bytes(memoryview(self._waiting)[: cut.size])
            del self._waiting[: cut.size]
            if not self._introduced:
                self._introduced = True
                self._guest.connection_made(self._outbox, self._excuse)
            self._guest.data_received(frames)
            self._queue()
        if len(self._waiting) < _ENOUGH_WAITING and not self._transport.is_closing():
            self._transport.resume_reading()
        self._watch_for_stall()
        return cut.frames

    def _watch_for_stall(self) -> None:
        self._set_stall_timer(on=not self._queued and (bool(self._waiting) or not self._frames.between_blocks))

    def _set_stall_timer(self, *, on: bool) -> None:
        if on and self._stalled is None:
            self._stalled = self._loop.call_later(self._stall_seconds, self._end_stalled)
        elif not on and self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _end_stalled(self) -> None:
        self.end(f"connection: expected the rest of what was begun within {self._stall_seconds:g} s, found silence", 0)
