"""Find what a change of entries takes away, and end what is due, inside a transaction.

issuer/decisions/supersession decides what a change takes away. What nothing will replace ends in the transaction of the change.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self, TypeAlias

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Transaction
from issuer.decisions.entitlement import parent_ends, parents_of
from issuer.decisions.registration import is_group
from issuer.decisions.revocation import Blocks, Live, Reason, Revocation, RevocationKind, Target
from issuer.decisions.supersession import PUSHED_WITHIN, Supersession, Takes, loses_identity, may_lose
from issuer.works.denials import end_in
from issuer.works.entriesafter import EntriesAfter
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["EntriesChanged", "Pair", "Taken", "due_in", "end_due_in", "superseded_in"]


Pair: TypeAlias = tuple[RegistrationEntry, RegistrationEntry | None]
"""An entry before and after a change; None: it was deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesChanged:
    """What an operator changes."""

    pairs: Sequence[Pair]
    trust_domain: TrustDomain
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How many credentials a change ends.

    Args:
        later: once they are replaced.
        revocations: those of what ended at once, as stored.
    """

    at_once: int = 0
    later: int = 0
    revocations: tuple[Revocation, ...] = ()

    def plus(self, other: Self) -> Self:
        """What both end."""
        return replace(
            self,
            at_once=self.at_once + other.at_once,
            later=self.later + other.later,
            revocations=(*self.revocations, *other.revocations),
        )


def superseded_in(tx: Transaction, after: EntriesAfter, changed: EntriesChanged) -> Sequence[Supersession]:
    """What a change takes away from whom. This writes nothing; what comes of it is to be added, and `end_due_in` then ends what is due.

    Args:
        after: the entries as the change leaves them.
    """
    # 1. Find the entries concerned: the changed ones, and those below changed groups.
    pairs = [(old, new) for old, new in changed.pairs if new is None or may_lose(old, new)]
    entries = {new.id: new for old, new in pairs if new is not None and not is_group(old)}
    groups = {old.spiffe_id for old, _ in pairs if is_group(old)}
    entries |= {entry.id: entry for entry in after.below(groups) if entry.id not in entries}
    if not entries:
        return ()
    # 2. Find who holds credentials for them, and what is taken away.
    losing = frozenset(new.id for old, new in pairs if new is not None and loses_identity(old, new))
    takes = Takes(losing=losing, actor=changed.actor, at=changed.at)
    return list(_superseded(tx, entries, takes, after.groups(changed.trust_domain)))


def due_in(tx: Transaction, now: datetime) -> Sequence[Supersession]:
    """What is due: it was replaced, or we have waited long enough."""
    return tx.supersessions.due(now=now, pushed_by=now - PUSHED_WITHIN)


def end_due_in(tx: Transaction, now: datetime) -> Sequence[Revocation]:
    """End what is due, with one revocation for each change that superseded something."""
    changes: defaultdict[tuple[str, datetime], list[Supersession]] = defaultdict(list)
    for one in due_in(tx, now):
        changes[one.actor, one.at].append(one)
    ended = list[Revocation]()
    for (actor, at), due in changes.items():
        numbers = [one.number for one in due]
        serials = tx.supersessions.serials(numbers, now=now)
        target = Target(kind=RevocationKind.UPDATE, entry_ids=tuple(dict.fromkeys(one.entry_id for one in due)))
        comment = f"changed at {moment_in_words(at)}"
        asked = Revocation(target=target, reason=Reason.SUPERSEDED, comment=comment, actor=actor, at=now)
        revocation = end_in(tx, asked, Live(serials=serials))
        ended += [] if revocation is None else [revocation]
        tx.supersessions.delete(numbers)
    return ended


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
