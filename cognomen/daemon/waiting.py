"""Waiting for the first of several things, and for a moment of a wall clock that may be set or sleep meanwhile.

And telling our own cancellation from somebody else's.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime

from svid.clock import Clock

__all__ = ["LOOK_SECONDS", "CancelledByAnotherError", "first_of", "telling_cancellations_apart", "until"]

LOOK_SECONDS = 5.0
"""How late whoever waits for a moment notices that the wall clock was set, or that the machine slept."""


class CancelledByAnotherError(Exception):
    """What we waited for was cancelled, and not we."""


async def first_of(*waits: Coroutine[None, None, object]) -> None:
    """Return when the first has ended, and end the others.

    Raises:
        Exception: what the first of them that failed raised.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait) for wait in waits]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def until(moment: Callable[[], datetime], clock: Clock) -> None:
    """Return once the wall clock has reached the moment, looking again every LOOK_SECONDS.

    Args:
        moment: asked at each look, so that a plan which the clock has made implausible can become "now".
    """
    while (left := (moment() - clock.now()).total_seconds()) > 0:
        await clock.sleep(min(left, LOOK_SECONDS))


@contextmanager
def telling_cancellations_apart() -> Iterator[None]:
    """Let a CancelledError leave the block as such only if somebody cancels this task: else nobody would take it for a failure.

    Raises:
        CancelledByAnotherError: where what the block waited for was cancelled.
    """
    try:
        yield
    except asyncio.CancelledError as e:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise CancelledByAnotherError("cancelled by what it waited for") from e
