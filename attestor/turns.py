"""Take turns at work that holds up the event loop, so that an account that asks repeatedly does not delay the others.

The turns belong to one event loop.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cognomen.gate.accounts import AccountID
from cognomen.gate.meter import Bucket
from cognomen.gate.shares import Share
from svid.clock import Clock

__all__ = ["Turns"]

_HALF_LIFE_SECONDS = 1.0  # a past turn counts half as much after this time when the next ones are ordered
_MANY = 1024  # above this number of accounts, those that owe nothing are forgotten


@dataclass(slots=True, eq=False)
class _Account:
    """What one account has used, and who is waiting for it."""

    bucket: Bucket
    own: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    turns: float = 0.0
    counted_at: float = 0.0

    def recent(self, now: float) -> float:
        """How many turns it has had recently."""
        return float(self.turns * 0.5 ** ((now - self.counted_at) / _HALF_LIFE_SECONDS))

    def count(self, now: float) -> None:
        """Count one more."""
        self.turns, self.counted_at = self.recent(now) + 1, now


class Turns:
    """Gives one turn in each round of the event loop, to the account that had the fewest recently; each account pays for its turns.

    Args:
        rate: what each account may spend in a second.
        burst: what it may spend at once.
        rest: how long to pause after a turn, as a multiple of its duration.
    """

    def __init__(self, share: Share, clock: Clock, *, rate: float, burst: float, rest: float = 0) -> None:
        self.share = share
        self._clock = clock
        self._rate, self._burst, self._rest = rate, burst, rest
        self._accounts: dict[AccountID, _Account] = {}
        self._contenders: dict[_Account, asyncio.Future[None]] = {}  # one per account
        self._is_taken = False

    @asynccontextmanager
    async def turn(self, whose: AccountID, cost: float) -> AsyncIterator[None]:
        """Wait for this account's turn, and hold it while the block runs; the block must not await."""
        account = self._accounts.get(whose)
        if account is None:
            bucket = Bucket(rate=self._rate, burst=self._burst, now=self._clock.monotonic())
            account = self._accounts[whose] = _Account(bucket)
        account.waiting += 1
        try:
            async with account.own:
                if (debt := account.bucket.wait(self._clock.monotonic())) > 0:
                    await self._clock.sleep(debt)
                account.bucket.take(cost, self._clock.monotonic())
                await self._contend(account)
            began = self._clock.monotonic()
            account.count(began)
            try:
                yield
            finally:
                took = self._clock.monotonic() - began
                asyncio.get_running_loop().call_later(took * self._rest, self._pass_on)
        finally:
            account.waiting -= 1
            self._forget()

    def __len__(self) -> int:
        return len(self._accounts)

    async def _contend(self, account: _Account) -> None:
        if not self._is_taken:
            self._is_taken = True
            return
        mine = self._contenders[account] = asyncio.get_running_loop().create_future()
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # our turn came at the same moment
                self._pass_on()
            raise
        finally:
            if self._contenders.get(account) is mine:
                del self._contenders[account]

    def _pass_on(self) -> None:
        now = self._clock.monotonic()
        waiting = [account for account, one in self._contenders.items() if not one.done()]
        if not waiting:
            self._is_taken = False
            return
        self._contenders.pop(min(waiting, key=lambda account: account.recent(now))).set_result(None)

    def _forget(self) -> None:
        if len(self._accounts) > _MANY:
            now = self._clock.monotonic()
            self._accounts = {
                whose: account
                for whose, account in self._accounts.items()
                if account.waiting or account.bucket.wait(now) > 0
            }
