"""Let the loop run until something has come about, without sleeping."""

import asyncio
from collections.abc import Callable

SECONDS = 10


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as the condition holds; TimeoutError when it does not in real seconds."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - the condition is any state of any object under test
            await asyncio.sleep(0)
