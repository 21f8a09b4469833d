"""Waiting for the first of several things, and for a time to pass, while the wall clock may be set and the machine may sleep."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from types import TracebackType

from svid.clock import Clock

__all__ = ["LONGEST_SECONDS", "LOOK_SECONDS", "UntilSet", "first_of", "pass_time", "until"]

LOOK_SECONDS = 5.0
"""How long `until` may take to notice that the wall clock was set, or that the machine slept."""
LONGEST_SECONDS = 30.0
"""How long `pass_time` may take to notice the same."""
_SET_SECONDS = 1.0  # if a clock moves more than that against the monotonic one between two checks, it was set
_PASSED_SECONDS = 0.001  # if less is left, the time has passed: clocks differ by that much


async def first_of(*waits: Coroutine[None, None, object]) -> None:
    """Return when the first has ended, and end the others.

    Raises:
        Exception: raised by the first of them that failed.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait) for wait in waits]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


class UntilSet:
    """`with UntilSet(stop):` runs the block to its end, or until `stop` is set: then it cancels the block, and goes on after it.

    The block runs in the caller's task, so that it may enter what the caller leaves later.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._has_ended_it = False

    def __enter__(self) -> None:
        """Begin to watch the event."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("expected to run in a task, found none")
        self._task, self._cancellations = task, task.cancelling()
        self._watching = asyncio.create_task(self._end())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        """Stop watching; returns whether the block was cancelled by us, and by nobody else."""
        self._watching.cancel()  # from here on, it cannot cancel us, even if `stop` is set already
        if not self._has_ended_it:
            return False
        return self._task.uncancel() <= self._cancellations and isinstance(error, asyncio.CancelledError)

    async def _end(self) -> None:
        await self._stop.wait()
        self._has_ended_it = True
        self._task.cancel()


async def until(moment: Callable[[], datetime], clock: Clock) -> None:
    """Return once the wall clock has reached the moment, checking every LOOK_SECONDS.

    Args:
        moment: called at each check, so that a plan that a change of the clock made implausible can become "now".
    """
    while (left := (moment() - clock.now()).total_seconds()) > 0:
        await clock.sleep(min(left, LOOK_SECONDS))


async def pass_time(seconds: float, clock: Clock) -> None:
    """Return after that time by the monotonic clock, sooner if the wall clock is set; checks every LONGEST_SECONDS.

    A plain sleep would last longer by the time that the machine sleeps, and a caller that uses the wall clock would not check again.
    """
    due, ahead = clock.monotonic() + seconds, _ahead(clock)
    while seconds > 0:
        await clock.sleep(min(seconds, LONGEST_SECONDS))
        before, ahead = ahead, _ahead(clock)
        left = due - clock.monotonic()
        if left < _PASSED_SECONDS or abs(ahead - before) > _SET_SECONDS:
            return
        seconds = left


def _ahead(clock: Clock) -> float:
    """How far the wall clock is ahead of the monotonic one."""
    return clock.now().timestamp() - clock.monotonic()
