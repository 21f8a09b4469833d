"""Suspend the agents whose review was due more than 14 days ago, if their rules ask for that.

cognomen/rulebook/reviews decides when that is, and issuer/flows/hold_agents suspends them: in one transaction, which looks again, so that
nothing is lost or done twice when the issuer stops in between.
"""

from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta

import structlog

from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.review_dates import ReviewDates
from issuer.surroundings import Surroundings

__all__ = ["SuspendOverdue"]

log = structlog.get_logger(__name__)

_EVERY = timedelta(minutes=1)


class SuspendOverdue:
    """Looks every minute.

    Args:
        suspend: suspends those that are due, in one transaction; returns their names.
    """

    def __init__(
        self,
        *,
        suspend: Callable[[], Awaitable[Collection[str]]],
        reviews: ReviewDates,
        around: Surroundings,
        guard: ClockGuard,
    ) -> None:
        self.suspend = suspend
        self.reviews = reviews
        self.clock = around.clock
        self.guard = guard
        self.troubles = around.troubles
        self.pulse = Pulse()

    async def __call__(self) -> None:
        """Suspend those that are due; nobody, while the clock is in doubt.

        Raises:
            Refused: UNAVAILABLE, from the store; CONFLICT when rulebooks are applied all the time.
        """
        # 1. Look without a transaction: nearly always there is nobody.
        if not await self.reviews.to_suspend() or not await self.guard.is_trusted():
            return
        # 2. Suspend them.
        for name in await self.suspend():
            log.warning(
                "agent suspended",
                agent=name,
                reason="its review was due more than 14 days ago",
                hint="apply a rulebook with a later review_by, or: cognomen agent resume",
            )

    async def run(self) -> None:
        """Look at once and then every minute, until cancelled."""
        attempts = Attempts(
            log,
            self.clock,
            pulse=self.pulse,
            troubles=self.troubles,
            trouble="suspension of agents whose review was due",
            over="reviews of agents looked at again",
            failure=Failure(event="reviews of agents not looked at", again=_EVERY),
        )
        while True:
            with attempts.trying():
                await self()
            await attempts.rest(after=_EVERY)
