"""The database as a file, for backups: a copy of it at one moment, and what such a copy contains."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.fileport import Contents, Progress
from issuer.datastore.sqlite.damage import damage
from issuer.datastore.sqlite.faults import is_foreign, unavailable
from issuer.datastore.sqlite.files import log_of
from issuer.datastore.sqlite.store import SQLiteDatastore

__all__ = ["SQLiteFile"]

_PAGES = 4096  # copied between two progress reports


class SQLiteFile:
    """A database, named by its path."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def open(self) -> SQLiteDatastore:
        """Open or create it, without a reserve."""
        return await SQLiteDatastore.open(self._path)

    def snapshot(self, copy: Path, *, progress: Progress) -> Contents:
        """Copy it into an empty file, and read the whole copy; if an issuer writes meanwhile, the copy does not have to begin again."""
        with _telling(), closing(_connected(self._path)) as database, closing(_connected(copy)) as written:
            # A copy that fails is thrown away: it needs no journal and no fsync.
            written.execute("PRAGMA journal_mode = OFF")
            written.execute("PRAGMA synchronous = OFF")
            database.execute("BEGIN")
            database.execute("SELECT id FROM meta").fetchone()  # from here on, this connection sees this moment
            database.backup(written, pages=_PAGES, progress=lambda _, left, of: progress(of - left, of))
            database.rollback()
        with _telling():
            return _contents(copy)

    def contents(self) -> Contents:
        """Read all of it, compare its indexes with its tables, and return what it contains.

        This reads only the file: a log beside it may be somebody else's, and would change what we read, and the file itself.
        """
        with _telling():
            try:
                return _contents(self._path)
            except sqlite3.Error as e:
                if is_foreign(e):
                    raise Refused(Kind.INVALID, str(e)) from e
                raise

    def has_log(self) -> bool:
        """Whether the write-ahead log has content."""
        log = log_of(self._path)
        return log.exists() and log.stat().st_size > 0


def _contents(path: Path) -> Contents:
    with closing(_connected(path, "mode=ro&immutable=1")) as database:
        if found := damage(database, thorough=True):
            raise Refused(Kind.INVALID, f"database damaged: {found}")
        incarnation, change = database.execute("SELECT incarnation, change_number FROM meta").fetchone()
        rows = database.execute(
            "SELECT key_id, state = 'active' FROM authority WHERE state NOT IN ('intended', 'retired')"
        ).fetchall()
        issuer = database.execute("SELECT spiffe_id FROM credential WHERE kind = 'issuer' LIMIT 1").fetchone()
        ((pages,), (page_size,)) = (
            database.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
        )
    return Contents(
        trust_domain=issuer[0].split("/")[2] if issuer else "",
        incarnation=str(incarnation),
        change=int(change),
        keys={str(key_id): bool(is_active) for key_id, is_active in rows},
        size=pages * page_size,
    )


@contextmanager
def _telling() -> Iterator[None]:
    """Turn any SQLite error in this block into a refusal, even one about a statement, because the file may be anything."""
    try:
        yield
    except sqlite3.Error as e:
        raise unavailable(e) from e


def _connected(path: Path, how: str = "mode=rw") -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?{how}", isolation_level=None, uri=True)
