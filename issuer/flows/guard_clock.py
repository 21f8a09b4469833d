"""Watch the wall clock, and say whether what destroys by time may go on.

What counts as a jump, and when a doubt ends without an operator, is decided in issuer/decisions/timekeeping.
"""

from datetime import datetime, timedelta

import structlog

from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.audit import AuditEvent, Decision
from issuer.decisions.timekeeping import Doubt, Reading, doubted, ends_at
from svid.clock import Clock

__all__ = ["GuardClock"]

log = structlog.get_logger(__name__)

_NOTE_EVERY = timedelta(minutes=1)


class GuardClock:
    """The one who knows whether the wall clock is trusted, since this issuer started."""

    def __init__(self, *, datastore: Datastore, clock: Clock) -> None:
        self._datastore = datastore
        self._clock = clock
        self._trusted: Reading | None = None
        self._doubt: Doubt | None = None

    @property
    def doubt(self) -> str:
        """Why the clock was not trusted when it was looked at last, what waits for that, and until when; empty: it was trusted."""
        if self._doubt is None:
            return ""
        end = ends_at(self._doubt, self._read()).isoformat(timespec="seconds")
        return f"{self._doubt.reason}; nothing is retired or pruned until {end}, or until cognomen issuer confirm-clock"

    async def is_trusted(self) -> bool:
        """Look at the clock now.

        Raises:
            Refused: UNAVAILABLE, as the store.
        """
        # 1. Compare with what we knew; before that, with what the store knows.
        now = self._read()
        high_water = await self._datastore.read(lambda tx: tx.times.high_water())
        found = doubted(now, trusted=self._trusted, high_water=high_water, before=self._doubt)
        # 2. Tell when that is news.
        if (found is None) is not (self._doubt is None):
            await self._tell(found, now)
        self._doubt = found
        if found is not None:
            return False
        # 3. Remember what was trusted.
        self._trusted = now
        if high_water is None or abs(now.wall - high_water) >= _NOTE_EVERY:
            await self._datastore.write(lambda tx: tx.times.note(now.wall))
        return True

    async def confirm(self, *, actor: str) -> datetime:
        """Trust the clock as it is now, because an operator says so; that goes on record."""
        now = self._read()
        reason = "" if self._doubt is None else self._doubt.reason
        event = AuditEvent(at=now.wall, actor=actor, action="clock confirmed", reason=reason)

        def work(tx: Transaction) -> None:
            tx.times.note(now.wall)
            tx.audit.append([event])

        await self._datastore.write(work)
        self._trusted, self._doubt = now, None
        return now.wall

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
                hint="set it right, or say that it is: cognomen issuer confirm-clock",
            )
        event = AuditEvent(
            at=now.wall,
            actor="issuer",
            action="clock looked at",
            decision=Decision.ALLOWED if found is None else Decision.REFUSED,
            reason="" if found is None else found.reason,
        )
        await self._datastore.write(lambda tx: tx.audit.append([event]))
