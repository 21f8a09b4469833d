"""attestor/decisions/renewal: when an SVID is due, and who comes first."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestor.decisions.renewal import due_now, next_limit, renew_in, retry_in
from cognomen.protocol.entry import EntryID

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
A, B, C = EntryID("a"), EntryID("b"), EntryID("c")


def test_half_of_its_life_after_it_was_received() -> None:
    assert renew_in(HOUR, left=HOUR, jitter=0.5) == HOUR / 2


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 86_400))
def test_jitter_is_a_tenth_of_half_life_at_most(jitter: float, seconds: int) -> None:
    half = timedelta(seconds=seconds) / 2
    wait = renew_in(2 * half, left=2 * half, jitter=jitter)
    tolerance = timedelta(microseconds=1)
    assert 0.9 * half - tolerance <= wait <= 1.1 * half + tolerance


@pytest.mark.parametrize(
    ("ahead", "wait"),
    [
        (-HOUR, HOUR / 2),
        (-10 * MINUTE, HOUR / 2),
        (MINUTE, 29.5 * MINUTE),
        (40 * MINUTE, 10 * MINUTE),
        (59 * MINUTE, 3 * MINUTE),
        (HOUR, 3 * MINUTE),
        (timedelta(days=8), 3 * MINUTE),
    ],
)
def test_a_clock_that_is_wrong_hurries_it_to_a_twentieth_of_its_life_at_most(ahead: timedelta, wait: timedelta) -> None:
    assert renew_in(HOUR, left=HOUR - ahead, jitter=0.5) == wait


def test_a_life_without_length_is_no_wait_into_the_past() -> None:
    assert renew_in(-HOUR, left=HOUR, jitter=0.5) == timedelta()


def test_a_retry_waits_its_delay_when_nothing_is_held() -> None:
    assert retry_in(MINUTE, left=None) == MINUTE


def test_a_retry_waits_its_delay_when_the_svid_lasts_long_enough() -> None:
    assert retry_in(MINUTE, left=2 * MINUTE) == MINUTE


def test_a_retry_comes_before_the_svid_that_is_held_ends() -> None:
    assert retry_in(MINUTE, left=20 * SECOND) == 10 * SECOND


def test_retries_are_a_second_apart_at_least() -> None:
    assert retry_in(MINUTE, left=SECOND / 10) == SECOND
    assert retry_in(SECOND / 2, left=-SECOND) == SECOND / 2


def test_only_what_is_due_is_minted() -> None:
    assert due_now({A: 0, B: 1}, wanted=(), now=0, limit=9) == [A]


def test_the_longest_due_comes_first() -> None:
    assert due_now({A: 8, B: 7, C: 9}, wanted=(), now=9, limit=9) == [B, A, C]


def test_what_has_a_subscriber_waits_for_nothing_else() -> None:
    assert due_now({A: 8, B: 7, C: 9}, wanted={A, C}, now=9, limit=9) == [A, C]


def test_a_subscriber_of_what_is_not_due_changes_nothing() -> None:
    assert due_now({A: 0, B: 1}, wanted={B}, now=0, limit=9) == [A]


def test_a_batch_is_bounded() -> None:
    assert due_now({A: 0, B: 0, C: 0}, wanted=(), now=0, limit=2) == [A, B]


def test_a_batch_that_did_not_get_through_is_followed_by_smaller_ones_until_one_does() -> None:
    limits = [250]
    for _ in range(9):
        limits.append(next_limit(250, most=250, failed=limits[-1]))
    assert limits == [250, 125, 62, 31, 15, 7, 3, 1, 1, 1]


def test_batches_grow_again_with_each_that_gets_through() -> None:
    assert [next_limit(limit, most=250) for limit in (1, 100, 125, 126, 250)] == [2, 200, 250, 250, 250]
