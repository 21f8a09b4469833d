"""Programs that called lately are remembered once each, and for so long."""

import os

import pytest

from attestor.recentcallers import REMEMBERED_SECONDS, RecentCallers, since_boot
from cognomen.gate.caller import Caller, process_of, program_of
from cognomen.protocol.selector import Selector

ONE, OTHER = frozenset({Selector("unix", "uid:1")}), frozenset({Selector("unix", "uid:2")})


@pytest.fixture
def caller() -> Caller:
    found = process_of(os.getpid())
    found.process.close()
    return found


def test_what_a_program_showed_last_is_remembered(caller: Caller) -> None:
    recent = RecentCallers()
    recent.note(caller, ONE, frozenset({"unix:uid"}))
    recent.note(caller, OTHER, frozenset())
    (row,) = recent.lately()
    assert (row.pid, row.uid, row.selectors, row.facts) == (os.getpid(), os.getuid(), OTHER, frozenset())
    assert row.seen_at <= since_boot()


def test_a_program_that_has_not_called_for_long_is_no_longer_known(caller: Caller) -> None:
    now = 100.0
    recent = RecentCallers(lambda: now)
    recent.note(caller, ONE, frozenset())
    now += REMEMBERED_SECONDS
    assert [row.seen_at for row in recent.lately()] == [100.0]
    now += 1
    assert list(recent.lately()) == []


def test_the_time_is_that_by_which_the_kernel_counts_starts_of_processes() -> None:
    held = process_of(os.getpid())
    started = program_of(held.pid, held.process).started / os.sysconf("SC_CLK_TCK")
    held.process.close()
    assert 0 < started <= since_boot()
