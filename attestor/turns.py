"""Turns in which local uids are told at length, so that one that asks again and again keeps nobody else waiting.

Belongs to one event loop.
"""

import asyncio
from dataclasses import dataclass, field

from cognomen.daemon.meter import Bucket
from svid.clock import Clock

__all__ = ["Turns"]

_BURST_BYTES = 256 * 2**20  # a hundred processes of one uid, after a restart, with 100,000 denials
_BYTES_PER_SECOND = 8 * 2**20
_MANY = 1024  # more uids than that, and those that owe nothing are forgotten


@dataclass(slots=True)
class _Account:
    """What one uid was told, and who of it waits."""

    bucket: Bucket
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class Turns:
    """One turn in each round of the event loop; the uids that wait take them one after the other.

    Each uid pays for the bytes of its turns: beyond 256 MiB at once it gets 8 MiB a second.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = asyncio.Lock()
        self._accounts: dict[int, _Account] = {}

    async def take(self, uid: int, size: int) -> None:
        """Return when it is this uid's turn to be told so many bytes."""
        now = self._clock.monotonic()
        account = self._accounts.setdefault(uid, _Account(Bucket(rate=_BYTES_PER_SECOND, burst=_BURST_BYTES, now=now)))
        account.waiting += 1
        try:
            async with account.turn:  # one of each uid waits for the turn of all: it is given in the order of coming
                if (debt := account.bucket.wait(self._clock.monotonic())) > 0:
                    await self._clock.sleep(debt)
                account.bucket.take(size, self._clock.monotonic())
                async with self._turn:
                    await asyncio.sleep(0)
        finally:
            account.waiting -= 1
            self._forget()

    def __len__(self) -> int:
        return len(self._accounts)

    def _forget(self) -> None:
        if len(self._accounts) > _MANY:
            now = self._clock.monotonic()
            self._accounts = {
                uid: account
                for uid, account in self._accounts.items()
                if account.waiting or account.bucket.wait(now) > 0
            }
