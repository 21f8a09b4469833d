"""Waiting for the first of several things, and telling our own cancellation from somebody else's."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager

__all__ = ["CancelledByAnotherError", "first_of", "telling_cancellations_apart"]


class CancelledByAnotherError(Exception):
    """What we waited for was cancelled, and not we."""


async def first_of(*waits: Coroutine[None, None, object]) -> None:
    """Return when the first has ended, and end the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(wait) for wait in waits]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


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
