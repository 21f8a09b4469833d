"""Waiting for a moment of a wall clock that is set meanwhile, and for the first of several things."""

import asyncio
from datetime import datetime, timedelta

import pytest

from cognomen.daemon.waiting import LOOK_SECONDS, UntilSet, first_of, until
from cognomen.protocol.errors import Kind, Refused
from tests.doubles.clock import FakeClock
from tests.doubles.until import until as becomes_true

HOUR = timedelta(hours=1)


class Waiting:
    """Somebody who waits for a moment; for how long is measured by the monotonic clock."""

    def __init__(self, clock: FakeClock, moment: datetime) -> None:
        self.clock, self.moment = clock, moment
        self.task = asyncio.create_task(until(lambda: self.moment, clock))

    async def looks(self, times: int = 1) -> None:
        """Let it look so many times more."""
        for _ in range(times):
            await becomes_true(lambda: self.clock.sleepers == 1)
            self.clock.advance(LOOK_SECONDS)
            await asyncio.sleep(0)


async def test_a_moment_is_waited_for_to_the_second() -> None:
    clock = FakeClock()
    waiting = Waiting(clock, clock.now() + timedelta(seconds=2 * LOOK_SECONDS + 1))
    await waiting.looks(2)
    await becomes_true(lambda: clock.sleepers == 1)
    assert not waiting.task.done()
    clock.advance(1)
    await waiting.task


async def test_a_clock_that_is_set_forward_past_the_moment_is_noticed_at_the_next_look() -> None:
    clock = FakeClock()
    waiting = Waiting(clock, clock.now() + HOUR)
    await asyncio.sleep(0)
    clock.jump(2 * HOUR)
    await waiting.looks()
    await asyncio.wait_for(waiting.task, 1)


async def test_a_clock_that_is_set_back_makes_it_wait_for_as_much_longer() -> None:
    clock = FakeClock()
    waiting = Waiting(clock, clock.now() + timedelta(seconds=LOOK_SECONDS))
    await asyncio.sleep(0)
    clock.jump(timedelta(seconds=-LOOK_SECONDS))
    await waiting.looks()
    await becomes_true(lambda: clock.sleepers == 1)
    assert not waiting.task.done()
    await waiting.looks()
    await asyncio.wait_for(waiting.task, 1)


async def test_a_plan_that_becomes_now_is_noticed_at_the_next_look() -> None:
    clock = FakeClock()
    waiting = Waiting(clock, clock.now() + HOUR)
    await asyncio.sleep(0)
    waiting.moment = clock.now()
    await waiting.looks()
    await asyncio.wait_for(waiting.task, 1)


async def test_the_first_that_fails_is_what_is_raised() -> None:
    async def fail() -> None:
        raise Refused(Kind.UNAVAILABLE, "closed")

    with pytest.raises(Refused, match="closed"):
        await first_of(fail(), FakeClock().sleep(1))


async def test_a_block_ends_when_the_event_is_set_and_its_task_goes_on() -> None:
    stop, has_ended = asyncio.Event(), False
    asyncio.get_running_loop().call_soon(stop.set)
    with UntilSet(stop):
        try:
            await asyncio.Event().wait()
        finally:
            has_ended = True
    assert has_ended
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    await asyncio.sleep(0)  # nothing is left that would cancel it now


async def test_a_block_that_ends_first_is_not_cancelled_by_an_event_that_is_set_later() -> None:
    stop = asyncio.Event()
    with UntilSet(stop):
        await asyncio.sleep(0)
        stop.set()
    for _ in range(3):
        await asyncio.sleep(0)


async def test_an_event_that_is_set_already_ends_the_block_at_its_first_wait() -> None:
    stop = asyncio.Event()
    stop.set()
    with UntilSet(stop):
        await asyncio.Event().wait()


async def test_a_failure_leaves_the_block() -> None:
    with pytest.raises(Refused), UntilSet(asyncio.Event()):
        raise Refused(Kind.INVALID, "it fails")


async def test_who_is_cancelled_by_somebody_else_stays_cancelled_even_if_the_event_is_set() -> None:
    stop, begun = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        with UntilSet(stop):
            begun.set()
            await asyncio.Event().wait()

    for is_set in (False, True):
        stop.clear()
        begun.clear()
        task = asyncio.create_task(work())
        await begun.wait()
        if is_set:
            stop.set()
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), is_set
