"""What SQLite's errors mean to the house: not now, and what the operator can do about it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cognomen.daemon.errors import Kind, Refused

__all__ = ["is_full", "no_room", "outward", "refusing", "unavailable"]

_PRIMARY_CODE = 0xFF

_MEANINGS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("full", "free some space where the state directory lies; the issuer goes on by itself then"),
    sqlite3.SQLITE_READONLY: ("read-only", "make the file, its directory and its disk writable to the issuer's user"),
    sqlite3.SQLITE_PERM: ("not permitted", "the file and its directory must belong to the issuer's user"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", "check that the directory exists and belongs to the issuer's user"),
    sqlite3.SQLITE_BUSY: (
        "locked by another process",
        "end the other process; only one issuer may use a state directory",
    ),
    sqlite3.SQLITE_LOCKED: ("locked", "end the other process; only one issuer may use a state directory"),
    sqlite3.SQLITE_CORRUPT: ("damaged", "stop the issuer, keep the file for inspection, restore a backup"),
    sqlite3.SQLITE_NOTADB: ("no SQLite file", "name the right file, or restore a backup"),
    sqlite3.SQLITE_IOERR: ("failed to read or write", "look for disk errors in the system's log"),
    sqlite3.SQLITE_NOMEM: ("out of memory", "give the issuer more memory"),
}


def unavailable(error: sqlite3.Error) -> Refused:
    """The refusal of a work that the storage did not take."""
    what, hint = _MEANINGS.get(_code(error), ("failed", "look into the log; this should not happen"))
    refusal = Refused(Kind.UNAVAILABLE, f"datastore: {what}", hint=hint, sqlite=str(error))
    refusal.__cause__ = error
    return refusal


def no_room(lacking: str) -> Refused:
    """The refusal of a work that must leave the reserve to others.

    Args:
        lacking: what is free and what is needed, in words.
    """
    return Refused(
        Kind.UNAVAILABLE,
        "datastore: expected room to spare, found the disk full",
        hint=f"{lacking}: free some space where the state directory lies, or lower disk_reserve_mib and restart the issuer; until then"
        " nothing is issued, but entries and nodes can be removed",
    )


def is_full(error: BaseException, *, is_disk_full: Callable[[], bool]) -> bool:
    """Whether this happened for want of room; SQLite calls some of it a failure to write.

    Args:
        is_disk_full: asked only when the error leaves it open.
    """
    cause = error.__cause__ if isinstance(error, Refused) else error
    if not isinstance(cause, sqlite3.Error):
        return False
    code = _code(cause)
    return code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and is_disk_full())


def outward(error: BaseException) -> BaseException:
    """Turn an error of the storage into a refusal; one that is a fault of ours, or no SQLite error, stays what it is."""
    if isinstance(error, sqlite3.Error) and _code(error) in _MEANINGS:
        return unavailable(error)
    return error


def _code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)  # absent where Python itself raised it
    return code & _PRIMARY_CODE


@contextmanager
def refusing() -> Iterator[None]:
    """Let errors of the storage leave this block as refusals."""
    try:
        yield
    except sqlite3.Error as e:
        raise outward(e)  # noqa: B904 - it carries its cause already
