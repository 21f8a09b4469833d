"""Waiting for the first of several things."""

import asyncio
from collections.abc import Coroutine

__all__ = ["first_of"]


async def first_of(*waits: Coroutine[None, None, object]) -> None:
    """Return when the first has ended, and end the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(wait) for wait in waits]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
