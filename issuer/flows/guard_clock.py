"""Watch the wall clock, and say whether what destroys by time may go on.

What counts as a jump is decided in issuer/decisions/timekeeping.
"""

from datetime import datetime, timedelta

import structlog

from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.audit import AuditEvent, Decision
from issuer.decisions.timekeeping import Reading, doubt
from svid.clock import Clock

__all__ = ["GuardClock"]

log = structlog.get_logger(__name__)

_NOTE_EVERY = timedelta(minutes=1)


class GuardClock:
    """The one who knows whether the wall clock is trusted, since this issuer started."""

    def __init__(self, *, datastore: Datastore, clock: Clock) -> None:
        self._datastore = datastore
        self._clock = clock
        self._before: Reading | None = None
        self.doubt = ""
        """Why the clock was not trusted when it was looked at last; empty: it was."""

    async def is_trusted(self) -> bool:
        """Look at the clock now.

        Raises:
            Refused: UNAVAILABLE, as the store.
        """
        # 1. Compare with what we knew; before that, with what the store knows.
        now = self._read()
        high_water = await self._datastore.read(lambda tx: tx.times.high_water())
        found = doubt(self._before or now, now, high_water if self._before is None else None)
        # 2. Tell when that is news.
        if bool(found) is not bool(self.doubt):
            await self._tell(found, now.wall)
        self.doubt = found
        if found:
            return False
        # 3. Remember what was trusted.
        self._before = now
        if high_water is None or now.wall - high_water >= _NOTE_EVERY:
            await self._datastore.write(lambda tx: tx.times.note(now.wall))
        return True

    async def confirm(self, *, actor: str) -> datetime:
        """Trust the clock as it is now, because an operator says so; that goes on record."""
        now = self._read()
        event = AuditEvent(at=now.wall, actor=actor, action="clock confirmed", reason=self.doubt)

        def work(tx: Transaction) -> None:
            tx.times.note(now.wall)
            tx.audit.append([event])

        await self._datastore.write(work)
        self._before, self.doubt = now, ""
        return now.wall

    def _read(self) -> Reading:
        return Reading(wall=self._clock.now(), monotonic=self._clock.monotonic())

    async def _tell(self, found: str, at: datetime) -> None:
        if found:
            hint = "set it right, or say that it is: cognomen issuer confirm-clock"
            log.error("wall clock not trusted, timed steps rest", reason=found, hint=hint)
        else:
            log.info("wall clock trusted again")
        event = AuditEvent(
            at=at,
            actor="issuer",
            action="clock looked at",
            decision=Decision.REFUSED if found else Decision.ALLOWED,
            reason=found,
        )
        await self._datastore.write(lambda tx: tx.audit.append([event]))
