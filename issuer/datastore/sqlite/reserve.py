"""Disk space kept for what must work even when the disk is full: deleting entries, sending nodes away, an authority's next step.

A file with no content keeps the space, and gives it back in parts when SQLite finds the disk full. While the file is smaller than it
should be, or the disk is nearly full, there is no room to spare, and we refuse what others may request without limit (worker). The file
grows back automatically once there is space.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from issuer.datastore.sqlite.files import open_private

__all__ = ["Reserve"]

_PARTS = 8
_MARGIN = 4  # the disk counts as full while it has less than a quarter of the reserve left, because SQLite's log must still be folded back
_BLOCK = 512  # the unit of st_blocks
_MIB = 2**20


class Reserve:
    """The reserve file, open until `close`; any thread may use it.

    Args:
        descriptor: the file, ours alone.
        size: how much it should keep, in bytes.
        free: how much space the disk has left, in bytes, without what the database still has to take from its log.
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
        """Open the file, or create it with mode 0600; it is filled when somebody asks for room.

        Args:
            log: SQLite's write-ahead log; the database must be able to grow by the content of that log.

        Raises:
            Refused: INVALID when it is open to others; UNAVAILABLE on a system error.
        """
        descriptor = open_private(path)
        return cls(descriptor, size, lambda: _free_bytes(descriptor) - _size(log))

    def has_room(self) -> bool:
        """Whether there is room to spare; this takes back what was given, if the disk has it."""
        return not self.lacking()

    def lacking(self) -> str:
        """How much space is missing, in words; empty: there is room. Like `has_room`, this takes back what was given."""
        with self._lock:
            free, margin = self._free(), self._size // _MARGIN
            missing = self._size - self._held
            if missing and free >= missing + margin:
                self._fill(self._size)
                free, missing = self._free(), self._size - self._held
            if not missing and free >= margin:
                return ""
            return (
                f"found {max(0, free) / _MIB:.1f} MiB free, expected {(missing + margin) / _MIB:.1f} MiB"
                f" (disk_reserve_mib is {self._size / _MIB:g}); {self._held / _MIB:.1f} MiB of the reserve are left"
            )

    def give_back(self) -> bool:
        """Give a part of the reserve back to the disk; False when nothing is left."""
        with self._lock:
            if not self._held:
                return False
            self._held = max(0, self._held - max(1, self._size // _PARTS))
            os.ftruncate(self._descriptor, self._held)
            return True

    @property
    def held(self) -> int:
        """How much the reserve keeps now, in bytes."""
        return self._held

    def keep(self, size: int) -> None:
        """Keep that much again, or as much as the disk has, in parts, after it was given back for a moment."""
        with self._lock:
            part = max(1, self._size // (_PARTS * _PARTS))
            while size > self._held and not self._fill(size):
                size -= part

    def is_disk_full(self) -> bool:
        """Whether the disk has no space left, or almost none."""
        return self._free() < self._size // _MARGIN

    def close(self) -> None:
        """Close the file, which stays on the disk."""
        os.close(self._descriptor)

    def _fill(self, size: int) -> bool:
        try:
            os.posix_fallocate(self._descriptor, 0, size)
        except OSError:  # somebody else was faster
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._held)
            return False
        self._held = size
        return True


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it does not exist yet
        return 0


def _free_bytes(descriptor: int) -> int:
    found = os.fstatvfs(descriptor)
    return found.f_bavail * found.f_frsize
