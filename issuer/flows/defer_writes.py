"""Gather small writes that nobody waits for, and commit them together: ledger outcomes, acknowledged change numbers.

A crash loses what was gathered; so only what is safe to lose comes here (`intended` counts as issued, an acknowledgement is repeated).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from cognomen.daemon.errors import Refused
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from issuer.datastore.port import Datastore, Transaction
from issuer.metrics import Metrics
from svid.clock import Clock

__all__ = ["DeferWrites"]

log = structlog.get_logger(__name__)

_GATHER_SECONDS = 0.05
_MAX_WAITING = 10_000
_WRITES = "deferred writes"

Work = Callable[[Transaction], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferWrites:
    """A bounded number of small works that wait for one commit; each may be done twice."""

    datastore: Datastore
    clock: Clock
    troubles: Troubles
    metrics: Metrics
    pulse: Pulse = field(default_factory=Pulse)
    _waiting: list[Work] = field(default_factory=list)
    _awake: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, work: Work) -> None:
        """Have this done soon; dropped with a word in the log when too much waits already."""
        if len(self._waiting) >= _MAX_WAITING:
            log.warning("deferred write dropped", waiting=len(self._waiting))
            self.metrics.deferred_writes_lost.inc()
            return
        self._waiting.append(work)
        self._awake.set()
        self.pulse.wake()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    async def run(self) -> None:
        """Commit what comes, until cancelled."""
        while True:
            self.pulse.rest()
            await self._awake.wait()
            self.pulse.work()
            await self.clock.sleep(_GATHER_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Commit what waits now."""
        works = tuple(self._waiting)
        self._waiting.clear()
        self._awake.clear()

        def work(tx: Transaction) -> None:
            for each in works:
                each(tx)

        if not works:
            return
        try:
            await self.datastore.write(work, expendable=True)
        except asyncio.CancelledError:
            self._waiting[:0] = works  # for the next run, or the last flush; a work done twice does no harm
            self._awake.set()
            raise
        except Refused as refused:
            log.warning("deferred writes lost", count=len(works), reason=refused.detail, hint=refused.hint)
            self.metrics.deferred_writes_lost.inc(len(works))
            self.troubles.note(_WRITES, refused.detail)
        else:
            self.troubles.over(_WRITES)
