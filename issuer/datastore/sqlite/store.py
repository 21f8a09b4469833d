"""The datastore port over one SQLite file: opening, reading, writing, waiting for the log to grow.

worker lets works share commits; schema and the tables define what is stored where.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from sqlite_utils import Database

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite.connection import WRITER_CACHE_KIB, connect
from issuer.datastore.sqlite.damage import damage
from issuer.datastore.sqlite.faults import is_full, refusing, unreadable
from issuer.datastore.sqlite.files import StoreFiles, log_of
from issuer.datastore.sqlite.migrations import migrate
from issuer.datastore.sqlite.reserve import Reserve
from issuer.datastore.sqlite.worker import Readers, Writer

__all__ = ["SQLiteDatastore"]

T = TypeVar("T")

_READERS = 2


class SQLiteDatastore:
    """The default datastore; it belongs to the event loop that opened it.

    Raises:
        Refused: UNAVAILABLE when the file cannot be read or written (full, read-only, locked, damaged) or the store is closed;
            EXHAUSTED when too many writes wait.
    """

    def __init__(
        self, databases: Sequence[Database], files: StoreFiles | None = None, reserve: Reserve | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._grew = asyncio.Event()
        self._closed = False
        self._writable = databases[0]
        self._files, self._reserve = files, reserve
        self._writer = Writer(databases[0], grew=self._notice_from_thread, reserve=reserve, files=files)
        self._head = self._writer.head
        self._readers = None if files is None else Readers(databases[1:], files)
        self._checking: Database | None = None

    @classmethod
    async def open(
        cls,
        path: Path | None,
        *,
        max_pages: int | None = None,
        reserve_bytes: int = 0,
        beside: Sequence[Path] = (),
    ) -> Self:
        """Open the file, or create it with mode 0600 in a directory with mode 0700; None: in memory, for tests.

        Args:
            beside: what belongs to the store and is beside it; nothing is acknowledged once one of these was removed or replaced.
            max_pages: how many pages of 4 KiB the file may grow to; None: as many as fit on the disk.
            reserve_bytes: how much disk space to keep, beside the file, for works that are not expendable.

        Raises:
            Refused: as the class; CONFLICT when a later release wrote the file; INVALID when it is open to others; EXISTS when an issuer
                uses it.
        """
        if path is None:
            return cls(await asyncio.to_thread(_connect, None, max_pages))
        return cls(*await asyncio.to_thread(_open, path, max_pages, reserve_bytes, beside))

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on one consistent view; it must not write."""
        self._check_open()
        if self._readers is not None:
            return await asyncio.wrap_future(self._readers.submit(work))

        def read_only(transaction: Transaction) -> T:
            self._writable.conn.execute("PRAGMA query_only = ON")
            try:
                return work(transaction)
            finally:
                self._writable.conn.execute("PRAGMA query_only = OFF")

        return await self.write(read_only)

    async def write(self, work: Callable[[Transaction], T], *, expendable: bool = False) -> T:
        """Run `work` and commit it durably before returning. If cancelled while it runs, it is committed all the same."""
        self._check_open()
        return await asyncio.wrap_future(self._writer.submit(work, expendable=expendable))

    async def lacking_room(self) -> str:
        """Why expendable works are refused now, in words; empty: they are accepted."""
        return "" if self._reserve is None else await asyncio.to_thread(self._reserve.lacking)

    async def missing(self) -> str:
        """Which of the store's files was removed or replaced since the store was opened, in words; empty: none.

        From then on no write is acknowledged.
        """
        return "" if self._files is None else await asyncio.to_thread(self._files.missing)

    async def check(self) -> str:
        """Read every page, and return what is damaged; empty: nothing.

        Raises:
            Refused: UNAVAILABLE when it cannot be read, or the store is closed in the meantime.
        """
        return "" if self._files is None else await asyncio.to_thread(self._check, self._files)

    def _check(self, files: StoreFiles) -> str:
        with refusing(files), contextlib.closing(connect(files.path)) as database:
            self._checking = database
            try:
                self._check_open()
                found = damage(database.conn)
            finally:
                self._checking = None
        if found and (fault := files.read_fault(afresh=True)) is not None:
            raise unreadable(fault)
        return found

    async def wait_for_change(self, after: int) -> int:
        """Return the log's head as soon as it is greater than `after`; a wake-up carries no data."""
        while self._head <= after:
            self._check_open()
            await self._grew.wait()
        return self._head

    async def close(self) -> None:
        """Finish what is queued, then close the store; those who wait for a change are refused."""
        if self._closed:
            return
        self._closed = True
        if (checking := self._checking) is not None:
            with contextlib.suppress(sqlite3.Error):  # closed by now
                checking.conn.interrupt()
        self._wake()
        await asyncio.to_thread(self._let_go)

    def _let_go(self) -> None:
        if self._readers is not None:
            self._readers.close()
        self._writer.close()
        if self._reserve is not None:
            self._reserve.close()
        if self._files is not None:
            self._files.close()

    def _check_open(self) -> None:
        if self._closed:
            raise Refused(Kind.UNAVAILABLE, "datastore: closed", hint="the issuer is stopping")

    def _notice_from_thread(self, head: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it those who waited
            self._loop.call_soon_threadsafe(self._notice, head)

    def _notice(self, head: int) -> None:
        self._head = head
        self._wake()

    def _wake(self) -> None:
        # each waiter holds the event that it waits for, so a later change uses a fresh one
        grew, self._grew = self._grew, asyncio.Event()
        grew.set()


def _open(
    path: Path, max_pages: int | None, reserve_bytes: int, beside: Sequence[Path]
) -> tuple[Sequence[Database], StoreFiles, Reserve | None]:
    """The connections, the files, and the reserve, which even opening may need, because SQLite's log takes space."""
    with contextlib.ExitStack() as undo:
        files = StoreFiles.open(path, beside)
        undo.callback(files.close)
        reserve = None
        if reserve_bytes:
            reserve = Reserve.open(path.with_name("reserve"), reserve_bytes, log=log_of(path))
            undo.callback(reserve.close)
        databases = _with_room(files, max_pages, reserve)
        for database in databases:
            undo.callback(database.close)
        files.note()
        undo.pop_all()
        return databases, files, reserve


def _with_room(files: StoreFiles, max_pages: int | None, reserve: Reserve | None) -> Sequence[Database]:
    if reserve is None:
        return _connect(files, max_pages)
    reserve.has_room()
    while True:
        try:
            return _connect(files, max_pages)
        except Refused as refused:
            if not is_full(refused, is_disk_full=reserve.is_disk_full) or not reserve.give_back():
                raise


def _connect(files: StoreFiles | None, max_pages: int | None) -> Sequence[Database]:
    """The writer's connection, then the readers' (no readers in memory, which only one connection can see)."""
    path = None if files is None else files.path
    with contextlib.ExitStack() as undo, refusing(files):
        databases = [connect(path, cache_kib=WRITER_CACHE_KIB, max_pages=max_pages)]
        undo.callback(databases[0].close)
        migrate(databases[0])
        for _ in range(0 if path is None else _READERS):
            databases.append(connect(path))
            undo.callback(databases[-1].close)
        undo.pop_all()
        return databases
