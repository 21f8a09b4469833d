"""Watch the wall clock, and decide whether steps that destroy by time may go on.

issuer/decisions/timekeeping decides what counts as a jump, and when a doubt ends without an operator.
"""

from datetime import datetime, timedelta

import structlog

from cognomen.protocol.moments import moment_in_words
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent, Decision
from issuer.decisions.timekeeping import Doubt, Reading, doubted, ends_at
from issuer.surroundings import Surroundings

__all__ = ["ClockGuard"]

log = structlog.get_logger(__name__)

_NOTE_EVERY = timedelta(minutes=1)


class ClockGuard:
    """Knows whether the wall clock is trusted, since this issuer started."""

    def __init__(self, *, datastore: Datastore, around: Surroundings) -> None:
        self._datastore = datastore
        self._clock = around.clock
        self._trusted: Reading | None = None
        self._doubt: Doubt | None = None
        self._is_told = False  # whether the doubt is recorded

    @property
    def doubt(self) -> str:
        """Why the clock was not trusted at the last look, what waits because of that, and until when; empty: it was trusted."""
        if self._doubt is None:
            return ""
        end = moment_in_words(ends_at(self._doubt, self._read()))
        return f"{self._doubt.reason}; nothing is retired or pruned until {end}, or until you run: cognomen issuer confirm-clock"

    async def look(self) -> bool:
        """Look at the clock now, and write nothing: status queries must be answered even when no write is possible.

        Raises:
            Refused: UNAVAILABLE, when the store cannot be read.
        """
        await self._look(self._read())
        return self._doubt is None

    async def is_trusted(self) -> bool:
        """Look at the clock now, and record a new verdict.

        Raises:
            Refused: UNAVAILABLE, from the store.
        """
        # 1. Compare with the last trusted reading, or without one, with what the store knows.
        now = self._read()
        high_water = await self._look(now)
        # 2. Report it if it is news.
        found = self._doubt
        if (found is not None) is not self._is_told:
            await self._tell(found, now)
            self._is_told = found is not None
        if found is not None:
            return False
        # 3. Remember a trusted reading.
        self._trusted = now
        if high_water is None or abs(now.wall - high_water) >= _NOTE_EVERY:
            await self._datastore.write(lambda tx: tx.times.note(now.wall))
        return True

    async def confirm(self, *, actor: str) -> datetime:
        """Trust the clock as it is now, because an operator says so; this is recorded."""
        now = self._read()
        reason = "" if self._doubt is None else self._doubt.reason
        event = AuditEvent(at=now.wall, actor=actor, action=Action.CLOCK_CONFIRMED, reason=reason)

        def work(tx: Transaction) -> None:
            tx.times.note(now.wall)
            tx.audit.append([event])

        await self._datastore.write(work)
        self._trusted, self._doubt, self._is_told = now, None, False
        return now.wall

    async def _look(self, now: Reading) -> datetime | None:
        high_water = await self._datastore.read(lambda tx: tx.times.high_water())
        self._doubt = doubted(now, trusted=self._trusted, high_water=high_water, before=self._doubt)
        return high_water

    def _read(self) -> Reading:
        return Reading(wall=self._clock.now(), monotonic=self._clock.monotonic())

    async def _tell(self, found: Doubt | None, now: Reading) -> None:
        if found is None:
            log.info("wall clock trusted again")
        else:
            log.error(
                "wall clock not trusted, nothing is retired or pruned",
                reason=found.reason,
                until=ends_at(found, now).isoformat(timespec="seconds"),
                hint="set the clock, or if it is right, confirm it: cognomen issuer confirm-clock",
            )
        event = AuditEvent(
            at=now.wall,
            actor="issuer",
            action=Action.CLOCK_LOOKED_AT,
            decision=Decision.ALLOWED if found is None else Decision.REFUSED,
            reason="" if found is None else found.reason,
        )
        await self._datastore.write(lambda tx: tx.audit.append([event]))
