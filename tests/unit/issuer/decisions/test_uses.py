"""Which times of a node the issuer believes."""

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
    for use in dated([a_use(first_at=min(one, other), last_at=max(one, other))], now=NOW, kept=KEPT):
        assert NOW - KEPT <= use.first_at <= use.last_at <= NOW


def test_times_that_are_possible_stay_as_they_are() -> None:
    use = a_use(first_at=NOW - KEPT, last_at=NOW)
    assert dated([use], now=NOW, kept=KEPT) == [use]


def test_what_is_older_than_what_is_kept_is_left_out() -> None:
    old = a_use(first_at=NOW - 2 * KEPT, last_at=NOW - KEPT - timedelta(seconds=1))
    assert dated([old], now=NOW, kept=KEPT) == []
