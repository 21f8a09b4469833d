"""attestor/decisions/renewal: when an SVID is due, and who comes first."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from attestor.decisions.renewal import due_now, renew_at, retry_at
from svid.entry import EntryID

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
A, B, C = EntryID("a"), EntryID("b"), EntryID("c")


def test_half_life_counts_from_the_issue() -> None:
    assert renew_at(NOW, NOW + 100 * SECOND, 0.5) == NOW + 50 * SECOND


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 86_400))
def test_jitter_is_a_tenth_of_half_life_at_most(jitter: float, seconds: int) -> None:
    half = timedelta(seconds=seconds) / 2
    moment = renew_at(NOW, NOW + 2 * half, jitter)
    tolerance = timedelta(microseconds=1)
    assert 0.9 * half - tolerance <= moment - NOW <= 1.1 * half + tolerance


def test_a_retry_waits_its_delay_when_nothing_is_held() -> None:
    assert retry_at(NOW, 60 * SECOND, not_after=None) == NOW + 60 * SECOND


def test_a_retry_waits_its_delay_when_the_svid_lasts_long_enough() -> None:
    assert retry_at(NOW, 60 * SECOND, not_after=NOW + 120 * SECOND) == NOW + 60 * SECOND


def test_a_retry_comes_before_the_svid_that_is_held_ends() -> None:
    assert retry_at(NOW, 60 * SECOND, not_after=NOW + 20 * SECOND) == NOW + 10 * SECOND


def test_retries_are_a_second_apart_at_least() -> None:
    assert retry_at(NOW, 60 * SECOND, not_after=NOW + SECOND / 10) == NOW + SECOND
    assert retry_at(NOW, SECOND / 2, not_after=NOW - SECOND) == NOW + SECOND / 2


def test_only_what_is_due_is_minted() -> None:
    due = {A: NOW, B: NOW + SECOND}
    assert due_now(due, wanted=(), now=NOW, limit=9) == [A]


def test_the_longest_due_comes_first() -> None:
    due = {A: NOW - SECOND, B: NOW - 2 * SECOND, C: NOW}
    assert due_now(due, wanted=(), now=NOW, limit=9) == [B, A, C]


def test_what_has_a_subscriber_waits_for_nothing_else() -> None:
    due = {A: NOW - SECOND, B: NOW - 2 * SECOND, C: NOW}
    assert due_now(due, wanted={A, C}, now=NOW, limit=9) == [A, C]


def test_a_subscriber_of_what_is_not_due_changes_nothing() -> None:
    due = {A: NOW, B: NOW + SECOND}
    assert due_now(due, wanted={B}, now=NOW, limit=9) == [A]


def test_a_batch_is_bounded() -> None:
    due = {A: NOW, B: NOW, C: NOW}
    assert due_now(due, wanted=(), now=NOW, limit=2) == [A, B]
