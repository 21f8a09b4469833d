import asyncio
import os
import signal

import pytest

from cognomen.daemon.supervisor import Task, stop_on_signals, supervise
from svid.clock import SystemClock
from tests.doubles.clock import FakeClock


async def forever() -> None:
    await asyncio.Event().wait()


async def test_all_tasks_end_when_asked_to_stop() -> None:
    stop = asyncio.Event()
    ended: list[str] = []

    async def until_cancelled() -> None:
        try:
            await forever()
        finally:
            ended.append("cancelled")

    async def stopper() -> None:
        stop.set()

    tasks = [Task(name="a", run=until_cancelled), Task(name="b", run=until_cancelled, restart=True)]
    await supervise([*tasks, Task(name="stopper", run=stopper)], stop=stop, clock=SystemClock())
    assert ended == ["cancelled", "cancelled"]


async def test_a_task_that_may_not_fail_ends_the_others_and_its_failure_is_raised() -> None:
    async def failing() -> None:
        raise ZeroDivisionError

    tasks, stop = [Task(name="failing", run=failing), Task(name="other", run=forever)], asyncio.Event()
    with pytest.raises(ZeroDivisionError):
        await supervise(tasks, stop=stop, clock=SystemClock())
    assert not stop.is_set(), "it is the caller's"


async def test_a_failure_while_the_others_end_does_not_hide_the_first() -> None:
    async def failing() -> None:
        raise ZeroDivisionError

    async def failing_at_the_end() -> None:
        try:
            await forever()
        finally:
            raise LookupError

    tasks = [Task(name="late", run=failing_at_the_end), Task(name="failing", run=failing)]
    with pytest.raises(ZeroDivisionError):
        await supervise(tasks, stop=asyncio.Event(), clock=SystemClock())


async def test_a_task_that_ends_by_itself_ends_nothing_else() -> None:
    stop = asyncio.Event()
    reached: list[str] = []

    async def short() -> None:
        reached.append("short")

    async def long() -> None:
        await asyncio.sleep(0)
        reached.append("long")
        stop.set()

    await supervise([Task(name="short", run=short), Task(name="long", run=long)], stop=stop, clock=SystemClock())
    assert reached == ["short", "long"]


async def test_a_task_that_may_fail_is_started_again_after_a_delay() -> None:
    clock, stop, starts = FakeClock(), asyncio.Event(), 0

    async def failing_twice() -> None:
        nonlocal starts
        starts += 1
        if starts <= 2:
            raise ZeroDivisionError
        stop.set()

    supervised = asyncio.ensure_future(
        supervise([Task(name="failing", run=failing_twice, restart=True)], stop=stop, clock=clock)
    )
    for _ in range(20):
        await asyncio.sleep(0)
    assert starts == 1, "it waits before it starts again"
    while not supervised.done():
        clock.advance(0.5)
        await asyncio.sleep(0)
    await supervised
    assert starts == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_asks_to_stop(number: signal.Signals) -> None:
    stop = asyncio.Event()
    with stop_on_signals(stop):
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 5)
