"""attestor/deniallog: what is denied, read on from any place, and who is woken."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from attestor.deniallog import DenialLog
from cognomen.protocol.feed import Cursor
from svid.denials import KEPT_FOR, Denial, unpack

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
numbers = st.lists(st.integers(min_value=0, max_value=2**128 - 1))


def at(number: int) -> Cursor:
    return Cursor(incarnation="a", number=number)


def denials(some: Iterable[int], *, end: datetime = NOON) -> list[Denial]:
    return [Denial(number, end) for number in some]


def told(log: DenialLog, place: int, *, most: int | None = None) -> list[int]:
    piece = log.after(place, most=most)
    return [denial.number for denial in unpack(piece.numbers, piece.ends)]


@given(batches=st.lists(numbers), most=st.integers(min_value=1, max_value=3))
def test_whoever_reads_on_from_its_place_gets_each_once_in_the_order_in_which_they_came(
    batches: list[list[int]], most: int
) -> None:
    log = DenialLog()
    for count, batch in enumerate(batches):
        log.put(denials(batch), at(count))
    read: list[int] = []
    place = 0
    while place < log.place:
        read += told(log, place, most=most)
        place = log.after(place, most=most).place
    assert read == list(dict.fromkeys(number for batch in batches for number in batch))
    assert all(number in log for number in read)
    assert len(log) == len(read)


@given(old=numbers, new=numbers)
def test_a_place_keeps_its_meaning_when_others_are_forgotten(old: list[int], new: list[int]) -> None:
    log = DenialLog()
    log.put(denials(old), at(1))
    place = log.place
    log.put(denials(new, end=NOON + HOUR), at(2))
    log.forget(NOON + HOUR)
    left = [number for number in dict.fromkeys(new) if number not in old]
    assert told(log, place) == told(log, 0) == left
    assert not any(number in log for number in old)
    assert all(number in log for number in left)


def test_whoever_stands_before_what_was_forgotten_goes_on_behind_it() -> None:
    log = DenialLog(denials([1, 2]))
    log.forget(NOON + KEPT_FOR + timedelta(seconds=1))
    piece = log.after(0)
    assert (piece.place, piece.numbers, list(piece.ends)) == (2, b"", [])


def test_a_number_that_is_denied_twice_is_new_once() -> None:
    log = DenialLog()
    assert log.put(denials([1, 1, 2]), at(1))
    assert not log.put(denials([2, 1]), at(2))
    assert log.place == 2


def test_whoever_says_an_earlier_end_has_nothing_forgotten_sooner() -> None:
    log = DenialLog()
    log.put(denials([1], end=NOON + HOUR), at(1))
    log.put(denials([1], end=NOON - HOUR), at(2))
    log.forget(NOON + HOUR)
    assert 1 in log
    assert list(log.after(0).ends) == [int((NOON + HOUR).timestamp())]


async def is_woken(log: DenialLog, turn: int) -> bool:
    try:
        async with asyncio.timeout(0):
            await log.changed(turn)
    except TimeoutError:
        return False
    return True


async def test_denials_wake_followers_and_so_does_the_end_of_the_step_that_had_some() -> None:
    log = DenialLog()
    turn = log.turn
    log.put([], at(0))
    assert await is_woken(log, turn), "there is an epoch"
    turn = log.turn
    log.put([], at(1))
    assert not await is_woken(log, turn), "a cursor that moves without denials is told with the next word"
    log.put(denials([1]), at(1))
    assert await is_woken(log, turn), "the first message of a step: the cursor is still the one before"
    turn = log.turn
    log.put([], at(1))
    assert not await is_woken(log, turn)
    log.put([], at(2))
    assert await is_woken(log, turn), "the step is whole"
    turn = log.turn
    log.put([], at(3))
    assert not await is_woken(log, turn)
    log.put(denials([1]), at(4))
    assert await is_woken(log, turn), "known already, but as of a later epoch"
