"""Ask for several things at once, and take all of them or raise the first refusal."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from cognomen.protocol.errors import Refused

__all__ = ["all_granted", "granted"]

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


async def all_granted(asked: Sequence[_Asked], ask: Callable[[_Asked], Awaitable[_Answer]]) -> Sequence[_Answer]:
    """The answers, in order.

    Raises:
        Refused: the first refusal among them, once all have answered.
    """
    if len(asked) == 1:  # the usual case, without a task
        return [await ask(asked[0])]
    async with asyncio.TaskGroup() as group:
        answers = [group.create_task(_answer(ask(one))) for one in asked]
    return [granted(answer.result()) for answer in answers]


async def _answer(asking: Awaitable[_Answer]) -> _Answer | Refused:
    """The answer; a refusal is returned, because a task group would wrap it if it were raised."""
    try:
        return await asking
    except Refused as err:
        return err.with_traceback(None)


def granted(answer: _Answer | Refused) -> _Answer:
    """The answer, unless it is a refusal.

    Raises:
        Refused: it is.
    """
    if isinstance(answer, Refused):
        raise answer
    return answer
