"""Each fault of the storage has its name and the hint that helps, also where SQLite has one word for several."""

import errno
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from cognomen.protocol.errors import Kind
from issuer.datastore.sqlite.faults import lost, outward, unavailable, unreadable
from issuer.datastore.sqlite.files import StoreFiles


@dataclass
class Disk:
    """A disk that says this to a write, and to a read."""

    write: int = 0
    read: int = 0

    def write_fault(self) -> OSError | None:
        return OSError(self.write, os.strerror(self.write)) if self.write else None

    def read_fault(self) -> OSError | None:
        return OSError(self.read, os.strerror(self.read)) if self.read else None


def failed(code: int) -> sqlite3.Error:
    error = sqlite3.DatabaseError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


FULL, READ_ONLY, DISK = "free some space", "writable to the issuer's user", "disk errors in the system's log"
RESTORE, LOCKED = "cognomen issuer restore FILE --state DIRECTORY", "stop the other process"


@pytest.mark.parametrize(
    ("code", "disk", "what", "hint"),
    [
        (sqlite3.SQLITE_FULL, Disk(), "full", FULL),
        (sqlite3.SQLITE_IOERR_WRITE, Disk(write=errno.ENOSPC), "full", FULL),
        (sqlite3.SQLITE_IOERR_FSYNC, Disk(write=errno.EDQUOT), "full", FULL),
        (sqlite3.SQLITE_IOERR_SHMSIZE, Disk(write=errno.ENOSPC), "full", FULL),
        (sqlite3.SQLITE_IOERR_WRITE, Disk(write=errno.EROFS), "read-only", READ_ONLY),
        (sqlite3.SQLITE_READONLY, Disk(), "read-only", READ_ONLY),
        (sqlite3.SQLITE_IOERR_WRITE, Disk(write=errno.EACCES), "not permitted", "belong to the issuer's user"),
        (sqlite3.SQLITE_IOERR_WRITE, Disk(write=errno.EIO), "failed to read or write", DISK),
        (sqlite3.SQLITE_IOERR_READ, Disk(), "failed to read or write", DISK),
        (sqlite3.SQLITE_CORRUPT, Disk(read=errno.EIO), "failed to read or write", DISK),
        (sqlite3.SQLITE_CORRUPT, Disk(write=errno.EIO), "damaged", RESTORE),
        (sqlite3.SQLITE_CORRUPT, None, "damaged", RESTORE),
        (sqlite3.SQLITE_CORRUPT_INDEX, Disk(), "damaged", RESTORE),
        (sqlite3.SQLITE_NOTADB, Disk(), "not an SQLite file", RESTORE),
        (sqlite3.SQLITE_BUSY, Disk(), "locked by another process", LOCKED),
        (sqlite3.SQLITE_BUSY_RECOVERY, Disk(), "locked by another process", LOCKED),
        (sqlite3.SQLITE_CANTOPEN, Disk(), "cannot be opened", "directory exists"),
        (sqlite3.SQLITE_NOMEM, Disk(), "out of memory", "more memory"),
    ],
)
def test_each_fault_has_its_name_and_its_hint(code: int, disk: Disk | None, what: str, hint: str) -> None:
    refused = unavailable(failed(code), disk)
    assert (refused.kind, refused.detail) == (Kind.UNAVAILABLE, f"datastore: {what}")
    assert hint in refused.hint
    assert (RESTORE in refused.hint) is (hint is RESTORE), "a backup is restored where that helps"
    assert refused.facts["sqlite"] == "as SQLite says it"


def test_what_the_system_said_is_for_the_log() -> None:
    assert unavailable(failed(sqlite3.SQLITE_IOERR), Disk(write=errno.EROFS)).facts["system"] == "read-only file system"
    assert unreadable(OSError(errno.EIO, "Input/output error")).detail == "datastore: failed to read or write"


def test_a_fault_of_ours_is_none_of_the_storage() -> None:
    ours = failed(sqlite3.SQLITE_ERROR)
    assert outward(ours, Disk(write=errno.EIO)) is ours


def test_files_that_are_gone_are_told_with_the_way_back() -> None:
    refused = lost("/state/issuer.db was removed")
    assert refused.detail == "datastore: /state/issuer.db was removed under the running issuer"
    assert "cognomen issuer restore" in refused.hint


def test_a_disk_that_takes_and_gives_everything_has_no_fault_and_nothing_is_left_of_the_trial(tmp_path: Path) -> None:
    files = StoreFiles.open(tmp_path / "state" / "issuer.db")
    assert (files.write_fault(), files.read_fault(), files.read_fault(afresh=True)) == (None, None, None)
    assert [found.name for found in (tmp_path / "state").iterdir()] == ["issuer.db"]
    (tmp_path / "state").rename(tmp_path / "away")
    fault = files.write_fault()
    assert fault is not None
    assert fault.errno == errno.ENOENT
    files.close()
