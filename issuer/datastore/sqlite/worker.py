"""The threads: one that writes, whose queued works share a commit, and a few that read, each on a connection of its own.

Which file, and what the port promises: store.

A work is queued, then started (until then its caller can cancel it), then run inside a savepoint, and finished or failed once. The writer
takes all works that wait, 256 at most, into one transaction, because the sync to disk is what a commit costs. What holds:

* A caller gets its result only when the commit is durable, and its error only when what the work wrote is undone, or went into files
  that no restart would find.
* Works that share a commit do not share errors: each has its savepoint. Where the transaction cannot begin or commit, all of them fail.
* A work may run again, in another transaction, so it has no effect outside of it.
* `head` moves after the commit, and never back; `grew` is called after the callers have their results.
* An expendable work never uses the reserve.

Example: A, B and C wait, and B raises an error of its own.

    BEGIN IMMEDIATE
    SAVEPOINT work; what A writes; RELEASE work
    SAVEPOINT work; what B writes; ROLLBACK TO work; RELEASE work
    SAVEPOINT work; what C writes; RELEASE work
    COMMIT

A and C have their results after one sync, and B has its error. If SQLite finds the disk full at B instead, it may roll back all three. Each
then runs in a transaction of its own: A and C succeed. If B is not expendable, the log is folded into the database or a part of the
reserve is given back, and B runs again, until it fits or nothing of the reserve is left.
"""

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from sqlite_utils import Database

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite.faults import is_full, lost, no_room, outward, refusing, unavailable
from issuer.datastore.sqlite.files import StoreFiles
from issuer.datastore.sqlite.reserve import Reserve
from issuer.datastore.sqlite.transaction import transaction_over

__all__ = ["Readers", "Writer"]

T = TypeVar("T")

_MAX_QUEUED = 10_000
_MAX_SHARED = 256  # works in one commit


class _Queued(Protocol):
    @property
    def expendable(self) -> bool: ...
    def start(self) -> bool: ...
    def run(self, transaction: Transaction) -> None: ...
    def finish(self) -> None: ...
    def fail(self, error: BaseException) -> None: ...


class _Job(Generic[T]):
    """A work that waits for its turn; its outcome is known once the shared commit is."""

    def __init__(self, work: Callable[[Transaction], T], *, expendable: bool) -> None:
        self.future: Future[T] = Future()
        self.expendable = expendable
        self._work = work
        self._result: T

    def start(self) -> bool:
        """Whether somebody still waits for it; from now on it cannot be cancelled."""
        return self.future.set_running_or_notify_cancel()

    def run(self, transaction: Transaction) -> None:
        self._result = self._work(transaction)

    def finish(self) -> None:
        self.future.set_result(self._result)

    def fail(self, error: BaseException) -> None:
        self.future.set_exception(error)


class _Savepoint:
    """Keeps or undoes what one work wrote, apart from the others; holds its error for the caller that waits for it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        self._connection.execute("SAVEPOINT work")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self.error = error
        if self._connection.in_transaction:  # after some errors, SQLite has already rolled back everything
            if error is not None:
                self._connection.execute("ROLLBACK TO work")
            self._connection.execute("RELEASE work")
        return error is not None


class _LostError(Exception):
    """SQLite rolled the whole transaction back because of one work's error."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Writer:
    """The one thread that writes.

    Args:
        grew: called in that thread with the change log's head, after each commit that moved it.
        reserve: room that works which are not expendable may use when the disk is full; None: none is kept.
        files: the files of the database; None: it is in memory.
    """

    def __init__(
        self,
        database: Database,
        *,
        grew: Callable[[int], None],
        reserve: Reserve | None = None,
        files: StoreFiles | None = None,
    ) -> None:
        self._reserve = reserve
        self._files = files
        self._connection: sqlite3.Connection = database.conn
        self._transaction = transaction_over(database)
        self._grew = grew
        self._head = self._transaction.changes.head().number
        self._queue: queue.Queue[_Queued | None] = queue.Queue(_MAX_QUEUED)
        self._thread = threading.Thread(target=self._run, name="datastore-writer", daemon=True)
        self._thread.start()

    @property
    def head(self) -> int:
        """The last number of the change log that is committed."""
        return self._head

    def submit(self, work: Callable[[Transaction], T], *, expendable: bool) -> Future[T]:
        """Queue a work.

        Args:
            expendable: it is refused while there is no room to spare; the others may use the reserve.

        Raises:
            Refused: EXHAUSTED when too many wait already.
        """
        job = _Job(work, expendable=expendable)
        try:
            self._queue.put_nowait(job)
        except queue.Full as e:
            raise Refused(
                Kind.EXHAUSTED, f"datastore: {_MAX_QUEUED} writes wait already", hint="is the disk slow or stuck?"
            ) from e
        return job.future

    def close(self) -> None:
        """Finish what is queued; nothing may be submitted any more."""
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while True:
            jobs: list[_Queued] = []
            job = self._queue.get()
            while job is not None:
                if job.start():
                    jobs.append(job)
                if len(jobs) >= _MAX_SHARED or self._queue.empty():
                    break
                job = self._queue.get()
            if jobs:
                self._commit(jobs)
            if job is None:
                return

    def _commit(self, jobs: list[_Queued], *, is_repeated: bool = False) -> None:
        """Run works in one transaction; each learns its outcome only when that is durable, or undone."""
        try:
            errors, head = self._attempt(jobs)
        except _LostError as lost:
            if len(jobs) > 1:  # one of them undid the others: run each alone
                for job in jobs:
                    self._commit([job])
                return
            errors, head = {jobs[0]: lost.cause}, self._head
        except Exception as e:  # noqa: BLE001 - whatever it is: the callers that wait learn about it, and the one writer goes on
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            errors = {job: unavailable(e, self._files) if isinstance(e, sqlite3.Error) else e for job in jobs}
            head = self._head
        again = self._with_more_room(errors, is_repeated=is_repeated)
        for job in jobs:
            if job in errors:
                job.fail(outward(errors[job], self._files))
            elif job not in again:
                job.finish()
        if head > self._head:
            self._head = head
            self._grew(head)
        if again:
            self._commit(again, is_repeated=True)

    def _with_more_room(self, errors: dict[_Queued, BaseException], *, is_repeated: bool) -> list[_Queued]:
        """Those that failed for want of room, and for which the reserve has just given some back; they have not failed yet."""
        reserve = self._reserve
        if reserve is None:
            return []
        failed = [
            job
            for job, error in errors.items()
            if not job.expendable and is_full(error, is_disk_full=reserve.is_disk_full)
        ]
        if not failed or not self._make_room(reserve, is_repeated=is_repeated):
            return []
        for job in failed:
            del errors[job]
        return failed

    def _make_room(self, reserve: Reserve, *, is_repeated: bool) -> bool:
        """Fold the log into the database, with as much of the reserve as that takes, or give a part back; False: nothing helps."""
        folded = self._fold_log()
        if folded and not is_repeated:
            return True
        held, given = reserve.held, reserve.give_back()
        while folded is None and (folded := self._fold_log()) is None and reserve.give_back():
            pass
        if (
            folded and not is_repeated
        ):  # the room was for folding, which has freed the log's: what it did not take is kept again
            reserve.keep(held)
        return given

    def _fold_log(self) -> int | None:
        """Move what is in the log into the database; returns how many pages, or None if there is too little room or somebody reads."""
        try:
            busy, pages, _ = self._connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            return None
        return None if busy else max(0, pages)

    def _attempt(self, jobs: list[_Queued]) -> tuple[dict[_Queued, BaseException], int]:
        errors: dict[_Queued, BaseException] = {}
        is_asked = self._reserve is not None and any(job.expendable for job in jobs)  # asking keeps what was given back
        lacking = self._reserve.lacking() if self._reserve is not None and is_asked else ""
        self._connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            if job.expendable and lacking:
                errors[job] = no_room(lacking)
                continue
            with _Savepoint(self._connection) as savepoint:
                job.run(self._transaction)
            if savepoint.error is not None:
                errors[job] = savepoint.error
                if not self._connection.in_transaction:
                    raise _LostError(savepoint.error)
        head = self._transaction.changes.head().number
        self._connection.execute("COMMIT")
        if self._files is not None and (gone := self._files.missing()):  # durable, in files that no restart would find
            raise lost(gone)
        return errors, head


class Readers:
    """Threads that read, each transaction on one consistent view.

    Args:
        databases: one connection for each thread.
        files: the files of the database.
    """

    def __init__(self, databases: Sequence[Database], files: StoreFiles) -> None:
        self._files = files
        self._free: queue.SimpleQueue[Database] = queue.SimpleQueue()
        for database in databases:
            database.conn.execute("PRAGMA query_only = ON")
            self._free.put(database)
        self._count = len(databases)
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="datastore-reader")

    def submit(self, work: Callable[[Transaction], T]) -> Future[T]:
        """Queue a work, which must not write."""
        return self._threads.submit(self._run, work)

    def close(self) -> None:
        """Finish what is queued; nothing may be submitted any more."""
        self._threads.shutdown()
        for _ in range(self._count):
            self._free.get_nowait().close()

    def _run(self, work: Callable[[Transaction], T]) -> T:
        database = self._free.get_nowait()  # as many as threads
        try:
            with refusing(self._files):
                database.conn.execute("BEGIN")
                try:
                    return work(transaction_over(database))
                finally:
                    database.conn.execute("ROLLBACK")
        finally:
            self._free.put(database)
