"""Record what breakers of limits on issuance do, and suspend the agents whose rulebook asks for it.

issuer/keepers/issuance_limits opens and closes the breakers.
"""

from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.tables import LimitsMode, OnBurst
from issuer.datastore.port import Datastore
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.breaker import BreakerState
from issuer.decisions.budget import Allowance, charge
from issuer.decisions.limits import BreakerStep
from issuer.decisions.operator import Operator
from issuer.keepers.issuance_limits import IssuanceLimits
from issuer.surroundings import Surroundings
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["Suspend", "WatchBreakers"]

log = structlog.get_logger(__name__)

_ACTOR = "issuer"
_REST = timedelta(minutes=1)
_AGAIN = timedelta(seconds=1)
_ROWS = Allowance(burst=100, per_second=1)  # thousands of components may burst at once
_MOST_OWED = 1000
_ACTIONS = {
    BreakerState.OPEN: Action.BREAKER_TRIPPED,
    BreakerState.HALF_OPEN: Action.BREAKER_HALF_OPENED,
    BreakerState.CLOSED: Action.BREAKER_CLOSED,
}


class Suspend(Protocol):
    """Suspends an agent, as HoldAgents.suspend does."""

    def __call__(self, name: str, /, *, actor: str) -> Awaitable[object]:
        """Suspend it."""


class WatchBreakers:
    """Records what breakers do."""

    def __init__(
        self,
        *,
        datastore: Datastore,
        around: Surroundings,
        limits: IssuanceLimits,
        suspend: Suspend,
        trust_domain: TrustDomain,
    ) -> None:
        self.datastore = datastore
        self.around = around
        self.limits = limits
        self.suspend = suspend
        self.trust_domain = trust_domain
        self.pulse = Pulse()
        self._rows_full_at = 0.0
        self._unrecorded = 0
        self._owed: list[AuditEvent] = []
        self._suspensions: dict[str, str] = {}

    async def __call__(self) -> None:
        """Record what breakers did since the last call, and suspend agents.

        Raises:
            Refused: UNAVAILABLE, from the store: the next call does what this one could not.
        """
        # 1. Take it in; a restart of this task loses nothing from here on.
        self._take(self.limits.take_steps())
        # 2. Suspend agents first: it ends something.
        for agent, why in list(self._suspensions.items()):
            await self._suspend(agent, why)
            del self._suspensions[agent]
        # 3. Record it.
        if owed := tuple(self._owed):
            await self.datastore.write(lambda tx: tx.audit.append(owed), expendable=True)
            del self._owed[: len(owed)]

    async def run(self) -> None:
        """Record what breakers do, until cancelled; retry what fails."""
        attempts = Attempts(
            log,
            self.around.clock,
            pulse=self.pulse,
            troubles=self.around.troubles,
            trouble="record of breakers",
            over="breakers recorded again",
            failure=Failure(event="breakers not recorded", again=_AGAIN),
        )
        while True:
            self.limits.stepped.clear()
            with attempts.trying():
                await self()
            due = self.limits.next_step_in()
            await attempts.rest(self.limits.stepped.wait, after=_REST if due is None else min(due, _REST))

    def _take(self, steps: Sequence[BreakerStep]) -> None:
        for step in steps:
            action, scope = _ACTIONS[step.breaker.state], step.scope
            self.around.metrics.breaker_steps.labels(action, scope.mode).inc()
            write = log.warning if action is Action.BREAKER_TRIPPED else log.info
            write(action.value, scope=scope.name, limit=step.limit.value, mode=scope.mode.value)
            if (
                action is Action.BREAKER_TRIPPED
                and scope.mode is LimitsMode.ENFORCE
                and scope.on_burst is OnBurst.SUSPEND
            ):
                self._suspensions[scope.agent] = f"{scope.name} exceeded {step.limit} = {scope.most[step.limit]}"
            now = self.around.clock.monotonic()
            full_at = charge(self._rows_full_at, 1, _ROWS, now=now)
            if full_at is None or len(self._owed) >= _MOST_OWED:
                self._unrecorded += 1
                continue
            self._rows_full_at = full_at
            self._owed.append(self._event(step, action))

    def _event(self, step: BreakerStep, action: Action) -> AuditEvent:
        scope = step.scope
        facts = {"limit": step.limit.value, "most": str(scope.most[step.limit]), "mode": scope.mode.value}
        if self._unrecorded:
            facts["unrecorded before"] = str(self._unrecorded)
            self._unrecorded = 0
        subject = str(SpiffeID(trust_domain=self.trust_domain, path=scope.path))
        return AuditEvent(at=step.at, actor=_ACTOR, action=action, subject=subject, facts=facts)

    async def _suspend(self, agent: str, why: str) -> None:
        try:
            await self.suspend(agent, actor=Operator(_ACTOR, comment=why))
        except Refused as refused:
            if refused.kind is not Kind.NOT_FOUND:
                raise
            log.info("agent not suspended", agent=agent, reason=refused.detail)  # it is gone by now
        else:
            log.warning("agent suspended", agent=agent, reason=why)
