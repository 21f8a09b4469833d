"""What calls leave for the garbage collector, counted while it is off."""

import asyncio
import gc
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path

from bench.rig.attacks import frame, greeting, request
from tests.doubles.until import until

__all__ = ["Caller", "End", "Headers", "garbage_of"]

Headers = Sequence[tuple[str, str]]

_DATA, _HEADERS, _RST, _PING, _WINDOW_UPDATE = 0, 1, 3, 6, 8
_END_STREAM = 0x1
_HEAD = struct.Struct(">BHBBL")
_CANCEL = struct.pack(">L", 8)
_GREETING = greeting + frame(_WINDOW_UPDATE, 0, 0, struct.pack(">L", 2**30))
_AT_ONCE = 20
_TRIES = 3
_MOST_STREAMS = 1000
"""Of a connection: an end of it is among what is counted."""


class End(Enum):
    """How calls end."""

    BY_SERVER = auto()
    RESET_AT_ONCE = auto()
    RESET = auto()
    """After the first message."""
    CONNECTION_LOST = auto()
    """After the first message, too."""


async def garbage_of(calls: Callable[[int], Awaitable[None]], count: int) -> Counter[str]:
    """Make so many calls, after a few that warm up, and say what they left, by the names of the types: the least of some tries.

    What others left in this process, whose threads end now and then, is collected with it, but not in each try.
    """
    await calls(_AT_ONCE)
    tries = [await _garbage_of(calls, count)]
    while tries[-1].total() and len(tries) < _TRIES:
        tries.append(await _garbage_of(calls, count))
    return min(tries, key=Counter.total)


async def _garbage_of(calls: Callable[[int], Awaitable[None]], count: int) -> Counter[str]:
    with _nothing_collected():
        await calls(count)
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            gc.collect()
            return Counter(type(one).__name__ for one in gc.garbage)
        finally:
            gc.set_debug(0)
            gc.garbage.clear()


@contextmanager
def _nothing_collected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Caller:
    """Makes calls of one method, and leaves no garbage itself.

    Args:
        in_flight: how many calls the server has.
        message: what each call sends.
    """

    def __init__(
        self,
        path: Path,
        in_flight: Callable[[], int],
        method: str,
        message: bytes = b"",
        *,
        headers: Headers = (),
    ) -> None:
        self._path, self._in_flight = path, in_flight
        self._service, _, self._method = method.rpartition("/")
        self._headers = headers
        self._body = struct.pack(">BL", 0, len(message)) + message

    async def call(self, end: End, count: int) -> None:
        """Make so many calls, some at a time, and return when the server has forgotten them."""
        while count > 0:
            reader, writer = await asyncio.open_unix_connection(self._path)
            writer.write(_GREETING)
            most = _AT_ONCE if end is End.CONNECTION_LOST else min(count, _MOST_STREAMS)
            for first in range(1, 2 * most, 2 * _AT_ONCE):
                await self._batch(reader, writer, end, range(first, first + 2 * _AT_ONCE, 2))
            writer.close()
            await until(lambda: not self._in_flight())
            count -= most

    async def _batch(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, end: End, streams: range
    ) -> None:
        resets = [frame(_RST, 0, stream, _CANCEL) for stream in streams]
        for stream, reset in zip(streams, resets, strict=True):
            writer.write(request(stream, self._method, *self._headers, service=self._service))
            writer.write(frame(_DATA, _END_STREAM, stream, self._body))
            if end is End.RESET_AT_ONCE:
                writer.write(reset)
        if end is End.RESET_AT_ONCE:
            writer.write(frame(_PING, 0, 0, bytes(8)))
        left = {0} if end is End.RESET_AT_ONCE else set(streams)
        while left:
            async with asyncio.timeout(10):
                high, low, kind, flags, stream = _HEAD.unpack(await reader.readexactly(_HEAD.size))
                await reader.readexactly(high << 16 | low)
            is_over = kind in {_RST, _PING} or (kind == _HEADERS and flags & _END_STREAM)
            if is_over or (kind == _DATA and end is not End.BY_SERVER):
                left.discard(stream)
        if end is End.RESET:
            writer.writelines(resets)
        if end is not End.CONNECTION_LOST:
            await until(lambda: not self._in_flight())
