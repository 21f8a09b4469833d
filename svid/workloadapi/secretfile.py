"""A file that only this process writes, in a new directory that only its user can open, in memory where the system has such a place.

What a process left that was killed, the next one of the same user removes. svid/workloadapi/keptfile decides what is written.
"""

import contextlib
import fcntl
import itertools
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SecretFile"]

_PREFIX = "svid-token-"
_LEFT = re.compile(rf"{_PREFIX}[a-z0-9_]{{8}}")
_NAME, _HALF_WRITTEN = "token", "token.new"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LOOKED_AT = 4096  # names in a directory that others may fill
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - its users cannot remove each other's files


class SecretFile:
    """The file; not written yet.

    Shape: `svid-token-XXXXXXXX/token` in $XDG_RUNTIME_DIR if that is ours alone, else in /dev/shm, else in the directory of temporary
        files; the directory has mode 0700, the file 0600.

    The directory is locked for as long as this process lives, so that nobody takes it for one that was left.

    Attributes:
        path: where the file is once it is written.

    Raises:
        OSError: there is no place for it.
    """

    def __init__(self) -> None:
        directory, self._directory = _new_directory()
        self.path = Path(directory, _NAME)

    def write(self, data: bytes) -> None:
        """Replace the file as a whole; if somebody removed the directory, make it again.

        Raises:
            OSError: it cannot be written; what was there before stays.
        """
        if not self._has_directory():
            directory = self.path.parent
            directory.mkdir(0o700)
            before, self._directory = self._directory, _locked(directory)
            os.close(before)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_HALF_WRITTEN, dir_fd=self._directory)
        with os.fdopen(os.open(_HALF_WRITTEN, _NEW, 0o600, dir_fd=self._directory), "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever the umask leaves of it
            file.write(data)
        os.replace(_HALF_WRITTEN, _NAME, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def is_there(self) -> bool:
        """Whether whoever opens `path` finds the file."""
        try:
            return self._has_directory() and stat.S_ISREG(os.lstat(self.path).st_mode)
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the file; the directory stays for the next one.

        Raises:
            OSError: it is still there.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_NAME, dir_fd=self._directory)

    def close(self) -> None:
        """Remove the file and its directory, as far as they can be removed; nothing can be written afterwards."""
        _remove(self.path.parent, self._directory)
        os.close(self._directory)

    def _has_directory(self) -> bool:
        return _is(self.path.parent, self._directory)


def _new_directory() -> tuple[str, int]:
    for place in _places():
        with contextlib.suppress(OSError):
            _sweep(place)
        with contextlib.suppress(OSError):
            return _made_in(place)
    return _made_in(Path(tempfile.gettempdir()))


def _places() -> Iterator[Path]:
    """Where such a file may be, best first; the last may be on a disk."""
    own = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    with contextlib.suppress(OSError):
        found = own.stat()
        if own.is_absolute() and found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield own
    with contextlib.suppress(OSError):
        if _SHARED_MEMORY.stat().st_mode & stat.S_ISVTX:
            yield _SHARED_MEMORY
    yield Path(tempfile.gettempdir())


def _made_in(place: Path) -> tuple[str, int]:
    while True:
        directory = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
        try:
            return directory, _locked(Path(directory))
        except (BlockingIOError, FileNotFoundError):  # somebody has just taken it for one that was left
            continue


def _locked(directory: Path) -> int:
    """Open a directory that we have just made, and hold it.

    Raises:
        OSError: it is not there any more, or somebody removes it.
    """
    directory.chmod(0o700)  # whatever the umask leaves of it; only its owner can have replaced it
    descriptor = os.open(directory, _DIRECTORY)
    with contextlib.ExitStack() as unless_held:
        unless_held.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is(directory, descriptor):
            raise FileNotFoundError(directory)
        unless_held.pop_all()
    return descriptor


def _sweep(place: Path) -> None:
    """Remove the directories of our processes that ended without removing them."""
    with os.scandir(place) as found:
        for one in itertools.islice(found, _MOST_LOOKED_AT):
            if _LEFT.fullmatch(one.name):
                with contextlib.suppress(OSError):
                    _remove_left(Path(place, one.name))


def _remove_left(directory: Path) -> None:
    descriptor = os.open(directory, _DIRECTORY)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(directory, descriptor)
    finally:
        os.close(descriptor)


def _remove(directory: Path, descriptor: int) -> None:
    for name in (_NAME, _HALF_WRITTEN):
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=descriptor)
    with contextlib.suppress(OSError):
        if _is(directory, descriptor):
            directory.rmdir()


def _is(directory: Path, descriptor: int) -> bool:
    """Whether the path still leads to what was opened."""
    try:
        return os.path.samestat(os.lstat(directory), os.fstat(descriptor))
    except FileNotFoundError:
        return False
