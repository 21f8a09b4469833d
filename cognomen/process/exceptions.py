"""Exceptions that passed through tasks: find out who was cancelled, and release the frames that an exception keeps alive."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["CancelledByAnotherError", "forget_frames", "is_being_cancelled", "telling_cancellations_apart"]


class CancelledByAnotherError(Exception):
    """What we waited for was cancelled, but we were not."""


def forget_frames(err: BaseException) -> None:
    """Release the frames that an exception passed through, once it has been answered or logged.

    A frame often refers to the exception that it raised, or to the task that holds it. Then only the garbage collector frees the two, and
    it stops every thread meanwhile.
    """
    left: list[BaseException | None] = [err]
    seen = set[BaseException]()
    while left:
        one = left.pop()
        if one is None or one in seen:
            continue
        seen.add(one)
        one.__traceback__ = None
        left += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def is_being_cancelled() -> bool:
    """Whether somebody cancels the current task; outside of tasks and in other threads there is nothing to cancel."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return False
    return task is not None and task.cancelling() > 0


@contextmanager
def telling_cancellations_apart() -> Iterator[None]:
    """Let a CancelledError leave the block only if this task is cancelled; otherwise nobody would see it as a failure.

    Raises:
        CancelledByAnotherError: when what the block waited for was cancelled.
    """
    try:
        yield
    except asyncio.CancelledError as e:
        if is_being_cancelled():
            raise
        raise CancelledByAnotherError("cancelled by what it waited for") from e
