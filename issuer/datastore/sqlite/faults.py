"""Turn SQLite's errors into refusals that say what the operator can do.

SQLite uses one word for several faults: it calls a page that the disk cannot read "malformed", and a quota or a disk that became
read-only an "I/O error". So we also ask the disk (files).
"""

import errno
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from cognomen.protocol.errors import Kind, Refused

__all__ = [
    "Disk",
    "is_damage",
    "is_foreign",
    "is_full",
    "lost",
    "no_room",
    "outward",
    "refusing",
    "unavailable",
    "unreadable",
]

_PRIMARY_CODE = 0xFF

_RESTORE = "stop the issuer, move its state directory away, and restore a backup: cognomen issuer restore FILE --state DIRECTORY"
_DISK = (
    "look for disk errors in the system's log (dmesg); the data may be intact: copy the state directory first of all"
)

_MEANINGS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: (
        "full",
        "free some space where the state directory is; the issuer then continues automatically",
    ),
    sqlite3.SQLITE_READONLY: ("read-only", "make the file, its directory and its disk writable to the issuer's user"),
    sqlite3.SQLITE_PERM: ("not permitted", "the file and its directory must belong to the issuer's user"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "check that the directory exists and belongs to the issuer's user"),
    sqlite3.SQLITE_BUSY: (
        "locked by another process",
        "stop the other process (find it with: fuser PATH/issuer.db); only one issuer may use a state directory",
    ),
    sqlite3.SQLITE_LOCKED: ("locked", "stop the other process; only one issuer may use a state directory"),
    sqlite3.SQLITE_CORRUPT: ("damaged", _RESTORE),
    sqlite3.SQLITE_NOTADB: ("not an SQLite file", f"check state_dir; if it is right, {_RESTORE}"),
    sqlite3.SQLITE_IOERR: ("failed to read or write", _DISK),
    sqlite3.SQLITE_INTERRUPT: ("closed", "the issuer is stopping"),
    sqlite3.SQLITE_NOMEM: ("out of memory", "give the issuer more memory"),
}

_ERRNOS: dict[int, int] = {
    errno.ENOSPC: sqlite3.SQLITE_FULL,
    errno.EDQUOT: sqlite3.SQLITE_FULL,
    errno.EROFS: sqlite3.SQLITE_READONLY,
    errno.EACCES: sqlite3.SQLITE_PERM,
    errno.EPERM: sqlite3.SQLITE_PERM,
    errno.ENOENT: sqlite3.SQLITE_CANTOPEN,
}
"""What SQLite would have reported if it had looked at the system's error."""


class Disk(Protocol):
    """Questions to the disk, for when SQLite's error leaves the cause open."""

    def write_fault(self) -> OSError | None:
        """The system's error for writing a small file beside the database now; None: it worked."""

    def read_fault(self) -> OSError | None:
        """The system's error for reading the whole database; None: it gave every byte."""


def unavailable(error: sqlite3.Error, disk: Disk | None = None) -> Refused:
    """The refusal of a work that the storage could not do.

    Args:
        disk: what to try if SQLite's error leaves the cause open; None: a store in memory.
    """
    code, fault = _code(error), None
    if disk is not None and code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT}:
        fault = disk.write_fault() if code == sqlite3.SQLITE_IOERR else disk.read_fault()
    if fault is not None:
        code = _ERRNOS.get(fault.errno or 0, sqlite3.SQLITE_IOERR)
    refusal = _refusal(code, fault, sqlite=str(error))
    refusal.__cause__ = error
    return refusal


def unreadable(fault: OSError) -> Refused:
    """The refusal of a check when the disk cannot read some pages, so that nobody knows whether they are damaged."""
    return _refusal(_ERRNOS.get(fault.errno or 0, sqlite3.SQLITE_IOERR), fault)


def _refusal(code: int, fault: OSError | None, **facts: str) -> Refused:
    what, hint = _MEANINGS.get(code, ("failed", "look in the log; this should not happen"))
    if fault is not None:
        facts["system"] = (fault.strerror or str(fault)).lower()
    return Refused(Kind.UNAVAILABLE, f"datastore: {what}", hint=hint, **facts)


def is_damage(error: BaseException) -> bool:
    """Whether SQLite reports that a file is not a database, or not a whole one."""
    return isinstance(error, sqlite3.Error) and _code(error) in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def is_foreign(error: sqlite3.Error) -> bool:
    """Whether SQLite reports that a file is damaged, or does not have our tables."""
    return is_damage(error) or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR  # "no such table"


def lost(gone: str) -> Refused:
    """The refusal of a work that was written to files that no restart would find.

    Args:
        gone: which file was removed or replaced, in words.
    """
    return Refused(
        Kind.UNAVAILABLE,
        f"datastore: {gone} under the running issuer",
        hint="the issuer stops, because later writes would be lost; put the file back, or restore a backup: cognomen issuer restore",
    )


def no_room(lacking: str) -> Refused:
    """The refusal of a work that must leave the reserve for others.

    Args:
        lacking: what is free and what is needed, in words.
    """
    return Refused(
        Kind.UNAVAILABLE,
        "datastore: the disk is full",
        hint=f"{lacking}: free some space where the state directory is, or lower disk_reserve_mib and restart the issuer; until then"
        " nothing is issued, but entries and nodes can be removed",
    )


def is_full(error: BaseException, *, is_disk_full: Callable[[], bool]) -> bool:
    """Whether lack of space caused this; SQLite reports some such cases as a write failure.

    Args:
        is_disk_full: called only when the error leaves it open.
    """
    cause = error.__cause__ if isinstance(error, Refused) else error
    if not isinstance(cause, sqlite3.Error):
        return False
    code = _code(cause)
    return code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and is_disk_full())


def outward(error: BaseException, disk: Disk | None = None) -> BaseException:
    """Turn a storage error into a refusal; an error that is our own fault, or not from SQLite, stays as it is."""
    if isinstance(error, sqlite3.Error) and _code(error) in _MEANINGS:
        return unavailable(error, disk)
    return error


def _code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)  # absent if Python itself raised it
    return code & _PRIMARY_CODE


@contextmanager
def refusing(disk: Disk | None = None) -> Iterator[None]:
    """Turn storage errors in this block into refusals."""
    try:
        yield
    except sqlite3.Error as e:
        raise outward(e, disk)  # noqa: B904 - it carries its cause already
