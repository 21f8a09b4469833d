"""Forget what nobody needs any more: change log rows that no follower goes on from, join tokens that are over, denials that are of no use.

The same round records what is owed to the audit (issuer/flows/audit_refusals).

Whoever stands before the first row that is kept gets a snapshot (decisions/changes.has_gap). Ledger and audit are never pruned.
"""

from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from cognomen.daemon.errors import Refused
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from issuer.datastore.port import Datastore, Transaction
from issuer.flows.audit_refusals import AuditRefusals
from issuer.flows.guard_clock import GuardClock
from svid.clock import Clock
from svid.denials import KEPT_FOR

__all__ = ["Prune"]

log = structlog.get_logger(__name__)

_KEPT_CHANGES = 10_000
_TOKENS_KEPT = timedelta(days=1)  # so that a late joiner is told that its invite is over, not that it is unknown
_SECONDS = 60.0
_PRUNING = "pruning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prune:
    """Prunes, once in a while."""

    datastore: Datastore
    clock: Clock
    guard: GuardClock
    troubles: Troubles
    refusals: AuditRefusals
    pulse: Pulse = field(default_factory=Pulse)

    async def __call__(self) -> None:
        """Prune now; what goes by time only if the clock is trusted.

        Raises:
            Refused: UNAVAILABLE, as the store.
        """
        trusted = await self.guard.is_trusted()
        now = self.clock.now()

        def work(tx: Transaction) -> None:
            tx.changes.prune(before=tx.changes.head().number - _KEPT_CHANGES)
            if trusted:
                tx.tokens.prune(expired_before=now - _TOKENS_KEPT)
                tx.denials.prune(ended_before=now - KEPT_FOR, now=now)

        await self.datastore.write(work)

    async def run(self) -> None:
        """Prune every minute, until cancelled."""
        while True:
            self.pulse.rest()
            await self.clock.sleep(_SECONDS)
            self.pulse.work()
            await self.refusals.write_owed()
            try:
                await self()
            except Refused as refused:
                log.warning("not pruned", reason=refused.detail, hint=refused.hint)
                self.troubles.note(_PRUNING, refused.detail)
            else:
                self.troubles.over(_PRUNING)
