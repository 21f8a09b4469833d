"""Checkpoints in an append-only file, one per line: for a disk that somebody else looks after."""

import errno
import os
import shlex
import stat
from pathlib import Path

from cognomen.process.localids import PrivateGroups
from cognomen.process.ownpath import others_write, own_directory, sync
from cognomen.process.ownthreads import in_own_thread
from cognomen.protocol.auditlog import MAX_CHECKPOINT_BYTES, Checkpoint
from cognomen.protocol.errors import Kind, Refused

__all__ = ["FileSink"]

_GROUPS = PrivateGroups()


class FileSink:
    """Appends lines to one regular file that only we, or root and a group of its choice, may write; creates it with mode 0600."""

    def __init__(self, path: Path, *, groups: PrivateGroups = _GROUPS) -> None:
        self._path = path
        self._groups = groups
        self._is_durable = False  # its name, not its lines

    async def write(self, checkpoint: Checkpoint) -> None:
        """Append a whole line, durably; first remove a line that a crash cut off, so that the next can be read.

        Raises:
            Refused: INVALID when somebody else could have written its content; UNAVAILABLE on a system error.
        """
        await in_own_thread(self._append, checkpoint.to_json() + b"\n")

    def _append(self, line: bytes) -> None:
        # without O_NONBLOCK a named pipe would block the thread forever
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with own_directory(self._path.parent, shared=True, groups=self._groups) as directory:
                descriptor = os.open(self._path.name, flags, 0o600, dir_fd=directory)
                try:
                    self._check(descriptor)
                    if not self._is_durable:
                        sync(directory)
                        self._is_durable = True
                    _append_line(descriptor, line)
                finally:
                    os.close(descriptor)
        except OSError as e:
            raise Refused(
                Kind.UNAVAILABLE,
                f"audit_checkpoint_file {self._path}: {(e.strerror or str(e)).lower()}",
                hint="check the path, its permissions and the free space",
            ) from e

    def _check(self, descriptor: int) -> None:
        """Refuse a file that others could have written, or that may have another name of somebody else's; root may let a group write."""
        found = os.fstat(descriptor)
        is_roots = found.st_uid == 0 != os.geteuid()
        quoted = shlex.quote(str(self._path))
        if not stat.S_ISREG(found.st_mode):
            expected, hint = "a regular file", "name another file"
        elif found.st_uid not in {0, os.geteuid()}:
            expected, hint = f"root or uid {os.geteuid()} as its owner", f"move it away: mv {quoted} {quoted}.old"
        elif found.st_mode & stat.S_IWOTH if is_roots else others_write(descriptor, groups=self._groups):
            expected, hint = "one that nobody else may write", f"chmod go-w {quoted}"
        elif found.st_nlink > 1:
            expected, hint = "a file with one name", f"move it away: mv {quoted} {quoted}.old"
        else:
            return
        raise Refused(
            Kind.INVALID,
            f"audit_checkpoint_file {self._path}: expected {expected}, found uid {found.st_uid},"
            f" {stat.filemode(found.st_mode)}, {found.st_nlink} links",
            hint=hint,
        )


def _append_line(descriptor: int, line: bytes) -> None:
    found = os.fstat(descriptor)
    end = _end_of_last_line(descriptor, found.st_size)
    if end < found.st_size:
        os.ftruncate(descriptor, end)
    if os.write(descriptor, line) < len(line):
        os.ftruncate(descriptor, end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


def _end_of_last_line(descriptor: int, size: int) -> int:
    """Where the last whole line ends; a tail longer than a checkpoint is not ours, and stays."""
    begin = max(0, size - MAX_CHECKPOINT_BYTES)
    end = os.pread(descriptor, size - begin, begin).rfind(b"\n") + 1
    return begin + end if end or not begin else size
