"""Let the loop run until something has come about, without sleeping."""

import asyncio
from collections.abc import Callable

from tests.doubles.clock import FakeClock

__all__ = ["pass_until", "until"]

SECONDS = 10
TURNS = 30  # of the loop, in which whoever was woken does what it can without waiting


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; TimeoutError when it does not in real seconds."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - the condition is any state of any object under test
            await asyncio.sleep(0)


async def pass_until(clock: FakeClock, condition: Callable[[], bool], *, step: float = 1.0) -> None:
    """Let the clock's time pass, step by step, until the condition holds; TimeoutError when it does not in real seconds.

    Units: seconds.
    """
    async with asyncio.timeout(2 * SECONDS):
        while not condition():
            clock.advance(step)
            for _ in range(TURNS):
                await asyncio.sleep(0)
