"""attestor/nodeclock and decisions/clocks: what a node knows of the issuer's clock, and what follows."""

from datetime import UTC, datetime, timedelta

import pytest

from attestor.decisions.clocks import Reading, apart, is_valid
from attestor.nodeclock import NodeClock
from tests.doubles.clock import FakeClock

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def reading(ahead: timedelta) -> Reading:
    return Reading(own=NOON + ahead, issuer=NOON, monotonic=0, silent=timedelta())


def test_before_the_issuer_said_anything_its_clock_is_ours() -> None:
    clock = NodeClock(FakeClock(NOON))
    assert clock.read() == Reading(own=NOON, issuer=NOON, monotonic=0, silent=timedelta())
    assert clock.ahead is None


def test_what_the_issuer_said_goes_on_by_the_monotonic_clock() -> None:
    fake = FakeClock(NOON)
    clock = NodeClock(fake)
    clock.hear(NOON - HOUR, asked_at=0)
    fake.advance(MINUTE)
    assert clock.read() == Reading(own=NOON + MINUTE, issuer=NOON - HOUR + MINUTE, monotonic=60, silent=timedelta())
    fake.jump(8 * 24 * HOUR)
    assert clock.read().issuer == NOON - HOUR + MINUTE
    assert clock.ahead == 8 * 24 * HOUR + HOUR


def test_silence_lasts_from_the_first_call_that_failed_to_the_next_that_did_not() -> None:
    fake = FakeClock(NOON)
    clock = NodeClock(fake)
    for _ in range(2):
        clock.hear_nothing()
        fake.advance(5)
    assert clock.read().silent == 10 * SECOND
    clock.hear(NOON, asked_at=10)
    assert clock.read().silent == timedelta()


def test_a_word_from_before_our_clock_was_set_counts_no_more_after_long_silence() -> None:
    fake = FakeClock(NOON)
    clock = NodeClock(fake)
    clock.hear(NOON, asked_at=0)
    fake.jump(8 * 24 * HOUR)
    clock.hear_nothing()
    fake.advance(599)
    assert clock.read().issuer == NOON + 599 * SECOND
    fake.advance(1)
    assert clock.read().issuer == fake.now()
    clock.hear(NOON + 600 * SECOND, asked_at=600)
    assert clock.ahead == 8 * 24 * HOUR


def test_long_silence_alone_changes_nothing() -> None:
    fake = FakeClock(NOON)
    clock = NodeClock(fake)
    clock.hear(NOON - HOUR, asked_at=0)
    clock.hear_nothing()
    fake.advance(24 * HOUR)
    assert clock.ahead == HOUR


def test_an_answer_is_as_old_as_half_of_the_time_it_took() -> None:
    fake = FakeClock(NOON)
    clock = NodeClock(fake)
    fake.advance(2)
    clock.hear(NOON + SECOND, asked_at=0)
    assert clock.ahead == timedelta()


def test_an_answer_that_took_long_changes_nothing_while_there_is_a_better_one() -> None:
    fake = FakeClock(NOON)
    clock = NodeClock(fake)
    clock.hear(NOON, asked_at=0)
    fake.advance(14)
    clock.hear(NOON, asked_at=0)
    assert clock.ahead == timedelta()
    fake.advance(61)
    clock.hear(NOON, asked_at=61)
    assert clock.ahead == 75 * SECOND - 7 * SECOND


@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_a_moment_that_nobody_can_reckon_with_is_not_heard(year: int) -> None:
    clock = NodeClock(FakeClock(NOON))
    clock.hear(datetime(year, 12, 31, tzinfo=UTC), asked_at=0)
    assert clock.ahead is None


@pytest.mark.parametrize("ahead", [timedelta(), 30 * SECOND, -30 * SECOND])
def test_clocks_that_are_close_are_in_step(ahead: timedelta) -> None:
    assert apart(reading(ahead)) == ""


@pytest.mark.parametrize(
    ("ahead", "text"),
    [
        (75 * SECOND, "this node's clock says 2026-01-01T12:01:15Z, 75 s ahead of the issuer's, which says 2026-01-01T12:00:00Z"),
        (-40 * MINUTE, "this node's clock says 2026-01-01T11:20:00Z, 40 min behind the issuer's, which says 2026-01-01T12:00:00Z"),
        (49 * HOUR, "this node's clock says 2026-01-03T13:00:00Z, 2 d 1 h ahead of the issuer's, which says 2026-01-01T12:00:00Z"),
    ],
)  # fmt: skip
def test_clocks_that_are_apart_are_both_named(ahead: timedelta, text: str) -> None:
    assert apart(reading(ahead)) == text


@pytest.mark.parametrize(
    ("ahead", "expected"), [(timedelta(), True), (HOUR, True), (-HOUR, True), (-2 * HOUR, True), (2 * HOUR, True)]
)
def test_what_one_clock_finds_valid_is_valid(ahead: timedelta, expected: bool) -> None:  # noqa: FBT001 - a column
    assert is_valid(NOON, NOON + HOUR, reading(ahead)) is expected


def test_what_neither_finds_valid_is_not() -> None:
    assert not is_valid(NOON + MINUTE, NOON + HOUR, reading(timedelta()))
    assert not is_valid(NOON - HOUR, NOON, reading(timedelta()))
    assert not is_valid(NOON + MINUTE, NOON + HOUR, reading(2 * HOUR))


def test_what_is_only_reckoned_is_not_said_of_the_issuer() -> None:
    at = Reading(own=NOON + HOUR, issuer=NOON, monotonic=0, silent=SECOND)
    assert apart(at).endswith(", 1 h ahead of the issuer's, as last heard, now 2026-01-01T12:00:00Z")
