"""Gather small writes that nobody waits for, and commit them together: ledger outcomes, acknowledged change numbers.

A crash loses them. So only what is safe to lose belongs here: `intended` counts as issued, and an acknowledgement is repeated.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from cognomen.daemon.pulse import Pulse
from cognomen.daemon.retrylines import RetryLines
from cognomen.daemon.waiting import first_of
from cognomen.protocol.errors import Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.surroundings import Surroundings

__all__ = ["DeferredWrites"]

log = structlog.get_logger(__name__)

_GATHER_SECONDS = 0.05
_AGAIN_SECONDS = 5.0
_MAX_WAITING = 10_000
_WRITES = "deferred writes"

Work = Callable[[Transaction], None]


class DeferredWrites:
    """A bounded number of small works that wait for a shared commit; each may be done twice."""

    def __init__(self, *, datastore: Datastore, around: Surroundings) -> None:
        self.datastore = datastore
        self.clock = around.clock
        self.troubles = around.troubles
        self.metrics = around.metrics
        self.pulse = Pulse()
        self._waiting: list[Work] = []
        self._awake = asyncio.Event()
        self._lines = RetryLines("deferred writes committed again")

    def put(self, work: Work) -> None:
        """Do this work soon; if too many wait already, drop it and log that."""
        if len(self._waiting) >= _MAX_WAITING:
            log.warning("deferred write dropped", waiting=len(self._waiting))
            self.metrics.deferred_writes_lost.inc()
            return
        self._waiting.append(work)
        self._awake.set()
        self.pulse.wake()

    @property
    def waiting(self) -> int:
        """How many works wait now."""
        return len(self._waiting)

    async def run(self) -> None:
        """Commit works as they come, until cancelled."""
        while True:
            self.pulse.rest()
            await self._awake.wait()
            self.pulse.work()
            await self.clock.sleep(_GATHER_SECONDS)
            if not await self.flush():
                await self._recover()

    async def _recover(self) -> None:
        """Return once there is more to commit, or a commit is possible again: then the trouble is over, even if nobody writes again."""
        while not self._awake.is_set():
            self.pulse.rest()
            await first_of(self._awake.wait(), self.clock.sleep(_AGAIN_SECONDS))
            self.pulse.work()
            with suppress(Refused):
                await self.datastore.write(_nothing, expendable=True)
                self._recovered()
                return

    async def flush(self) -> bool:
        """Commit what waits now; False: it was lost."""
        works = tuple(self._waiting)
        self._waiting.clear()
        self._awake.clear()

        def work(tx: Transaction) -> None:
            for each in works:
                each(tx)

        if not works:
            return True
        try:
            await self.datastore.write(work, expendable=True)
        except asyncio.CancelledError:
            self._waiting[:0] = works  # for the next run or the last flush; doing a work twice does no harm
            self._awake.set()
            raise
        except Refused as refused:
            self._lines.failed(
                log.warning,
                "deferred writes lost",
                self.clock.monotonic(),
                reason=refused.detail,
                count=len(works),
                hint=refused.hint,
            )
            self.metrics.deferred_writes_lost.inc(len(works))
            self.troubles.note(_WRITES, refused.detail)
            return False
        self._recovered()
        return True

    def _recovered(self) -> None:
        self.troubles.over(_WRITES)
        self._lines.over(log.info)


def _nothing(tx: Transaction) -> None:
    """A write that changes nothing, to find out whether writing works."""
