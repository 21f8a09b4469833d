"""What is said on a connection in one turn of the event loop, gathered into one write.

An answer is three HTTP/2 frames, and each would be a system call of its own; eight calls in flight make one write instead of 24.
"""

import asyncio
from typing import TypeVar

__all__ = ["Outbox"]

_Info = TypeVar("_Info")

_MOST_BYTES = 16 * 1024  # so that whoever writes much hears of a peer that does not read as soon as without an outbox


class Outbox(asyncio.Transport):
    """The writing side of a transport; nothing stays here longer than the turn in which it was written."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._waiting: list[bytes | bytearray | memoryview] = []
        self._size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write at the end of this turn, at once where much waits."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= _MOST_BYTES:
            self._flush()

    def close(self) -> None:
        """Close the connection when all is written."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close it at once; what waits is lost."""
        self._waiting.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: _Info | None = None) -> _Info | None:
        """What the transport knows."""
        found: _Info | None = self._transport.get_extra_info(name, default)
        return found

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        if data and not self._transport.is_closing():
            self._transport.write(data)
