"""Which times of a node the issuer believes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from issuer.decisions.uses import Times, dated
from tests.doubles.issuer_values import NOW
from tests.doubles.uses import a_use

KEPT = timedelta(days=90)
LONG_AGO = NOW - 100 * KEPT
moments = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the strategy adds the zone


@given(moments, moments)
def test_every_time_is_one_that_the_issuers_clock_allows(one: datetime, other: datetime) -> None:
    use = a_use(first_at=min(one, other), last_at=max(one, other))
    for end, begin in product((NOW + KEPT, NOW - KEPT / 2, NOW - 2 * KEPT), (NOW - 3 * KEPT, NOW - KEPT / 2, NOW)):
        for found in dated([use], times={use.entry_id: Times(begin, end)}, now=NOW, kept=KEPT):
            last = min(NOW, end)
            assert max(NOW - KEPT, min(begin, last)) <= found.first_at <= found.last_at <= last


def test_times_that_are_possible_stay_as_they_are() -> None:
    use = a_use(first_at=NOW - KEPT, last_at=NOW)
    assert dated([use], times={use.entry_id: Times(LONG_AGO, NOW)}, now=NOW, kept=KEPT) == [use]


def test_what_is_older_than_what_is_kept_is_left_out() -> None:
    old = a_use(first_at=NOW - 2 * KEPT, last_at=NOW - KEPT - timedelta(seconds=1))
    assert dated([old], times={old.entry_id: Times(LONG_AGO, NOW)}, now=NOW, kept=KEPT) == []


def test_no_use_is_later_than_the_end_of_what_the_node_was_given() -> None:
    use = a_use(first_at=NOW - KEPT / 4, last_at=NOW)
    assert dated([use], times={use.entry_id: Times(LONG_AGO, NOW - KEPT / 2)}, now=NOW, kept=KEPT) == [
        replace(use, first_at=NOW - KEPT / 2, last_at=NOW - KEPT / 2)
    ]


@pytest.mark.parametrize("kept", [KEPT, timedelta(days=3000)])
def test_no_use_is_older_than_its_node_and_its_entry(kept: timedelta) -> None:
    began, use = NOW - timedelta(days=2), a_use(first_at=NOW - timedelta(days=3000), last_at=NOW)
    times = {use.entry_id: Times(began, NOW)}
    assert dated([use], times=times, now=NOW, kept=kept) == [replace(use, first_at=began)]
    old = replace(use, last_at=NOW - timedelta(days=4))
    assert dated([old], times=times, now=NOW, kept=kept) == [replace(use, first_at=began, last_at=began)]


def test_uses_of_entries_that_the_node_cannot_have_used_are_left_out() -> None:
    assert dated([a_use()], times={}, now=NOW, kept=KEPT) == []
