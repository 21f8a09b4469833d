"""Record refusals at the network doors, within limits: the first of its kind at once, others like it as a count in the next row.

issuer/decisions/sampling decides what a refusal is counted with and in which words. issuer/refusing records what operators are refused.
"""

import asyncio
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.printable import printable
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import audit
from issuer.decisions.audit import AuditEvent
from issuer.decisions.rulebooks import is_of_rulebook
from issuer.decisions.sampling import ABOUT, Alarm, NotProved, Principal, Sighting, sighting, told, too_many
from issuer.surroundings import Surroundings

__all__ = ["Known", "RefusalRecord", "RefusedItems"]

log = structlog.get_logger(__name__)

_WINDOW_SECONDS = 60.0
_AGAIN_SECONDS = 1.0  # after the store did not take the row
_MOST_ACTORS = 1024  # in one class, without alarms
_MOST_OWED = 256  # alarms that the store did not take
_MOST_REASONS = 16  # for one actor; some reasons quote a number that the caller chose


Known = Callable[[Transaction, Collection[EntryID]], tuple[Mapping[EntryID, RegistrationEntry], int]]
"""Finds those of these entries that are a node's, and the revision of the rulebook in force."""


def _nothing_known(tx: Transaction, ids: Collection[EntryID]) -> tuple[Mapping[EntryID, RegistrationEntry], int]:
    del tx, ids
    return {}, 0


@dataclass(slots=True)
class _Seen:
    due_at: float = -math.inf
    unrecorded: int = 0


@dataclass(slots=True)
class RefusedItems:
    """Refusals in a node's batch that are alike, and of one agent.

    Args:
        entry_id: what the first of them named.
        entry: that entry, if it is the node's; None: it is not, or nothing was read yet.
        rulebook: the revision in force.
        about: what only those share that are told together: the agent, or the entry's id if nothing was read.
        count: how many they are.
    """

    kind: Kind
    detail: str
    entry_id: EntryID
    entry: RegistrationEntry | None
    rulebook: int
    about: str = ""
    count: int = 0

    def refusal(self) -> Refused:
        """All of them as one."""
        refused = Refused(self.kind, self.detail, items=self.count, entry=self.entry_id)
        if self.about:
            refused.facts[ABOUT] = self.about
        if self.entry is not None:
            refused.facts.update(_facts_of(self.entry, self.rulebook))
        return refused


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

    async def record_items(
        self, refusals: Sequence[RefusedItems], *, actor: str, action: str, known: Known = _nothing_known
    ) -> None:
        """Record the refusals in a node's batch in the same way.

        The subject is the SPIFFE ID of the first entry among those that were alike, or, if it is not the node's, what the node called it.
        The fact `items` says how many they were.

        Args:
            known: finds the entries of which only the id is known, once a row of them is written.
        """
        told = [one.refusal() for one in refusals]
        await self._record(told, principal=Principal.NODE, actor=actor, action=action, known=known)

    async def _record(
        self,
        refusals: Sequence[Refused],
        *,
        principal: Principal,
        actor: str,
        action: str,
        known: Known = _nothing_known,
    ) -> None:
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
                await self.datastore.write(
                    lambda tx: tx.audit.append(_with_entries(tx, expendable, known)), expendable=True
                )
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
        facts = refused.facts
        facts.pop(ABOUT, None)
        # an entry that is not known is the subject; beside the SPIFFE ID of one that is, its id is a fact
        entry = "" if audit.SPIFFE_ID in facts else str(facts.pop("entry", ""))
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


def _facts_of(entry: RegistrationEntry, rulebook: int) -> dict[str, str | int]:
    """What the row says of an entry."""
    facts: dict[str, str | int] = {audit.SPIFFE_ID: str(entry.spiffe_id), audit.ENTRY_REVISION: entry.revision}
    if rulebook and is_of_rulebook(entry.spiffe_id):
        facts["rulebook"] = rulebook
    return facts


def _with_entries(tx: Transaction, events: Sequence[AuditEvent], known: Known) -> Sequence[AuditEvent]:
    """The events; those of which only the entry's id was known, with the entry."""
    ids = {EntryID(one.subject) for one in events if one.subject and "entry" not in one.facts}
    entries, rulebook = known(tx, ids) if ids else ({}, 0)
    return [
        one if (entry := entries.get(EntryID(one.subject))) is None else _about(one, entry, rulebook) for one in events
    ]


def _about(event: AuditEvent, entry: RegistrationEntry, rulebook: int) -> AuditEvent:
    facts = {**event.facts, "entry": entry.id}
    if "rulebook" in (more := _facts_of(entry, rulebook)):
        facts["rulebook"] = str(more["rulebook"])
    return replace(event, subject=str(entry.spiffe_id), entry_revision=entry.revision, facts=facts)


def _items(refused: Refused) -> int:
    return int(refused.facts.get("items", 1))


def _with_items(event: AuditEvent, refused: Refused) -> AuditEvent:
    items = int(event.facts.get("items", "1")) + _items(refused)
    return replace(event, facts={**event.facts, "items": str(items)})
