"""Record refusals at the network doors, within limits: the first of its kind at once, others like it as a count in the next row.

issuer/decisions/sampling decides what a refusal is counted with and in which words. issuer/refusing records what operators are refused.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.printable import printable
from issuer.datastore.port import Datastore
from issuer.decisions import audit
from issuer.decisions.audit import AuditEvent
from issuer.decisions.sampling import Alarm, NotProved, Principal, Sighting, sighting, told, too_many
from issuer.surroundings import Surroundings

__all__ = ["RefusalRecord"]

log = structlog.get_logger(__name__)

_WINDOW_SECONDS = 60.0
_AGAIN_SECONDS = 1.0  # after the store did not take the row
_MOST_ACTORS = 1024  # in one class, without alarms
_MOST_OWED = 256  # alarms that the store did not take
_MOST_REASONS = 16  # for one actor; some reasons quote a number that the caller chose


@dataclass(slots=True)
class _Seen:
    due_at: float = -math.inf
    unrecorded: int = 0


class RefusalRecord:
    """Records refusals of callers who may come back any number of times."""

    def __init__(self, *, datastore: Datastore, around: Surroundings) -> None:
        self.datastore = datastore
        self.clock = around.clock
        self.metrics = around.metrics
        self._rooms: dict[tuple[str, str], dict[Sighting, _Seen]] = {}
        self._owed: list[AuditEvent] = []

    async def record(self, refused: Refused, *, principal: Principal, actor: str, action: str) -> None:
        """Record the refusal of a call, or only count it if one like it was recorded within the last minute.

        UNAVAILABLE is not recorded: it is not a decision, but a state of ours; only a node attestor that fails is. If the store does not
        take the row, nothing changes for the caller, who is refused anyway.
        """
        refused.is_on_record = True
        self.metrics.admission_refusals.labels(action, refused.kind).inc()
        if isinstance(refused, Alarm):
            self.metrics.alarms.labels(action).inc()
        await self._record([refused], principal=principal, actor=actor, action=action)

    async def record_items(self, refusals: Sequence[Refused], *, actor: str, action: str) -> None:
        """Record the refusals in a node's batch in the same way.

        The fact `items` says how many refusals were alike; the fact `entry`, the first entry among them, becomes the subject.
        """
        await self._record(refusals, principal=Principal.NODE, actor=actor, action=action)

    async def _record(self, refusals: Sequence[Refused], *, principal: Principal, actor: str, action: str) -> None:
        rows: dict[Sighting, AuditEvent] = {}
        for refused in refusals:
            if refused.kind is Kind.UNAVAILABLE and not isinstance(refused, NotProved):
                continue
            seen = self._find_room(sighting(refused, principal=principal, actor=actor, action=action))
            if seen in rows:  # refusals of one batch that found no room of their own
                rows[seen] = _with_items(rows[seen], refused)
            elif self._is_due(seen, refused):
                rows[seen] = self._event(seen, refused)
        if not rows:
            return
        alarms = [event for seen, event in rows.items() if seen.is_alarm]
        if alarms:  # owed until the store has them, with all earlier ones that it did not take
            self._owed.extend(alarms)
            await self.write_owed()
        try:
            expendable = [event for seen, event in rows.items() if not seen.is_alarm]
            if expendable:
                await self.datastore.write(lambda tx: tx.audit.append(expendable), expendable=True)
        except Refused as lost:
            log.warning("refusals not recorded", reason=lost.detail, hint=lost.hint, rows=len(expendable))
            for seen in [
                seen for seen in rows if not seen.is_alarm
            ]:  # the next one like it tries again, a little later
                again = self._rooms.setdefault(seen.room, {}).setdefault(seen, _Seen())
                again.due_at = self.clock.monotonic() + _AGAIN_SECONDS
                again.unrecorded += 1

    async def write_owed(self) -> None:
        """Record the alarms that the store has not taken yet; called with each alarm, every minute, and at the end."""
        owed = tuple(self._owed)
        if not owed:
            return
        self._owed.clear()  # also for those that come while this waits
        try:
            await self.datastore.write(lambda tx: tx.audit.append(owed))
        except (Refused, asyncio.CancelledError) as lost:
            self._owed[:0] = owed
            dropped = self._owed[_MOST_OWED:]
            del self._owed[_MOST_OWED:]
            if isinstance(lost, asyncio.CancelledError):
                raise
            log.warning(
                "alarms not recorded yet", reason=lost.detail, hint=lost.hint, rows=len(self._owed), lost=len(dropped)
            )

    def _is_due(self, seen: Sighting, refused: Refused) -> bool:
        """Whether it is time for a row; if not, the refusal is counted."""
        known = self._rooms.setdefault(seen.room, {}).setdefault(seen, _Seen())
        if self.clock.monotonic() >= known.due_at:
            return True
        known.unrecorded += _items(refused)
        return False

    def _event(self, seen: Sighting, refused: Refused) -> AuditEvent:
        """The event for a refusal, with the number of those that were only counted before it."""
        known = self._rooms[seen.room][seen]
        refused = told(refused, seen)
        entry = str(refused.facts.pop("entry", ""))
        event = audit.refused(refused, at=self.clock.now(), actor=seen.actor, action=seen.action, subject=entry)
        if known.unrecorded:
            event = replace(event, facts={**event.facts, "unrecorded before": str(known.unrecorded)})
        known.due_at, known.unrecorded = self.clock.monotonic() + _WINDOW_SECONDS, 0
        write = log.error if seen.is_alarm else log.warning
        write(
            "alarm" if seen.is_alarm else "refused",
            actor=event.actor,
            action=event.action,
            reason=printable(refused.detail),
            hint=refused.hint,
        )
        return event

    def _find_room(self, seen: Sighting) -> Sighting:
        """Where to count a refusal: with others like it, or with everything that found no room."""
        if seen.room not in self._rooms:
            actors = sum(kind == seen.room[0] for kind, _ in self._rooms)
            if actors >= _MOST_ACTORS:
                actors -= self._forget(seen.room[0])
            if actors >= _MOST_ACTORS and not seen.is_alarm:
                return too_many(seen, actors=True)
        room = self._rooms.get(seen.room, {})
        if seen in room or len(room) < _MOST_REASONS:
            return seen
        self._forget_reasons(room)
        return seen if len(room) < _MOST_REASONS else too_many(seen, actors=False)

    def _forget(self, kind: str) -> int:
        """Drop the rooms of this class in which nothing was recorded within the minute; returns how many."""
        over = []
        for name, room in self._rooms.items():
            if name[0] == kind:
                self._forget_reasons(room)
                if not room:
                    over.append(name)
        for name in over:
            del self._rooms[name]
        return len(over)

    def _forget_reasons(self, room: dict[Sighting, _Seen]) -> None:
        now = self.clock.monotonic()
        for seen in [seen for seen, known in room.items() if now >= known.due_at]:
            del room[seen]


def _items(refused: Refused) -> int:
    return int(refused.facts.get("items", 1))


def _with_items(event: AuditEvent, refused: Refused) -> AuditEvent:
    items = int(event.facts.get("items", "1")) + _items(refused)
    return replace(event, facts={**event.facts, "items": str(items)})
