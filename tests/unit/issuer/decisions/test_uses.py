"""Which times of a node the issuer believes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from issuer.decisions.uses import dated
from tests.doubles.issuer_values import NOW
from tests.doubles.uses import a_use

KEPT = timedelta(days=90)
moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds the zone


@given(moments, moments)
def test_every_time_is_one_that_the_issuers_clock_allows(one: datetime, other: datetime) -> None:
    use = a_use(first_at=min(one, other), last_at=max(one, other))
    for end in (NOW + KEPT, NOW - KEPT / 2, NOW - 2 * KEPT):
        for found in dated([use], ends={use.entry_id: end}, now=NOW, kept=KEPT):
            assert NOW - KEPT <= found.first_at <= found.last_at <= min(NOW, end)


def test_times_that_are_possible_stay_as_they_are() -> None:
    use = a_use(first_at=NOW - KEPT, last_at=NOW)
    assert dated([use], ends={use.entry_id: NOW}, now=NOW, kept=KEPT) == [use]


def test_what_is_older_than_what_is_kept_is_left_out() -> None:
    old = a_use(first_at=NOW - 2 * KEPT, last_at=NOW - KEPT - timedelta(seconds=1))
    assert dated([old], ends={old.entry_id: NOW}, now=NOW, kept=KEPT) == []


def test_no_use_is_later_than_the_end_of_what_the_node_was_given() -> None:
    use = a_use(first_at=NOW - KEPT / 4, last_at=NOW)
    assert dated([use], ends={use.entry_id: NOW - KEPT / 2}, now=NOW, kept=KEPT) == [
        replace(use, first_at=NOW - KEPT / 2, last_at=NOW - KEPT / 2)
    ]


def test_uses_of_entries_that_the_node_cannot_have_used_are_left_out() -> None:
    assert dated([a_use()], ends={}, now=NOW, kept=KEPT) == []
