"""A workload attestor that says what the test tells it to."""

import asyncio
from collections.abc import Collection, Sequence

from cognomen.gate.caller import Caller
from cognomen.protocol.selector import Selector

__all__ = ["WorkloadAttestorDouble"]


class WorkloadAttestorDouble:
    """Gives every caller these selectors.

    Attributes:
        refuses: what it raises instead.
        unseen_raises: what it raises instead of saying what it does not see.
        answers: it waits until this is set.
        looks: how often it was asked.
    """

    name = "test"

    def __init__(self, *selectors: str) -> None:
        self.selectors = selectors
        self.refuses: BaseException | None = None
        self.unseen_raises: BaseException | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.looks = 0

    async def attest(self, caller: Caller, *, needed: Collection[str]) -> frozenset[Selector]:
        del caller, needed
        self.looks += 1
        await self.answers.wait()
        if self.refuses is not None:
            raise self.refuses
        return frozenset(map(Selector.parse, self.selectors))

    async def unseen(self, caller: Caller, *, needed: Collection[str]) -> Sequence[str]:
        del caller, needed
        if self.unseen_raises is not None:
            raise self.unseen_raises
        return []
