"""The datastore port over one SQLite file: opening, reading, writing, waiting for the log to grow.

How works share commits: worker. What stands where: schema and the tables.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

from sqlite_utils import Database

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite.faults import is_full, refusing
from issuer.datastore.sqlite.reserve import Reserve
from issuer.datastore.sqlite.schema import WRITER_CACHE_KIB, connect, create_file, migrate
from issuer.datastore.sqlite.worker import Readers, Writer

__all__ = ["SQLiteDatastore"]

T = TypeVar("T")

_READERS = 2


class SQLiteDatastore:
    """The default datastore; it belongs to the loop that opened it.

    Raises:
        Refused: UNAVAILABLE when the file cannot be read or written (full, read-only, locked, damaged) or the store is closed;
            EXHAUSTED when too many writes wait.
    """

    def __init__(self, databases: Sequence[Database], reserve: Reserve | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._grew = asyncio.Event()
        self._closed = False
        self._writable = databases[0]
        self._reserve = reserve
        self._writer = Writer(databases[0], grew=self._notice_from_thread, reserve=reserve)
        self._head = self._writer.head
        self._readers = Readers(databases[1:]) if len(databases) > 1 else None

    @classmethod
    async def open(cls, path: Path | None, *, max_pages: int | None = None, reserve_bytes: int = 0) -> Self:
        """Open the file, or make it, mode 0600 in a directory of 0700; None: in memory, for tests.

        Args:
            max_pages: how many pages of 4 KiB the file may grow to; None: as many as the disk has.
            reserve_bytes: how much room of the disk is kept, beside the file, for works that are not expendable.

        Raises:
            Refused: as the class; CONFLICT when a later release wrote the file; INVALID when it is open to others.
        """
        return cls(*await asyncio.to_thread(_open, path, max_pages, reserve_bytes))

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
        """Run `work` and commit it durably before returning; cancelled while it runs, it is committed all the same."""
        self._check_open()
        return await asyncio.wrap_future(self._writer.submit(work, expendable=expendable))

    async def lacking_room(self) -> str:
        """Why expendable works are not taken now, in words; empty when they are."""
        return "" if self._reserve is None else await asyncio.to_thread(self._reserve.lacking)

    async def wait_for_change(self, after: int) -> int:
        """Return the log's head as soon as it is greater than `after`; a wake-up carries no data."""
        while self._head <= after:
            self._check_open()
            await self._grew.wait()
        return self._head

    async def close(self) -> None:
        """Finish what is queued, then let go of the store; whoever waits for a change is refused."""
        if self._closed:
            return
        self._closed = True
        self._wake()
        await asyncio.to_thread(self._let_go)

    def _let_go(self) -> None:
        if self._readers is not None:
            self._readers.close()
        self._writer.close()
        if self._reserve is not None:
            self._reserve.close()

    def _check_open(self) -> None:
        if self._closed:
            raise Refused(Kind.UNAVAILABLE, "datastore: closed", hint="the issuer is stopping")

    def _notice_from_thread(self, head: int) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
            self._loop.call_soon_threadsafe(self._notice, head)

    def _notice(self, head: int) -> None:
        self._head = head
        self._wake()

    def _wake(self) -> None:
        # each waiter holds the event that it waits for, so a later change finds a fresh one
        grew, self._grew = self._grew, asyncio.Event()
        grew.set()


def _open(path: Path | None, max_pages: int | None, reserve_bytes: int) -> tuple[Sequence[Database], Reserve | None]:
    """The connections and the reserve, which may be needed for opening already: SQLite's log takes room."""
    if path is None:
        return _connect(None, max_pages), None
    create_file(path)
    if not reserve_bytes:
        return _connect(path, max_pages), None
    with contextlib.ExitStack() as undo:
        log = path.with_name(f"{path.name}-wal")
        reserve = Reserve.open(path.with_name("reserve"), reserve_bytes, log=log)
        undo.callback(reserve.close)
        reserve.has_room()
        while True:
            try:
                databases = _connect(path, max_pages)
            except Refused as refused:
                if not is_full(refused, is_disk_full=reserve.is_disk_full) or not reserve.give_back():
                    raise
            else:
                undo.pop_all()
                return databases, reserve


def _connect(path: Path | None, max_pages: int | None) -> Sequence[Database]:
    """The writer's connection, then the readers' (none for memory, which only one connection can see)."""
    with contextlib.ExitStack() as undo, refusing():
        databases = [connect(path, cache_kib=WRITER_CACHE_KIB, max_pages=max_pages)]
        undo.callback(databases[0].close)
        migrate(databases[0])
        if path is not None:
            databases += [connect(path) for _ in range(_READERS)]
        undo.pop_all()
        return databases
