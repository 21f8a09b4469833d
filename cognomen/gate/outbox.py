"""Gathers what is written to a connection in one turn of the event loop into one write.

An answer is three HTTP/2 frames, each of which would be its own system call; eight calls in flight make one write instead of 24.
"""

import asyncio
from typing import TypeVar

__all__ = ["Outbox"]

_Info = TypeVar("_Info")

_MOST_BYTES = (
    16 * 1024
)  # so that a writer of much data learns of a peer that does not read as soon as without an outbox


class Outbox(asyncio.Transport):
    """The writing side of a transport; nothing stays here beyond the turn in which it was written.

    A caller that knows that nobody else will write in this turn may flush before its end.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes | bytearray | memoryview] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write at the end of this turn, or at once if much is waiting."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= _MOST_BYTES:
            self.flush()

    def close(self) -> None:
        """Close the connection once everything is written."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close it at once; what waits is lost."""
        self._waiting.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: _Info | None = None) -> _Info | None:
        """Ask the transport."""
        found: _Info | None = self._transport.get_extra_info(name, default)
        return found

    def flush(self) -> None:
        """Write what waits now."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        if data and not self._transport.is_closing():
            self._transport.write(data)
