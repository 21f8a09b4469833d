"""End what was signed before a change of entries that took something away, once it has been replaced.

issuer/decisions/supersession decides what a change takes away. The transaction of the change notes it, so that a crash loses nothing;
what nothing will replace ends in that transaction.
"""

import contextlib
from datetime import timedelta
from functools import partial

import structlog

from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.protocol.errors import Refused
from issuer.datastore.port import Datastore
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.surroundings import Surroundings
from issuer.works.supersessions import due_in, end_due_in

__all__ = ["EndSuperseded"]

log = structlog.get_logger(__name__)

_LOOK = timedelta(seconds=1)  # while something waits to be replaced
_REST = timedelta(minutes=1)


class EndSuperseded:
    """Ends superseded credentials when they are due."""

    def __init__(self, *, datastore: Datastore, around: Surroundings, watch: EnforcementWatch) -> None:
        self.datastore = datastore
        self.clock = around.clock
        self.watch = watch
        self.troubles = around.troubles
        self.pulse = Pulse()

    async def __call__(self) -> int:
        """End what is due; returns how many supersessions still wait.

        Raises:
            Refused: UNAVAILABLE, from the store.
        """
        now = self.clock.now()
        waiting, due = await self.datastore.read(lambda tx: (tx.supersessions.count(), due_in(tx, now)))
        if not due:
            return waiting
        ended, waiting = await self.datastore.write(lambda tx: (end_due_in(tx, now), tx.supersessions.count()))
        for revocation in ended:
            self.watch.committed(revocation)
        log.info("superseded credentials ended", credentials=sum(one.denied for one in ended), waiting=waiting)
        return waiting

    async def run(self) -> None:
        """End each when it is due, until cancelled; retry what fails."""
        attempts = Attempts(
            log,
            self.clock,
            pulse=self.pulse,
            troubles=self.troubles,
            trouble="ending of what was superseded",
            over="superseded credentials ended again",
            failure=Failure(event="superseded credentials not ended", again=_LOOK),
        )
        head, waiting = 0, 0
        while True:
            with attempts.trying():
                head = (await self.datastore.read(lambda tx: tx.changes.head())).number
                waiting = await self()
            await attempts.rest(after=_LOOK)
            if not (waiting or attempts.is_failing):
                with contextlib.suppress(Refused):  # the next look reports it
                    await attempts.rest(partial(self.datastore.wait_for_change, head), after=_REST)
