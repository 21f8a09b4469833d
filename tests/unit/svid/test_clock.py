import asyncio
from datetime import UTC, datetime, timedelta

from svid.clock import Clock, SystemClock
from tests.doubles.clock import FakeClock


async def test_the_machines_clock_knows_its_zone_and_waits() -> None:
    clock: Clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(0.001)
    assert clock.monotonic() > before
    assert clock.now().tzinfo is UTC


async def test_the_fake_clock_wakes_whoever_slept_that_long() -> None:
    clock = FakeClock()
    woken: list[str] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async with asyncio.TaskGroup() as group:
        group.create_task(sleep("late", 10))
        group.create_task(sleep("early", 5))
        await sleep("at once", 0)
        assert clock.sleepers == 2
        clock.advance(5)
        await asyncio.sleep(0)
        assert woken == ["at once", "early"]
        clock.advance(timedelta(seconds=5))
    assert woken == ["at once", "early", "late"]
    assert clock.monotonic() == 10
    assert clock.now() == datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)


async def test_a_jump_of_the_wall_clock_wakes_nobody() -> None:
    clock = FakeClock()
    task = asyncio.create_task(clock.sleep(1))
    await asyncio.sleep(0)
    clock.jump(timedelta(hours=1))
    await asyncio.sleep(0)
    assert not task.done()
    assert clock.monotonic() == 0
    task.cancel()
    await asyncio.wait([task])
    clock.advance(2)
    assert clock.sleepers == 0
