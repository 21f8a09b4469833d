"""How to open a connection to the issuer's database. migrations says what is in it."""

import sqlite3
from pathlib import Path
from urllib.parse import quote

from sqlite_utils import Database

__all__ = ["WRITER_CACHE_KIB", "connect"]

_READER_CACHE_KIB = 2 * 1024
# Allocated as needed; with 2 MiB, adding 10,000 entries to 100,000 takes twice as long.
WRITER_CACHE_KIB = 32 * 1024
_BUSY_SECONDS = 2.0


def connect(path: Path | None, *, cache_kib: int = _READER_CACHE_KIB, max_pages: int | None = None) -> Database:
    """Open a connection for one thread at a time, to an existing file; None: in memory."""
    name = ":memory:" if path is None else f"file:{quote(str(path))}?mode=rw"
    connection = sqlite3.connect(name, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True)
    database = Database(connection, execute_plugins=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute(f"PRAGMA cache_size = -{cache_kib:d}")
    if max_pages is not None:
        connection.execute(f"PRAGMA max_page_count = {max_pages:d}")
    return database
