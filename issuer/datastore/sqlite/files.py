"""The files of a store: lock out a second issuer, check that the files are still there, and test the disk when SQLite fails.

faults decides what an error means once the disk was asked.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from cognomen.process.filehold import hold
from cognomen.process.privatefile import private_directory
from cognomen.protocol.errors import Kind, Refused

__all__ = ["StoreFiles", "log_of", "open_private"]

_TRIAL_BYTES = 4096
_CHUNK = 1024 * 1024

_held: set[tuple[int, int]] = set()
"""The files that this process holds. A file is never opened twice: closing the second descriptor would drop SQLite's locks."""


class StoreFiles:
    """The open files, locked against everybody else until `close`. Close every connection first.

    Args:
        descriptor: the database.
        beside: other files and directories that must also stay where they are.
    """

    def __init__(self, path: Path, descriptor: int, beside: Sequence[Path]) -> None:
        self.path = path
        self._descriptor = descriptor
        self._identity = _identity(os.fstat(descriptor))
        self._wanted = [path, log_of(path), path.with_name(f"{path.name}-shm"), *beside]
        self._noted: dict[
            str, tuple[int, int]
        ] = {}  # keyed by text: with each commit, a Path would cost more than the system call
        self._unreadable: OSError | None = None
        self._is_read = False

    @classmethod
    def open(cls, path: Path, beside: Sequence[Path] = ()) -> Self:
        """Open the database, or create an empty file with mode 0600, in a directory that is ours alone.

        Raises:
            Refused: INVALID when the file or its directory is open to others; EXISTS when an issuer uses it; UNAVAILABLE on a system error.
        """
        with contextlib.suppress(OSError):
            if _identity(path.lstat()) in _held:
                raise _used(path)
        descriptor = open_private(path)
        try:
            is_ours = hold(descriptor)
        except OSError as e:
            os.close(descriptor)
            raise _unavailable(path, e) from e
        if not is_ours:
            os.close(descriptor)
            raise _used(path)
        files = cls(path, descriptor, beside)
        _held.add(files._identity)
        return files

    def note(self) -> None:
        """Remember which files are there, now that SQLite has opened them.

        Raises:
            Refused: UNAVAILABLE when one is already gone, or is not the one that was opened.
        """
        self._noted = {str(self.path): self._identity}
        try:
            self._noted |= {str(path): _identity(path.lstat()) for path in self._wanted[1:]}
        except OSError as e:
            raise _unavailable(self.path, e) from e
        if gone := self.missing():
            raise Refused(
                Kind.UNAVAILABLE, f"datastore: {gone}", hint="find out what changes files below the state directory"
            )

    def missing(self) -> str:
        """Which file was removed or replaced since, in words; empty: none.

        What was committed after that is in files without a name, and is lost when this process ends.

        Raises:
            Refused: UNAVAILABLE when the system does not say.
        """
        for path, noted in self._noted.items():
            try:
                found = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                return f"{path} was removed"
            except OSError as e:
                raise _unavailable(Path(path), e) from e
            if _identity(found) != noted:
                return f"{path} was replaced"
        return ""

    def write_fault(self) -> OSError | None:
        """The system's error for writing a small file beside the database now; None: it worked."""
        trial = self.path.with_name(f".{self.path.name}.trial")
        try:
            try:
                descriptor = os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "wb", buffering=0) as file:
                    file.write(bytes(_TRIAL_BYTES))
                    os.fsync(descriptor)
            finally:
                trial.unlink(missing_ok=True)
        except OSError as e:
            return e
        return None

    def read_fault(self, *, afresh: bool = False) -> OSError | None:
        """The system's error for reading the whole database; None: it gave every byte.

        Args:
            afresh: read it now, instead of returning what this process found when it last read it.
        """
        if afresh or not self._is_read:
            self._is_read, self._unreadable, offset = True, None, 0
            try:
                while read := len(os.pread(self._descriptor, _CHUNK, offset)):
                    offset += read
            except OSError as e:
                self._unreadable = e
        return self._unreadable

    def close(self) -> None:
        """Close the files, which stay on the disk."""
        _held.discard(self._identity)
        os.close(self._descriptor)


def log_of(path: Path) -> Path:
    """The path of a database's write-ahead log."""
    return path.with_name(f"{path.name}-wal")


def open_private(path: Path) -> int:
    """Open a file of the store for reading and writing, or create it with mode 0600, in a directory that is ours alone; a descriptor.

    Raises:
        Refused: INVALID when the file or its directory is open to others; UNAVAILABLE on a system error.
    """
    private_directory(path.parent)
    with _telling(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    found = os.fstat(descriptor)
    is_open_to_others = found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not is_open_to_others:
        return descriptor
    os.close(descriptor)
    raise Refused(
        Kind.INVALID,
        f"datastore: {path}: expected a regular file of uid {os.geteuid()} with mode 0600,"
        f" found uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}",
        hint=f"chmod 600 {path}",
    )


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _used(path: Path) -> Refused:
    return Refused(
        Kind.EXISTS,
        f"state_dir: expected one that no issuer uses, found one running in {path.parent}",
        hint="end that issuer, or name another state_dir",
    )


@contextlib.contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise _unavailable(path, e) from e


def _unavailable(path: Path, error: OSError) -> Refused:
    return Refused(
        Kind.UNAVAILABLE,
        f"datastore: {path}: {(error.strerror or str(error)).lower()}",
        hint="check the path, its permissions and its disk",
    )
