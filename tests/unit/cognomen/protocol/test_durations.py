"""Durations as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.durations import format_duration, parse_duration


@given(st.integers(0, 99999), st.integers(0, 99999))
def test_units_add_up(hours: int, seconds: int) -> None:
    assert parse_duration(f"{hours}h{seconds}s") == timedelta(hours=hours, seconds=seconds)


@given(st.timedeltas(timedelta(0), timedelta(days=9999)).map(lambda found: found - found % timedelta(seconds=1)))
def test_a_duration_that_was_written_is_read_again(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (90, "90s"), (3600, "1h"), (1209600, "14d"), (0.5, "0.5s")])
def test_a_duration_is_written_in_its_largest_unit(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize("text", ["999999999999999d", "1000000000d", f"{'9' * 5000}d", "999999999d1d"])
def test_a_duration_that_is_too_long_is_refused_as_that(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration of at most 999999999 days, found ") as refused:
        parse_duration(text)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("text", ["", "1", "h", "-1s", "1.5h", "1s ", "1s\n", "1H", "999999999d999999999d", "\u0661s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)
