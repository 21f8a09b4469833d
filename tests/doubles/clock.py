"""A clock that stands still until it is told to move."""

import asyncio
import heapq
from datetime import UTC, datetime, timedelta

__all__ = ["FakeClock"]


class FakeClock:
    """A svid.clock.Clock whose wall and monotonic time move only by `advance` (or, the wall alone, by `jump`)."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    @property
    def sleepers(self) -> int:
        """How many are asleep."""
        return sum(not future.done() for _, _, future in self._sleepers)

    @property
    def sleeps(self) -> int:
        """How many sleeps have begun so far; a loop that does not rest begins ever more of them."""
        return self._count

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._count, future))
        await future

    def advance(self, by: timedelta | float) -> None:
        """Let the time pass and wake whoever slept that long; they run when the caller next awaits.

        Call it from the loop in which they sleep. Units: seconds, where it is a number.
        """
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        self._now += step
        self._monotonic += step.total_seconds()
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)

    def jump(self, by: timedelta) -> None:
        """Let the wall clock alone jump, as when somebody sets it."""
        self._now += by

    def suspend(self, by: timedelta) -> None:
        """Let the machine sleep: both clocks go on, but whoever sleeps here has as long to go as before."""
        self._now += by
        self._monotonic += by.total_seconds()
        self._sleepers = [(due + by.total_seconds(), count, future) for due, count, future in self._sleepers]
