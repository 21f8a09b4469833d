"""Forget what nobody needs any more: old rows of the change log, expired join tokens, denials that are of no use, old uses of identities.

The same round writes the rows that are owed to the audit record (issuer/keepers/refusal_record).

A follower whose cursor is before the first row that is kept gets a snapshot (decisions/changes.has_gap). Ledger and audit record are
never pruned.
"""

from datetime import timedelta

import structlog

from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from issuer.datastore.port import Datastore, Transaction
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.refusal_record import RefusalRecord
from issuer.surroundings import Surroundings
from svid.denials import KEPT_FOR

__all__ = ["Prune"]

log = structlog.get_logger(__name__)

_KEPT_CHANGES = 10_000
_TOKENS_KEPT = timedelta(days=1)  # so that a late joiner learns that its invite has expired, not that it is unknown
_EVERY = timedelta(minutes=1)


class Prune:
    """Prunes regularly."""

    def __init__(
        self,
        *,
        datastore: Datastore,
        around: Surroundings,
        guard: ClockGuard,
        refusals: RefusalRecord,
        uses_kept: timedelta,
    ) -> None:
        self.datastore = datastore
        self.clock = around.clock
        self.guard = guard
        self.troubles = around.troubles
        self.refusals = refusals
        self.uses_kept = uses_kept
        self.pulse = Pulse()

    async def __call__(self) -> None:
        """Prune now; prune by time only if the clock is trusted.

        Raises:
            Refused: UNAVAILABLE, from the store.
        """
        trusted = await self.guard.is_trusted()
        now = self.clock.now()

        def work(tx: Transaction) -> None:
            tx.changes.prune(before=tx.changes.head().number - _KEPT_CHANGES)
            if trusted:
                tx.tokens.prune(expired_before=now - _TOKENS_KEPT)
                tx.denials.prune(ended_before=now - KEPT_FOR, now=now)
                tx.uses.prune(last_before=now - self.uses_kept)
                tx.observations.prune(last_before=now - self.uses_kept)

        await self.datastore.write(work)

    async def run(self) -> None:
        """Prune every minute, until cancelled."""
        attempts = Attempts(
            log,
            self.clock,
            pulse=self.pulse,
            troubles=self.troubles,
            trouble="pruning",
            over="pruned again",
            failure=Failure(event="not pruned", again=_EVERY),
        )
        while True:
            await attempts.rest(after=_EVERY)
            with attempts.trying():
                await self.refusals.write_owed()
                await self()
