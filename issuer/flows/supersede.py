"""End what was signed before a change of entries that took something away: replaced first, and ended then.

What a change takes away is decided in issuer/decisions/supersession. It is noted in the transaction of the change, so that a crash loses
none of it; what nothing will replace ends there.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

import structlog

from cognomen.daemon.errors import Refused
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.waiting import first_of
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.audit import NodeID
from issuer.decisions.entitlement import parent_ends, parents_of
from issuer.decisions.registration import is_group
from issuer.decisions.revocation import Blocks, Live, Reason, Revocation, RevocationKind, Target
from issuer.decisions.supersession import PUSHED_WITHIN, Supersession, Takes, loses_identity, may_lose
from issuer.flows.revoke import end_in
from issuer.flows.watch_enforcement import WatchEnforcement
from issuer.queries import groups_in
from svid.clock import Clock
from svid.entry import EntryID, RegistrationEntry
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["EndSuperseded", "EntriesChanged", "Pair", "Taken", "supersede_in"]

log = structlog.get_logger(__name__)

_ENDING = "ending of what was superseded"
_LOOK_SECONDS = 1.0  # while something waits to be replaced
_REST_SECONDS = 60.0


Pair: TypeAlias = tuple[RegistrationEntry, RegistrationEntry | None]
"""An entry before and after a change; None: it is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesChanged:
    """What an operator changed; the transaction has written it already."""

    pairs: Sequence[Pair]
    trust_domain: TrustDomain
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How many credentials a change ends.

    Args:
        later: once they are replaced.
        revocations: of what ended at once, as stored.
    """

    at_once: int = 0
    later: int = 0
    revocations: tuple[Revocation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSuperseded:
    """Ends what was superseded when it is due."""

    datastore: Datastore
    clock: Clock
    watch: WatchEnforcement
    troubles: Troubles
    pulse: Pulse = field(default_factory=Pulse)

    async def __call__(self) -> int:
        """End what is due; how many supersessions still wait.

        Raises:
            Refused: UNAVAILABLE, as the store.
        """
        now = self.clock.now()
        waiting, due = await self.datastore.read(lambda tx: (tx.supersessions.count(), _due(tx, now)))
        if not due:
            return waiting
        ended, waiting = await self.datastore.write(lambda tx: (_end_due(tx, now), tx.supersessions.count()))
        for revocation in ended:
            self.watch.committed(revocation)
        log.info("superseded credentials ended", credentials=sum(one.denied for one in ended), waiting=waiting)
        return waiting

    async def run(self) -> None:
        """End each when it is due, for ever; what fails is tried again."""
        while True:
            self.pulse.work()
            try:
                head = (await self.datastore.read(lambda tx: tx.changes.head())).number
                waiting = await self()
            except Refused as refused:
                log.warning("superseded credentials not ended", reason=refused.detail, hint=refused.hint)
                self.troubles.note(_ENDING, refused.detail)
                waiting = 1
            else:
                self.troubles.over(_ENDING)
            self.pulse.rest()
            await self.clock.sleep(_LOOK_SECONDS)
            if not waiting:
                with contextlib.suppress(Refused):  # the next look tells
                    await first_of(self.datastore.wait_for_change(head), self.clock.sleep(_REST_SECONDS))


def supersede_in(tx: Transaction, changed: EntriesChanged) -> Taken:
    """Note what a change took away, and end what nothing will replace."""
    # 1. Whose credentials it may concern: the changed entries', and those of what lies below changed groups.
    pairs = [(old, new) for old, new in changed.pairs if new is None or may_lose(old, new)]
    entries = {new.id: new for old, new in pairs if new is not None and not is_group(old)}
    groups = {old.spiffe_id for old, _ in pairs if is_group(old)}
    entries |= {entry.id: entry for entry in tx.entries.below(groups) if entry.id not in entries}
    if not entries:
        return Taken()
    # 2. Who holds any, and what of it is taken away.
    losing = frozenset(new.id for old, new in pairs if new is not None and loses_identity(old, new))
    takes = Takes(losing=losing, actor=changed.actor, at=changed.at)
    numbers = tx.supersessions.add(list(_superseded(tx, entries, takes, groups_in(tx, changed.trust_domain))))
    taken = len(tx.supersessions.serials(numbers, now=changed.at))
    # 3. Where nothing will replace it, it ends now.
    ended = _end_due(tx, changed.at)
    later = len(tx.supersessions.serials(numbers, now=changed.at))
    return Taken(at_once=taken - later, later=later, revocations=tuple(ended))


def _superseded(
    tx: Transaction, entries: Mapping[EntryID, RegistrationEntry], takes: Takes, groups: Sequence[RegistrationEntry]
) -> Iterator[Supersession]:
    seen: dict[NodeID, tuple[frozenset[SpiffeID], Mapping[SpiffeID, datetime]]] = {}
    for held in tx.supersessions.holdings(entries.keys(), now=takes.at):
        if held.node_id not in seen:
            node = tx.nodes.get(held.node_id)
            seen[held.node_id] = (
                (frozenset(), {})
                if node is None
                else (
                    parents_of(node, groups, blocks=Blocks(), now=takes.at),
                    parent_ends(node, groups, now=takes.at),
                )
            )
        if (taken := takes.from_holding(held, entries[held.entry_id], *seen[held.node_id])) is not None:
            yield taken


def _due(tx: Transaction, now: datetime) -> Sequence[Supersession]:
    return tx.supersessions.due(now=now, pushed_by=now - PUSHED_WITHIN)


def _end_due(tx: Transaction, now: datetime) -> Sequence[Revocation]:
    """End what is due, by one revocation for each change that it was superseded by."""
    changes: defaultdict[tuple[str, datetime], list[Supersession]] = defaultdict(list)
    for one in _due(tx, now):
        changes[one.actor, one.at].append(one)
    ended = list[Revocation]()
    for (actor, at), due in changes.items():
        numbers = [one.number for one in due]
        serials = tx.supersessions.serials(numbers, now=now)
        target = Target(kind=RevocationKind.UPDATE, entry_ids=tuple(dict.fromkeys(one.entry_id for one in due)))
        comment = f"changed at {at.isoformat(timespec='seconds')}"
        asked = Revocation(target=target, reason=Reason.SUPERSEDED, comment=comment, actor=actor, at=now)
        revocation = end_in(tx, asked, Live(serials=serials))
        ended += [] if revocation is None else [revocation]
        tx.supersessions.delete(numbers)
    return ended
