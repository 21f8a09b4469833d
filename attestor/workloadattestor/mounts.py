"""Which file systems may be asked about a file: told by its mount, without asking the file system.

Decided here: the kinds that are believed and that answer by themselves. FUSE is another user's program, a network file system a server
somewhere: each may answer nothing for ever, or say of its bytes what it likes.
Source: proc_pid_mountinfo(5), proc_pid_fdinfo(5).
"""

import os
import re
import select
import threading
import weakref
from pathlib import Path
from typing import NamedTuple

__all__ = ["Mounts", "mount_id", "mount_namespace"]

_LOCAL = frozenset(
    b"bcachefs btrfs cramfs erofs exfat ext2 ext3 ext4 f2fs iso9660 jfs nilfs2 ntfs3 ramfs rootfs romfs squashfs tmpfs ubifs udf vfat"
    b" xfs zfs".split()
)
_OVERLAY = b"overlay"
_MOST_BYTES = 1 << 20  # of a caller's own table: it may have as many mounts as it likes


class _Mount(NamedTuple):
    device: bytes
    kind: bytes


class Mounts:
    """The mounts that we see, read anew whenever the kernel says that they changed."""

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._file = Path("/proc/self/mountinfo").open("rb", buffering=0)  # noqa: SIM115 - kept, for its changes
        weakref.finalize(self, self._file.close)
        self._changes = select.poll()
        self._changes.register(self._file, select.POLLPRI | select.POLLERR)
        self._local: dict[bytes, bool] = {}
        self._table = self._file.read()

    def is_local(self, number: bytes) -> bool:
        """Whether it is known, without any wait, that this is a mount of a local file system that we see."""
        if not self._reading.acquire(blocking=False):
            return False
        try:
            if self._changes.poll(0):
                self._forget()  # to be read by somebody who may wait: the table may be long
            if (known := self._local.get(number)) is None and self._table:
                mount = _find(self._table, number)
                known = self._local[number] = mount is not None and mount.kind in _LOCAL
            return bool(known)
        finally:
            self._reading.release()

    def unasked(self, descriptor: int, pid: int) -> str | None:
        """The kind of file system that a file lies on, if it must not be asked; None: it may, in a thread.

        An overlay asks those below it: it may be asked where it is mounted for us, too, for then it is not the caller's own making.

        Args:
            pid: of the process that has the file; a mount that we do not see may be one of its own.
        """
        number = mount_id(descriptor)
        table = self._ours()
        if (mount := _find(table, number)) is not None:
            return None if mount.kind in {*_LOCAL, _OVERLAY} else mount.kind.decode(errors="replace")
        if (mount := _find(_table_of(pid), number)) is None:
            return "unknown"
        seen = mount.kind in _LOCAL or (mount.kind == _OVERLAY and _is_overlay(table, mount.device))
        return None if seen else mount.kind.decode(errors="replace")

    def _ours(self) -> bytes:
        with self._reading:
            if self._changes.poll(0):
                self._forget()
            if not self._table:
                self._file.seek(0)
                self._table = self._file.read()
            return self._table

    def _forget(self) -> None:
        self._table = b""
        self._local.clear()


def mount_id(descriptor: int) -> bytes:
    """The number of the mount of an open file, which no other mount has while the file is open."""
    info = os.open(f"/proc/self/fdinfo/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(info, 1024).partition(b"mnt_id:\t")[2].partition(b"\n")[0]
    finally:
        os.close(info)


def mount_namespace(pid: int | str) -> str:
    """What names the mount namespace of a process."""
    return os.readlink(f"/proc/{pid}/ns/mnt")  # noqa: PTH115 - asked at each call and push: a Path costs more than the link


def _table_of(pid: int) -> bytes:
    with Path(f"/proc/{pid}/mountinfo").open("rb") as file:
        return file.read(_MOST_BYTES)


def _find(table: bytes, number: bytes) -> _Mount | None:
    """Find the line of a mount. The kernel writes spaces and newlines within the fields as numbers, so that nobody can make up a line."""
    begin = 0 if table.startswith(number + b" ") else table.find(b"\n" + number + b" ") + 1
    if not number or (begin == 0 and not table.startswith(number + b" ")):
        return None
    if (end := table.find(b"\n", begin)) < 0:  # cut off
        return None
    fields, _, rest = table[begin:end].partition(b" - ")
    return _Mount(device=fields.split()[2], kind=rest.split()[0])


def _is_overlay(table: bytes, device: bytes) -> bool:
    return re.search(rb"^[0-9]+ [0-9]+ %s [^\n]* - overlay " % re.escape(device), table, re.MULTILINE) is not None
