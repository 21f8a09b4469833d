"""Files that are replaced completely or not at all, and what happens to a file whose writer was killed.

Here a file is a name in an open directory; privatefile knows which directories are ours. Making a change durable is the caller's part
(`ownpath.sync`).
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from cognomen.process.ownpath import listed, own_directory

__all__ = ["check_replaceable", "new_file", "put", "replace_file", "sweep", "sweep_in"]

_LEFT = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}", re.DOTALL)


def replace_file(directory: int, name: str, data: bytes, *, mode: int = 0o600) -> None:
    """Replace a file of an open directory completely; the caller makes that durable (`ownpath.sync`).

    Raises:
        OSError: it cannot be written; its old contents then stay.
    """
    with new_file(directory, name) as (descriptor, temporary):
        put(descriptor, data, mode=mode)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def check_replaceable(directory: int, name: str) -> None:
    """Check that no directory and no device has that name.

    Raises:
        OSError: one has it.
    """
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise OSError(errno.EEXIST, "is a device")


@contextlib.contextmanager
def new_file(directory: int, name: str) -> Iterator[tuple[int, str]]:
    """Make a file that is locked while its writer lives, so that nobody sweeps it; removed at the end if it still has that name."""
    while True:
        temporary = f".{name}.{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
        if _is_locked_by_us(descriptor) and os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # somebody just swept it
    try:
        yield descriptor, temporary
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        os.close(descriptor)


def put(descriptor: int, data: bytes, *, mode: int) -> None:
    """Write it all into a new file, durably."""
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.fchmod(descriptor, mode)
    os.fsync(descriptor)


def sweep(path: Path) -> None:
    """Remove what writers left in a directory when they were killed in `write_private`; files of living writers stay.

    Best effort: what cannot be removed stays.

    Raises:
        Refused: INVALID when somebody else may write the directory or one above.
    """
    with contextlib.suppress(OSError), own_directory(path) as directory:
        sweep_in(directory)


def sweep_in(directory: int, name: str | None = None) -> None:
    """Remove what killed writers left in an open directory; with a name, only of that file."""
    for left in listed(directory):
        found = _LEFT.fullmatch(left)
        if found is None or (name is not None and found["name"] != name):
            continue
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(left, flags, dir_fd=directory)
            try:
                if os.fstat(descriptor).st_uid == os.geteuid() and _is_locked_by_us(descriptor):
                    os.unlink(left, dir_fd=directory)
            finally:
                os.close(descriptor)


def _is_locked_by_us(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
