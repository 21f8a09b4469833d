"""issuer/decisions/breaker: what a breaker does on a burst and with time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.decisions.breaker import CLOSED, LONGEST_SECONDS, Breaker, BreakerState, advanced, probation, tripped

OPEN, HALF, SHUT = BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED


def after(breaker: Breaker, now: float) -> Breaker:
    while (found := advanced(breaker, first=30, now=now)) is not breaker:
        breaker = found
    return breaker


@pytest.mark.parametrize(
    ("now", "state", "since"), [(129.9, OPEN, 100), (130, HALF, 130), (159.9, HALF, 130), (160, SHUT, 160)]
)
def test_time_half_opens_and_closes_it(now: float, state: BreakerState, since: float) -> None:
    found = after(tripped(CLOSED, first=30, now=100), now)
    assert (found.state, found.since) == (state, since)


def test_one_that_trips_again_and_again_stays_open_for_longer_up_to_ten_minutes() -> None:
    breaker, now, waits = CLOSED, 0.0, []
    for _ in range(8):
        breaker = tripped(breaker, first=30, now=now)
        waits.append(breaker.until - now)
        now = breaker.until
        breaker = after(breaker, now)
        assert breaker.state is HALF
    assert waits == [30, 60, 120, 240, 480, 600, 600, 600]


def test_one_that_was_closed_for_ten_minutes_has_forgotten_that_it_tripped() -> None:
    closed = after(tripped(CLOSED, first=30, now=0), 60)
    assert tripped(after(closed, 659), first=30, now=659).until == 659 + 60
    assert after(closed, 60 + LONGEST_SECONDS) is CLOSED
    assert after(CLOSED, 1e12) is CLOSED


@given(st.lists(st.floats(min_value=0, max_value=1e5), max_size=100), st.floats(min_value=1, max_value=600))
def test_whatever_happens_it_is_closed_some_time_after_the_last_burst(pauses: list[float], first: float) -> None:
    breaker, now = CLOSED, 0.0
    for pause in pauses:
        now += pause
        breaker = tripped(breaker, first=first, now=now)
        assert first - 1e-6 <= breaker.until - now <= LONGEST_SECONDS + 1e-6
    for _ in range(3):
        breaker = advanced(breaker, first=first, now=now + 2 * LONGEST_SECONDS)
    assert breaker.state is SHUT
    assert not math.isnan(breaker.since)


def test_a_tenth_passes_at_once_when_it_half_opens_at_least_one() -> None:
    assert [probation(most) for most in (1, 9, 10, 120)] == [1, 1, 1, 12]
