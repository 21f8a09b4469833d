"""The only reader of the time: everything else is handed a Clock, or a moment."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Something that knows the time and can wait.

    Units: `now` is aware UTC; `monotonic` and `sleep` are seconds.
    """

    def now(self) -> datetime:
        """The wall clock, which may jump."""

    def monotonic(self) -> float:
        """A clock that nobody sets, from an arbitrary start; the time that the machine sleeps counts."""

    async def sleep(self, seconds: float) -> None:
        """Return after that time; the time that the machine sleeps may not count, so that it becomes longer."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The machine's wall clock."""
        return datetime.now(UTC)  # noqa: TID251 - this is the one place

    def monotonic(self) -> float:
        """The machine's time since it was started, asleep or not."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        """Let the running loop go on for that long."""
        await asyncio.sleep(seconds)
