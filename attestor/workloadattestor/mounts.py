"""Which file systems may be asked about a file; the file's mount shows that, without asking the file system.

Decided here: the kinds that are trusted and that depend on nobody else to answer. FUSE is another user's program, and a network file system
is a server somewhere: either may never answer, or lie about its bytes.
Source: proc_pid_mountinfo(5), proc_pid_fdinfo(5).
"""

import os
import re
import select
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Mounts", "Table", "mount_id", "mount_namespace"]

_LOCAL = frozenset(
    b"bcachefs btrfs cramfs erofs exfat ext2 ext3 ext4 f2fs iso9660 jfs nilfs2 ntfs3 ramfs rootfs romfs squashfs tmpfs ubifs udf vfat"
    b" xfs zfs".split()
)
_OVERLAY = b"overlay"
_MOST_BYTES = 1 << 20  # of a caller's own table, because it may have any number of mounts


class _Mount(NamedTuple):
    device: bytes
    kind: bytes


class Table:
    """The mounts of a namespace that outlives us, read again whenever the kernel says that they have changed.

    Args:
        pid: a process in that namespace.

    Raises:
        OSError: we may not see it.
    """

    def __init__(self, pid: int | str) -> None:
        self.namespace = mount_namespace(pid)
        self._file = Path(f"/proc/{pid}/mountinfo").open("rb", buffering=0)  # noqa: SIM115 - kept, for its changes
        weakref.finalize(self, self._file.close)
        self._changes = select.poll()
        self._changes.register(self._file, select.POLLPRI | select.POLLERR)
        self._reading = threading.Lock()
        self._local: dict[bytes, bool] = {}
        self._lines = self._file.read()

    def is_local(self, number: bytes) -> bool:
        """Whether we know, without waiting, that this mount is in the table and has a local file system."""
        if not self._reading.acquire(blocking=False):
            return False
        try:
            if self._changes.poll(0):
                self._forget()  # a thread that may wait reads it again: the table may be long
            if (known := self._local.get(number)) is None and self._lines:
                mount = _find(self._lines, number)
                known = self._local[number] = mount is not None and mount.kind in _LOCAL
            return bool(known)
        finally:
            self._reading.release()

    def lines(self) -> bytes:
        """The mounts as they are now, one per line; call it in a thread."""
        with self._reading:
            if self._changes.poll(0):
                self._forget()
            if not self._lines:
                self._file.seek(0)
                self._lines = self._file.read()
            return self._lines

    def _forget(self) -> None:
        self._lines = b""
        self._local.clear()


class Mounts:
    """The mounts that we see, and those that most processes of the machine see: our systemd unit may give us a private namespace.

    Args:
        first_process: a process with the namespace of most; if we may not see it, looking at their executables takes a thread.
    """

    def __init__(self, first_process: int = 1) -> None:
        ours = Table("self")
        self._tables = {ours.namespace: ours}
        with suppress(OSError):
            first = Table(first_process)
            self._tables.setdefault(first.namespace, first)
        self._ours = ours

    def seen_by(self, pid: int) -> Table | None:
        """The mounts that a process sees, if they are known."""
        return self._tables.get(mount_namespace(pid))

    def is_local(self, number: bytes) -> bool:
        """Whether we know, without waiting, that we see this mount and that it has a local file system."""
        return self._ours.is_local(number)

    def unasked(self, descriptor: int, pid: int) -> str | None:
        """The kind of file system that a file is on, if it must not be asked; None: it may be asked, in a thread.

        An overlay asks the file systems below it. It may be asked only if it is also mounted for us, because then the caller did not
        make it.

        Args:
            pid: the process that has the file; a mount that we do not see may be its own.
        """
        number = mount_id(descriptor)
        tables = [table.lines() for table in self._tables.values()]
        for table in tables:
            if (mount := _find(table, number)) is not None:
                return None if mount.kind in {*_LOCAL, _OVERLAY} else _name(mount)
        if (mount := _find(_table_of(pid), number)) is None:
            return "an unknown one"
        is_seen = mount.kind == _OVERLAY and any(_is_overlay(table, mount.device) for table in tables)
        return None if mount.kind in _LOCAL or is_seen else _name(mount)


def _name(mount: _Mount) -> str:
    return mount.kind.decode(errors="replace")


def mount_id(descriptor: int) -> bytes:
    """The number of the mount of an open file, which no other mount has while the file is open."""
    info = os.open(f"/proc/self/fdinfo/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(info, 1024).partition(b"mnt_id:\t")[2].partition(b"\n")[0]
    finally:
        os.close(info)


def mount_namespace(pid: int | str) -> str:
    """The name of a process's mount namespace."""
    return os.readlink(f"/proc/{pid}/ns/mnt")  # noqa: PTH115 - asked at each call and push: a Path costs more than the link


def _table_of(pid: int) -> bytes:
    with Path(f"/proc/{pid}/mountinfo").open("rb") as file:
        return file.read(_MOST_BYTES)


def _find(table: bytes, number: bytes) -> _Mount | None:
    """Find the line of a mount. The kernel escapes spaces and newlines within the fields, so that nobody can forge a line."""
    begin = 0 if table.startswith(number + b" ") else table.find(b"\n" + number + b" ") + 1
    if not number or (begin == 0 and not table.startswith(number + b" ")):
        return None
    if (end := table.find(b"\n", begin)) < 0:  # cut off
        return None
    fields, _, rest = table[begin:end].partition(b" - ")
    return _Mount(device=fields.split()[2], kind=rest.split()[0])


def _is_overlay(table: bytes, device: bytes) -> bool:
    return re.search(rb"^[0-9]+ [0-9]+ %s [^\n]* - overlay " % re.escape(device), table, re.MULTILINE) is not None
