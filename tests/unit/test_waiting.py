"""Waiting for a moment of a wall clock that is set meanwhile, and for the first of several things."""

import asyncio
from datetime import datetime, timedelta

import pytest

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.waiting import LOOK_SECONDS, first_of, until
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
