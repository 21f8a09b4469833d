"""What an attestor notes of uses: a row for each connection and entry, and fewer, wider rows if there is no room."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from attestor.nodeclock import NodeClock
from attestor.uses import Uses
from cognomen.gate.caller import Caller, Program
from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.uses import EntryUse
from tests.doubles.clock import FakeClock
from tests.doubles.workloadside import entry

WEB, DB = entry("web", "unix:uid:1001"), entry("db", "unix:uid:1001", "unix:path:/usr/bin/db")
MOST = 4096


class Held:
    """A connection's process."""

    is_closed = False

    def is_alive(self) -> bool:
        return not self.is_closed

    def fileno(self) -> int:
        return -1 if self.is_closed else 7

    def close(self) -> None:
        self.is_closed = True


def a_caller(pid: int = 4711, uid: int = 1001) -> Caller:
    return Caller(pid=pid, uid=uid, gid=uid, groups=frozenset(), process=Held())


class Node:
    """An attestor's memory of uses, and its clock."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.own = NodeClock(self.clock)
        self.uses = Uses(self.own)

    def look(self, executable: Callable[[int], str] = lambda _: "/usr/bin/python3") -> None:
        while self.uses.is_new.is_set():
            for row in self.uses.unseen(16):
                row.program = Program(started=row.pid * 10, executable=executable(row.pid))

    def report(self) -> list[EntryUse]:
        told: list[EntryUse] = []
        for batch in self.uses.batches():
            told += batch.uses
            self.uses.told(batch)
        return told

    def use(self, caller: Caller, *entries: RegistrationEntry) -> None:
        self.uses.note(caller, entries or (WEB,), x509=True)
        self.look()


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_use_says_who_used_what_and_when(node: Node) -> None:
    caller = a_caller()
    node.uses.note(caller, [WEB], x509=True)
    node.look()
    first = node.clock.now()
    node.clock.advance(10)
    node.uses.note(caller, [WEB], jwt=True)
    node.clock.advance(5)
    assert node.report() == [
        EntryUse(
            entry_id=WEB.id,
            uid=1001,
            account=1001,
            gid=1001,
            pid=4711,
            started=47110,
            executable="/usr/bin/python3",
            processes=1,
            first_at=first,
            last_at=first + timedelta(seconds=10),
            x509=True,
            jwt=True,
        )
    ]


def test_a_row_does_not_keep_the_groups_of_its_caller(node: Node) -> None:
    groups = frozenset(range(200_000, 201_000))
    kept, caller = weakref.ref(groups), replace(a_caller(), groups=groups)
    node.uses.note(caller, [WEB], x509=True)
    del groups, caller
    assert kept() is None
    node.look()
    assert len(node.report()) == 1


def test_what_was_reported_is_reported_again_only_after_another_use(node: Node) -> None:
    caller = a_caller()
    node.use(caller)
    assert len(node.report()) == 1
    assert node.report() == []
    node.clock.advance(1)
    node.use(caller)
    (again,) = node.report()
    assert again.first_at + timedelta(seconds=1) == again.last_at


def test_a_use_during_a_report_is_not_lost(node: Node) -> None:
    caller = a_caller()
    node.use(caller)
    (batch,) = node.uses.batches()
    node.clock.advance(1)
    node.use(caller)
    node.uses.told(batch)
    assert len(node.report()) == 1


def test_a_report_that_failed_is_repeated(node: Node) -> None:
    node.use(a_caller())
    assert len(list(node.uses.batches())) == 1
    assert len(node.report()) == 1


def test_nothing_is_reported_before_somebody_has_looked_at_the_program(node: Node) -> None:
    node.uses.note(a_caller(), [WEB], x509=True)
    assert node.report() == []
    node.look()
    assert len(node.report()) == 1


def test_a_connection_is_looked_at_once(node: Node) -> None:
    caller = a_caller()
    node.use(caller)
    node.use(caller)
    assert not node.uses.is_new.is_set()
    node.uses.note(a_caller(), [WEB], x509=True)
    assert node.uses.is_new.is_set()


def test_the_path_that_an_entry_demands_stands_for_a_program_that_nobody_could_look_at(node: Node) -> None:
    node.uses.note(a_caller(), [DB, WEB], x509=True)
    node.look(lambda _: "")
    assert {use.entry_id: use.executable for use in node.report()} == {"db": "/usr/bin/db", "web": ""}


def test_times_are_the_issuers(node: Node) -> None:
    node.own.hear(node.clock.now() + timedelta(hours=5), asked_at=node.clock.monotonic())
    node.use(a_caller())
    (use,) = node.report()
    assert use.first_at == node.clock.now() + timedelta(hours=5)


def test_a_long_or_strange_path_is_made_fit_for_the_report(node: Node) -> None:
    for pid, path in enumerate(["/x" * 3000, "/a\x1b[2J\udc80"]):
        node.uses.note(a_caller(pid), [WEB], x509=True)
        node.look(lambda _, path=path: path)  # type: ignore[misc]  # bound at once
    long, strange = (use.executable for use in node.report())
    assert len(long.encode()) <= 512
    assert "6000 characters" in long
    assert strange == "/a\\x1b[2J\\udc80"


def test_reports_have_at_most_a_thousand_rows_and_a_quarter_of_a_mebibyte(node: Node) -> None:
    for pid in range(1500):
        node.uses.note(a_caller(pid), [WEB], x509=True)
    node.look()
    assert [len(batch.uses) for batch in node.uses.batches()] == [1000, 500]
    node.report()
    for pid in range(1500):
        node.uses.note(a_caller(pid), [WEB], x509=True)
    node.look(lambda _: "/" + "é" * 400)
    assert [len(batch.uses) < 420 for batch in node.uses.batches()] == [True] * 4


def test_connections_that_have_ended_are_forgotten_once_they_are_reported(node: Node) -> None:
    kept, ended = a_caller(1), a_caller(2)
    node.use(kept)
    node.use(ended)
    ended.process.close()
    node.report()
    node.report()
    node.clock.advance(1)
    node.use(kept)
    assert not node.uses.is_new.is_set()
    node.uses.note(ended, [WEB], x509=True)
    assert node.uses.is_new.is_set()


def test_without_room_reported_rows_go_first_and_nothing_is_lost(node: Node) -> None:
    for pid in range(MOST):
        node.uses.note(a_caller(pid), [WEB], x509=True)
    node.look()
    node.report()
    for pid in range(MOST):
        node.uses.note(a_caller(pid), [WEB], x509=True)
    node.look()
    assert {use.pid for use in node.report()} == set(range(MOST))


def test_without_room_processes_are_counted_together_by_program(node: Node) -> None:
    for pid in range(MOST + 100):
        node.uses.note(a_caller(pid), [WEB], x509=True)
        node.look()
    told = node.report()
    (together,) = (use for use in told if use.pid == 0 and use.processes > 1)
    assert (together.executable, together.uid, together.started) == ("/usr/bin/python3", 1001, 0)
    assert sum(use.processes for use in told) == MOST + 100
    assert len(told) <= MOST
    assert node.uses.lost == 0


def test_without_room_for_programs_they_are_counted_together_by_uid(node: Node) -> None:
    for pid in range(3 * MOST):
        node.uses.note(a_caller(pid), [WEB], x509=True)
        node.look(lambda pid: f"/p{pid}")
    told = node.report()
    assert sum(use.processes for use in told) == 3 * MOST
    assert len(told) <= MOST
    (together,) = (use for use in told if not use.executable)
    assert together.processes > MOST
    assert node.uses.lost == 0


def test_what_cannot_be_counted_together_any_more_is_counted_as_lost(node: Node) -> None:
    for number in range(2 * MOST):
        node.uses.note(a_caller(number), [entry(f"e{number}", "unix:uid:1001")], x509=True)
        node.look(lambda _: "")
    assert node.uses.lost > 0
    assert len(node.report()) + node.uses.lost == 2 * MOST


def test_a_full_memory_leaves_another_account_its_rows(node: Node) -> None:
    node.use(a_caller(1, uid=1002))
    for pid in range(2 * MOST):
        node.uses.note(a_caller(pid), [WEB], x509=True)
        node.look()
    assert [use.pid for use in node.report() if use.uid == 1002] == [1]


def reported(node: Node) -> tuple[float, float] | None:
    """How many seconds ago the time began and ended of which every use was reported."""
    found = node.uses.reported()
    return None if found is None else (found.since.total_seconds(), found.until.total_seconds())


def report_all(node: Node) -> None:
    mark = node.uses.mark()
    node.report()
    node.uses.told_until(mark)


def test_everything_is_reported_up_to_the_mark_of_the_last_report_that_was_stored(node: Node) -> None:
    assert reported(node) == (0, 0)
    node.clock.advance(60)
    assert reported(node) == (60, 60)
    node.use(a_caller())
    report_all(node)
    node.clock.advance(5)
    assert reported(node) == (65, 5)
    assert [*node.uses.batches()] == []
    report_all(node)  # without a row
    assert reported(node) == (65, 0)


def test_what_nobody_has_looked_at_is_not_reported_yet(node: Node) -> None:
    node.clock.advance(10)
    node.uses.note(a_caller(1), [WEB], x509=True)
    node.clock.advance(3)
    node.uses.note(a_caller(2), [WEB], x509=True)
    node.clock.advance(2)
    report_all(node)
    assert reported(node) == (15, 5)
    node.look()
    report_all(node)
    assert reported(node) == (15, 0)


def test_after_a_loss_a_new_time_begins_so_late_that_the_issuer_sees_the_gap(node: Node) -> None:
    for pid in range(MOST):
        node.uses.note(a_caller(pid, uid=pid), [entry(f"e{pid}", "unix:uid:1")], x509=True)
        node.look()
    report_all(node)
    assert reported(node) == (0, 0)
    for pid in range(MOST, 2 * MOST + 1):
        node.uses.note(a_caller(pid, uid=pid), [entry(f"e{pid}", "unix:uid:1")], x509=True)
        node.look()
    assert node.uses.lost > 0
    report_all(node)
    assert reported(node) is None
    node.clock.advance(241)
    assert reported(node) is None
    report_all(node)
    assert reported(node) == (1, 0)


def test_what_would_have_been_given_is_reported_apart_with_how_often_since_the_last_report(node: Node) -> None:
    caller = a_caller()
    node.use(caller)
    for _ in range(3):
        node.uses.note_observed(caller, [WEB], x509=True)
    node.uses.note_refused(caller, WEB, "a\x1b")
    node.look()
    told = {(use.is_observed, use.refused_audience): (use.times, use.x509, use.jwt) for use in node.report()}
    assert told == {(False, ""): (1, True, False), (True, ""): (3, True, False), (True, "a\\x1b"): (1, False, True)}
    node.clock.advance(1)
    for _ in range(2):
        node.uses.note_observed(caller, [WEB], jwt=True)
    assert [(use.times, use.x509, use.jwt) for use in node.report()] == [(2, True, True)]


def test_too_many_that_were_only_observed_make_no_gap_and_count_with_others(node: Node) -> None:
    for number in range(MOST + 100):
        node.uses.note_observed(a_caller(number, 1001), [WEB], x509=True)
    node.look()
    assert (sum(use.times for use in node.report()), node.uses.lost) == (MOST + 100, 0)
    for number in range(MOST + 100):
        node.uses.note_refused(a_caller(number, 2000 + number), WEB, "a")
    assert node.uses.lost == 0
    assert node.uses.reported() is not None
