"""The writer: works that wait together share one transaction, and not their errors."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cognomen.protocol.errors import Refused
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite.connection import connect
from issuer.datastore.sqlite.files import open_private
from issuer.datastore.sqlite.migrations import migrate
from issuer.datastore.sqlite.worker import Writer
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from tests.doubles.issuer_values import NOW

_SHOWN = ("BEGIN", "SAVEPOINT", "ROLLBACK", "RELEASE", "COMMIT")


class Writing:
    """A writer, and what it said to SQLite about transactions."""

    def __init__(self, path: Path) -> None:
        os.close(open_private(path))
        database = connect(path, max_pages=80)
        migrate(database)
        self.said, self.heads = list[str](), list[int]()
        database.conn.set_trace_callback(self._note)
        self.writer = Writer(database, grew=self.heads.append)

    def _note(self, statement: str) -> None:
        if statement.startswith(_SHOWN):
            self.said.append(statement)

    def together(self, *works: Callable[[Transaction], object]) -> list[object]:
        """Have works wait until all of them are queued; what became of each."""
        going, queued = threading.Event(), threading.Event()

        def hold(_: Transaction) -> None:
            going.set()
            assert queued.wait(10)

        first = self.writer.submit(hold, expendable=False)
        assert going.wait(10)
        futures = [self.writer.submit(work, expendable=False) for work in works]
        queued.set()
        first.result(10)
        return [future.exception(10) or future.result() for future in futures]


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Writing]:
    found = Writing(tmp_path / "state" / "db")
    yield found
    found.writer.close()


def grow(tx: Transaction) -> int:
    return tx.changes.append([Change(kind=ChangeKind.BUNDLE)])


def test_works_that_wait_together_share_one_commit_and_not_their_errors(writing: Writing) -> None:
    wrong = ValueError("ours")

    def fails(tx: Transaction) -> None:
        grow(tx)
        raise wrong

    assert writing.together(grow, fails, grow) == [1, wrong, 2]
    begun = [at for at, statement in enumerate(writing.said) if statement.startswith("BEGIN")][-1]
    assert writing.said[begun:] == [
        "BEGIN IMMEDIATE",
        "SAVEPOINT work", "RELEASE work",
        "SAVEPOINT work", "ROLLBACK TO work", "RELEASE work",
        "SAVEPOINT work", "RELEASE work",
        "COMMIT",
    ]  # fmt: skip
    assert writing.heads == [2]


def test_a_work_for_which_the_disk_is_full_takes_no_other_down(writing: Writing) -> None:
    def too_large(tx: Transaction) -> None:
        tx.audit.append(
            [AuditEvent(at=NOW, actor="uid:0", action="filling", facts={"a": "x" * 4000}) for _ in range(500)]
        )

    one, refused, other = writing.together(grow, too_large, grow)
    assert (one, other) == (1, 2)
    assert isinstance(refused, Refused)
    assert refused.detail == "datastore: full"
