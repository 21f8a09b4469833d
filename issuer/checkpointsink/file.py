"""Checkpoints in a file, a line each, only ever added to: for a disk that somebody else looks after."""

import asyncio
import errno
import os
import stat
from pathlib import Path

from cognomen.daemon.auditlog import MAX_CHECKPOINT_BYTES, Checkpoint
from cognomen.daemon.errors import Kind, Refused

__all__ = ["FileSink"]


class FileSink:
    """Adds lines to one regular file, made with mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def write(self, checkpoint: Checkpoint) -> None:
        """Add a line, durably and whole; one that a crash cut off is taken back first, so that the next can be read."""
        await asyncio.to_thread(self._append, checkpoint.to_json() + b"\n")

    def _append(self, line: bytes) -> None:
        # without O_NONBLOCK a named pipe would hold the thread for ever
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(self._path, flags, 0o600)
            try:
                _append_line(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as e:
            raise Refused(
                Kind.UNAVAILABLE,
                f"audit_checkpoint_file {self._path}: {(e.strerror or str(e)).lower()}",
                hint="check the path, its permissions and the free space",
            ) from e


def _append_line(descriptor: int, line: bytes) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "expected a regular file")
    end = _end_of_last_line(descriptor, found.st_size)
    if end < found.st_size:
        os.ftruncate(descriptor, end)
    if os.write(descriptor, line) < len(line):
        os.ftruncate(descriptor, end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


def _end_of_last_line(descriptor: int, size: int) -> int:
    """Where the last whole line ends; a tail longer than a checkpoint is none of ours and stays."""
    begin = max(0, size - MAX_CHECKPOINT_BYTES)
    end = os.pread(descriptor, size - begin, begin).rfind(b"\n") + 1
    return begin + end if end or not begin else size
