"""Which credentials are denied, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svid.denials import KEPT_FOR, Denial, Denials, number_of_jti, pack, unpack
from svid.errors import DenialError

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
numbers = st.integers(min_value=0, max_value=2**128 - 1)


@given(first=st.lists(numbers), second=st.lists(numbers))
def test_what_was_added_is_denied_and_told_once(first: list[int], second: list[int]) -> None:
    denials = Denials()
    assert set(denials.add(Denial(number, NOW) for number in first)) == set(first)
    assert set(denials.add(Denial(number, NOW) for number in second)) == set(second) - set(first)
    assert all(number in denials for number in (*first, *second))
    assert {denial.number for denial in denials.all()} == {*first, *second}
    assert len(denials) == len({*first, *second})


def test_a_denial_is_forgotten_five_minutes_after_the_end_of_what_it_names() -> None:
    denials = Denials()
    denials.add([Denial(1, NOW), Denial(2, NOW + SECOND)])
    denials.forget(NOW + KEPT_FOR)
    assert (1 in denials, 2 in denials) == (True, True)
    denials.forget(NOW + KEPT_FOR + SECOND)
    assert (1 in denials, 2 in denials) == (False, True)
    assert denials.all() == (Denial(2, NOW + SECOND),)


@given(number=st.integers(min_value=2**127, max_value=2**128 - 1))
def test_a_jti_of_ours_names_its_number(number: int) -> None:
    assert number_of_jti(f"{number:x}") == number


@pytest.mark.parametrize(
    "jti", [None, "", "1", "F" * 32, "f" * 31, "f" * 33, "0x" + "f" * 30, "f" * 31 + "\n", "\u0661" * 32]
)
def test_any_other_jti_names_nothing(jti: str | None) -> None:
    assert number_of_jti(jti) is None


moments = st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1)).map(lambda at: at.replace(microsecond=0))  # noqa: DTZ001 - hypothesis adds the zone
denials = st.lists(st.builds(Denial, numbers, moments))


@given(some=denials)
def test_what_is_written_is_read_again(some: list[Denial]) -> None:
    assert unpack(*pack(some)) == tuple(some)


@pytest.mark.parametrize(
    ("found", "ends", "reason"),
    [
        (b"", [1], "ends: expected one for each of 0 numbers, found 1"),
        (bytes(17), [1], "numbers: expected a multiple of 16 bytes, found 17"),
        (bytes(16), [], "ends: expected one for each of 1 numbers, found 0"),
        (bytes(16), [2**40], "ends: expected seconds since 1970"),
        (bytes(16), [2**63 - 1], "ends: expected seconds since 1970"),
        (bytes(16), [-1], "ends: expected seconds since 1970"),
    ],
)
def test_what_is_none_is_refused(found: bytes, ends: list[int], reason: str) -> None:
    with pytest.raises(DenialError, match=reason):
        unpack(found, ends)
