"""Room kept on the disk for what must be possible when it is full: deleting entries, sending nodes away, an authority's next step.

A file that holds nothing keeps the room, and gives it back in parts when SQLite finds the disk full. While it is not whole, or the
disk is nearly full, there is no room to spare, and what others may ask for without an end is refused (worker). It becomes whole again
by itself once there is space.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from issuer.datastore.sqlite.schema import create_file

__all__ = ["Reserve"]

_PARTS = 8
_MARGIN = 4  # the disk counts as full while it has less than a quarter of the reserve left: SQLite's log must be folded back, too
_BLOCK = 512  # the unit of st_blocks
_MIB = 2**20


class Reserve:
    """The file, open until `close`; any thread may ask.

    Args:
        descriptor: the file, ours alone.
        size: how much it keeps, in bytes.
        free: how much the disk has left, in bytes, beside what the database still has to take from its log.
    """

    def __init__(self, descriptor: int, size: int, free: Callable[[], int]) -> None:
        self._descriptor = descriptor
        self._size = size
        self._free = free
        self._lock = threading.Lock()
        found = os.fstat(descriptor)
        self._held = min(size, found.st_size, found.st_blocks * _BLOCK)
        if found.st_size > size:
            os.ftruncate(descriptor, size)

    @classmethod
    def open(cls, path: Path, size: int, *, log: Path) -> Self:
        """Open the file, or make it, mode 0600; it is filled when somebody asks for room.

        Args:
            log: SQLite's write-ahead log; the database must be able to grow by as much as stands in it.

        Raises:
            Refused: INVALID when it is open to others; UNAVAILABLE when the system says no.
        """
        create_file(path)
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        return cls(descriptor, size, lambda: _free_bytes(descriptor) - _size(log))

    def has_room(self) -> bool:
        """Whether there is room to spare; what was given back is kept again if the disk has it."""
        return not self.lacking()

    def lacking(self) -> str:
        """What is missing for room to spare, in words, empty when there is room; what was given back is kept again, likewise."""
        with self._lock:
            free, margin = self._free(), self._size // _MARGIN
            missing = self._size - self._held
            if missing and free >= missing + margin:
                self._fill()
                free, missing = self._free(), self._size - self._held
            if not missing and free >= margin:
                return ""
            return (
                f"found {free / _MIB:.1f} MiB free, expected {(missing + margin) / _MIB:.1f} MiB"
                f" (disk_reserve_mib is {self._size / _MIB:g})"
            )

    def give_back(self) -> bool:
        """Give a part of it back to the disk; False when nothing is left."""
        with self._lock:
            if not self._held:
                return False
            self._held = max(0, self._held - max(1, self._size // _PARTS))
            os.ftruncate(self._descriptor, self._held)
            return True

    def is_disk_full(self) -> bool:
        """Whether the disk has nothing left, or next to nothing."""
        return self._free() < self._size // _MARGIN

    def close(self) -> None:
        """Let go of the file, which stays."""
        os.close(self._descriptor)

    def _fill(self) -> None:
        try:
            os.posix_fallocate(self._descriptor, 0, self._size)
        except OSError:  # somebody else was faster
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._held)
        else:
            self._held = self._size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # none is there yet
        return 0


def _free_bytes(descriptor: int) -> int:
    found = os.fstatvfs(descriptor)
    return found.f_bavail * found.f_frsize
