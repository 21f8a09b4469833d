"""Durations on the wire: protobuf's own conversion accepts what its definition forbids."""

import re
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.entry import EntryError
from cognomen.wire.node import duration_from_pb

YEARS_10_000 = 315_576_000_000
numbers = st.integers(-(2**63), 2**63 - 1)


@given(st.timedeltas(timedelta(seconds=-YEARS_10_000), timedelta(seconds=YEARS_10_000)))
def test_a_duration_is_read_as_it_was_written(length: timedelta) -> None:
    message = Duration()
    message.FromTimedelta(length)
    assert duration_from_pb(message, "ttl") == length


@pytest.mark.parametrize(
    ("seconds", "nanos", "sentence"),
    [
        (0, 1_000_000_000, "ttl: expected less than 1000000000 ns beside its seconds, found 1000000000 ns"),
        (1, -1_000_000_000, "ttl: expected less than 1000000000 ns beside its seconds, found -1000000000 ns"),
        (1, -1, "ttl: expected seconds and ns of the same sign, found 1 s and -1 ns"),
        (-1, 1, "ttl: expected seconds and ns of the same sign, found -1 s and 1 ns"),
        (
            YEARS_10_000 + 1,
            0,
            "ttl: expected at most 315576000000 s in either direction, found 315576000001 s",
        ),
        (-(2**63), 0, f"ttl: expected at most 315576000000 s in either direction, found {-(2**63)} s"),
    ],
)
def test_a_duration_that_is_not_one_is_refused_by_what_is_wrong_with_it(
    seconds: int, nanos: int, sentence: str
) -> None:
    with pytest.raises(EntryError, match=f"^{re.escape(sentence)}$"):
        duration_from_pb(Duration(seconds=seconds, nanos=nanos), "ttl")


@given(numbers, st.integers(-(2**31), 2**31 - 1))
def test_any_numbers_are_a_duration_or_refused(seconds: int, nanos: int) -> None:
    try:
        found = duration_from_pb(Duration(seconds=seconds, nanos=nanos), "ttl")
    except EntryError:
        return
    assert abs(found - timedelta(seconds=seconds)) < timedelta(seconds=1)
