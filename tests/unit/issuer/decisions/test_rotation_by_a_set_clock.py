"""Authorities while the wall clock is set to and fro: whatever it showed, once it is right what signs is valid, and so is what follows."""

from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState, is_valid
from issuer.decisions.rotation import StepKind
from svid.keys import KeyID
from tests.doubles.issuer_values import NOW
from tests.unit.issuer.decisions.test_rotation import DAY, Life

HOUR = timedelta(hours=1)


def settled(life: Life, at: timedelta) -> None:
    """Let the clock show that, and everything happen that is due then."""
    life.now = NOW + at
    life.go_on()


def check(life: Life) -> None:
    for kind in AuthorityKind:
        signing = life.one(AuthorityState.ACTIVE, kind)
        assert is_valid(signing, now=life.now)
        assert any(is_valid(row, now=life.now) for row in life.of(kind, AuthorityState.NEXT))


def known_before(life: Life, then: set[KeyID]) -> Authority:
    """What signs, which everybody knew before the clock was set."""
    signing = life.one(AuthorityState.ACTIVE)
    assert signing.key_id in then
    return signing


@pytest.mark.parametrize("day", [0, 3, 5.9, 7, 11, 13])
@pytest.mark.parametrize("jump", [9, 15, 20, 60, 4000, -1, -9, -60])
def test_an_authority_of_another_time_signs_no_longer_than_the_clock_is_wrong(day: float, jump: int) -> None:
    life = Life()
    settled(life, timedelta())
    for hour in range(0, int(day * 24) + 1, 6):
        settled(life, hour * HOUR)
    before, right = set(life.rows), life.now - NOW
    life.is_clock_trusted = False
    settled(life, right + jump * DAY)
    check(life)
    settled(life, right + timedelta(minutes=1))
    check(life)
    signing = known_before(life, before)
    assert signing.not_before <= life.now < signing.not_after
    assert signing.not_after - life.now >= DAY


@given(
    readings=st.lists(
        st.tuples(st.integers(min_value=1, max_value=3 * 24 * 60), st.integers(min_value=-5000, max_value=5000)),
        min_size=1,
        max_size=30,
    ),
    trusts=st.booleans(),
)
@example(readings=[(60, 15 * 24), (60, 0)], trusts=False)
def test_whatever_the_clock_showed_what_signs_is_valid_by_it_and_by_the_right_one(
    readings: list[tuple[int, int]],
    trusts: bool,  # noqa: FBT001 - what hypothesis draws
) -> None:
    life, right = Life(), timedelta()
    settled(life, right)
    for minutes, hours_off in readings:
        right += timedelta(minutes=minutes)
        life.is_clock_trusted = trusts and not hours_off
        settled(life, right + hours_off * HOUR)
        check(life)
        life.is_clock_trusted = False
        settled(life, right)
        check(life)
        assert StepKind.RETIRE not in life.go_on()
