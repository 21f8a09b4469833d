"""Put refusals at the network doors on record, bounded: the first of its kind at once, those like it as a count in the next row.

A refused batch of an operator, or of an item in a mint, is recorded by its own flow.
"""

from dataclasses import dataclass, field, replace

import structlog

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Datastore
from issuer.decisions import audit
from issuer.metrics import Metrics
from svid.clock import Clock

__all__ = ["AuditRefusals"]

log = structlog.get_logger(__name__)

_WINDOW_SECONDS = 60.0
_MAX_KINDS = 128  # how many (actor, action, reason) are told apart; beyond that all are one


@dataclass(slots=True)
class _Seen:
    recorded_at: float
    unrecorded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRefusals:
    """Records refusals of callers who may come back as often as they like."""

    datastore: Datastore
    clock: Clock
    metrics: Metrics
    _seen: dict[tuple[str, str, str], _Seen] = field(default_factory=dict)

    async def record(self, refused: Refused, *, actor: str, action: str, subject: str = "") -> None:
        """Record a refusal, or only count it when one like it was recorded within the minute.

        What is no decision but a state of ours (UNAVAILABLE) is not recorded.
        """
        self.metrics.admission_refusals.labels(action, refused.kind).inc()
        if refused.kind is Kind.UNAVAILABLE:
            return
        now = self.clock.monotonic()
        key = (actor, action, refused.detail)
        if key not in self._seen and len(self._seen) >= _MAX_KINDS:
            self._forget(now)
        if key not in self._seen and len(self._seen) >= _MAX_KINDS:
            key = ("many", "many refused", "too many kinds of refusal to tell them apart")
        seen = self._seen.get(key)
        if seen is not None and now < seen.recorded_at + _WINDOW_SECONDS:
            seen.unrecorded += 1
            return
        self._seen[key] = _Seen(now)
        event = replace(
            audit.refused(refused, at=self.clock.now(), actor=key[0], action=key[1], subject=subject), reason=key[2]
        )
        if seen is not None and seen.unrecorded:
            event = replace(event, facts={**event.facts, "unrecorded before": str(seen.unrecorded)})
        log.warning("refused", actor=event.actor, action=event.action, reason=event.reason, hint=refused.hint)
        await self.datastore.write(lambda tx: tx.audit.append([event]))

    def _forget(self, now: float) -> None:
        for key in [key for key, seen in self._seen.items() if now >= seen.recorded_at + _WINDOW_SECONDS]:
            del self._seen[key]
