"""Checkpoints in a file, a line each, only ever added to: for a disk that somebody else looks after."""

import asyncio
import os
from pathlib import Path

from cognomen.daemon.auditlog import Checkpoint
from cognomen.daemon.errors import Kind, Refused

__all__ = ["FileSink"]


class FileSink:
    """Adds lines to one file, made with mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def write(self, checkpoint: Checkpoint) -> None:
        """Add a line, durably."""
        await asyncio.to_thread(self._append, checkpoint.to_json() + b"\n")

    def _append(self, line: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(self._path, flags, 0o600), "ab", buffering=0) as file:
                file.write(line)
                os.fsync(file.fileno())
        except OSError as e:
            raise Refused(
                Kind.UNAVAILABLE,
                f"audit_checkpoint_file {self._path}: {(e.strerror or str(e)).lower()}",
                hint="check the path, its permissions and the free space",
            ) from e
