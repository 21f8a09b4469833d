"""The only module that reads the time: all other code receives a Clock, or a moment."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """A source of the time that can also wait.

    Units: `now` is aware UTC; `monotonic` and `sleep` are seconds.
    """

    def now(self) -> datetime:
        """The wall clock, which may jump."""

    def monotonic(self) -> float:
        """A clock that nobody sets, with an arbitrary start; it includes the time that the machine sleeps."""

    async def sleep(self, seconds: float) -> None:
        """Return after that time, or later: the time that the machine sleeps may not count."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The machine's wall clock."""
        return datetime.now(UTC)  # noqa: TID251 - this is the one place

    def monotonic(self) -> float:
        """The time since the machine booted, including sleep."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        """Sleep in the running event loop."""
        await asyncio.sleep(seconds)
