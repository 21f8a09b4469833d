"""Create, update and delete registration entries: a batch is one transaction, all of it or nothing."""

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import audit, registration
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, entry_changes
from issuer.decisions.names import node_id_of
from issuer.decisions.revocation import Live, Reason, Revocation, RevocationKind, Target
from issuer.flows.revoke import end_in
from issuer.flows.supersede import EntriesChanged, Pair, Taken, supersede_in
from issuer.flows.watch_enforcement import WatchEnforcement
from issuer.metrics import Metrics
from issuer.queries import groups_in
from svid.clock import Clock
from svid.entry import EntryID, RegistrationEntry
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["MAX_BATCH", "ChangeEntries", "Changed"]

MAX_BATCH = 100_000
_MAX_WARNINGS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """What became of a batch.

    Args:
        entries: as stored, in the order of the request; as they last stood, when they were deleted.
        change: the change number after which followers have it.
        taken: what it ends of what was signed before.
    """

    entries: tuple[RegistrationEntry, ...]
    warnings: tuple[str, ...]
    change: int
    taken: Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What goes on record about a batch."""

    action: str
    actor: str
    entries: Sequence[RegistrationEntry]
    log: Sequence[Change]
    taken: Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEntries:
    """Changes entries on behalf of an operator."""

    datastore: Datastore
    clock: Clock
    trust_domain: TrustDomain
    watch: WatchEnforcement
    metrics: Metrics

    async def create(self, entries: Sequence[RegistrationEntry], *, actor: str) -> Changed:
        """Add entries; an id that the request names is refused, we choose them.

        Raises:
            Refused: INVALID, EXISTS; the detail says which entry of the batch.
        """
        _check_size(len(entries))
        ids = [EntryID(secrets.token_hex(16)) for _ in entries]
        return await self._change(
            "entry created", actor, lambda tx: self._create(tx, entries, ids, actor), expendable=True
        )

    async def update(self, entries: Sequence[RegistrationEntry], *, let_expire: bool = False, actor: str) -> Changed:
        """Replace entries by their ids; a revision that is not 0 must be the stored one. What it takes away ends (flows/supersede).

        Args:
            let_expire: it stays valid until its end.

        Raises:
            Refused: INVALID, NOT_FOUND, CONFLICT, EXISTS.
        """
        _check_size(len(entries))
        return await self._change(
            "entry updated", actor, lambda tx: self._update(tx, entries, actor, let_expire=let_expire)
        )

    async def delete(self, ids: Sequence[EntryID], *, let_expire: bool = False, actor: str) -> Changed:
        """Remove entries by their ids, and end what was signed for them.

        Args:
            let_expire: it stays valid until its end.

        Raises:
            Refused: INVALID, NOT_FOUND.
        """
        _check_size(len(ids))
        return await self._change(
            "entry deleted", actor, lambda tx: self._delete(tx, ids, actor, let_expire=let_expire)
        )

    async def _change(
        self, action: str, actor: str, work: Callable[[Transaction], Changed], *, expendable: bool = False
    ) -> Changed:
        """Run the work; what it refused leaves nothing behind but an audit row."""
        try:
            changed = await self.datastore.write(work, expendable=expendable)
        except Refused as refused:
            if refused.kind is not Kind.UNAVAILABLE:
                event = audit.refused(refused, at=self.clock.now(), actor=actor, action=action)
                await self.datastore.write(lambda tx: tx.audit.append([event]))
            raise
        for revocation in changed.taken.revocations:
            self.watch.committed(revocation)
        self.metrics.entries_changed.labels(action).inc(len(changed.entries))
        return changed

    def _create(
        self, tx: Transaction, entries: Sequence[RegistrationEntry], ids: Sequence[EntryID], actor: str
    ) -> Changed:
        for number, entry in enumerate(entries):
            if entry.id:
                raise Refused(Kind.INVALID, f"entries[{number}]: id: expected none, found {entry.id!r}")
        warnings = self._check(entries)
        now = self.clock.now()
        stored = [registration.created(entry, entry_id=ids[n], now=now) for n, entry in enumerate(entries)]
        _check_twins(tx, stored)
        tx.entries.insert(stored)
        log = [change for entry in stored for change in entry_changes(None, entry)]
        done = _Done(action="entry created", actor=actor, entries=stored, log=log, taken=Taken())
        return self._record(tx, done, [*warnings, *self._orphans(tx, stored)])

    def _update(
        self, tx: Transaction, entries: Sequence[RegistrationEntry], actor: str, *, let_expire: bool
    ) -> Changed:
        before = _find(tx, [entry.id for entry in entries])
        for number, entry in enumerate(entries):
            found = before[entry.id].revision
            if entry.revision not in {0, found}:
                raise Refused(Kind.CONFLICT, f"entries[{number}]: revision: expected {found}, found {entry.revision}")
        warnings = self._check(entries)
        stored = [registration.updated(entry, before[entry.id]) for entry in entries]
        _check_twins(tx, stored)
        tx.entries.replace(stored)
        pairs = [] if let_expire else [(before[entry.id], entry) for entry in stored]
        taken = self._supersede(tx, pairs, actor)
        log = [change for entry in stored for change in entry_changes(before[entry.id], entry)]
        done = _Done(action="entry updated", actor=actor, entries=stored, log=log, taken=taken)
        return self._record(tx, done, [*warnings, *self._orphans(tx, stored)])

    def _delete(self, tx: Transaction, ids: Sequence[EntryID], actor: str, *, let_expire: bool) -> Changed:
        before = _find(tx, ids)
        gone = [before[entry_id] for entry_id in ids]
        tx.entries.delete(ids)
        taken = Taken()
        if not let_expire:
            live = Live(entry_ids=ids)
            target = Target(kind=RevocationKind.DELETION, entry_ids=tuple(ids))
            asked = Revocation(
                target=target, reason=Reason.CESSATION_OF_OPERATION, comment="", actor=actor, at=self.clock.now()
            )
            ended = tx.denials.falling(live, now=asked.at).count
            revocation = end_in(tx, asked, live)
            below = self._supersede(tx, [(entry, None) for entry in gone], actor)
            revocations = below.revocations if revocation is None else (revocation, *below.revocations)
            taken = replace(below, at_once=below.at_once + ended, revocations=revocations)
        log = [change for entry in gone for change in entry_changes(entry, None)]
        done = _Done(action="entry deleted", actor=actor, entries=gone, log=log, taken=taken)
        return self._record(tx, done)

    def _supersede(self, tx: Transaction, pairs: Sequence[Pair], actor: str) -> Taken:
        return supersede_in(
            tx, EntriesChanged(pairs=pairs, trust_domain=self.trust_domain, actor=actor, at=self.clock.now())
        )

    def _check(self, entries: Sequence[RegistrationEntry]) -> list[str]:
        now = self.clock.now()
        warnings: list[str] = []
        for number, entry in enumerate(entries):
            try:
                found = registration.check_entry(entry, trust_domain=self.trust_domain, now=now)
            except Refused as e:
                raise Refused(e.kind, f"entries[{number}]: {e.detail}", hint=e.hint) from e
            warnings += [f"entries[{number}]: {warning}" for warning in found]
        registration.check_no_twins(entries)
        return warnings

    def _orphans(self, tx: Transaction, entries: Iterable[RegistrationEntry]) -> tuple[str, ...]:
        wanted = {entry.parent_id for entry in entries}
        known = {group.spiffe_id for group in groups_in(tx, self.trust_domain)}
        known |= {parent for parent in wanted if _is_node(tx, parent)}
        return registration.unknown_parents(entries, known)

    def _record(self, tx: Transaction, done: _Done, warnings: Sequence[str] = ()) -> Changed:
        now = self.clock.now()
        tx.audit.append(
            [
                AuditEvent(
                    at=now,
                    actor=done.actor,
                    action=done.action,
                    subject=str(entry.spiffe_id),
                    entry_revision=entry.revision,
                    facts={"entry": entry.id, "parent": str(entry.parent_id), "owner": entry.owner},
                )
                for entry in done.entries
            ]
        )
        shown = tuple(warnings[:_MAX_WARNINGS])
        if len(warnings) > _MAX_WARNINGS:
            shown = (*shown, f"{len(warnings) - _MAX_WARNINGS} more warnings")
        change = tx.changes.append(done.log)
        return Changed(entries=tuple(done.entries), warnings=shown, change=change, taken=done.taken)


def _check_size(found: int) -> None:
    if not 1 <= found <= MAX_BATCH:
        raise Refused(Kind.INVALID, f"entries: expected 1 to {MAX_BATCH}, found {found}")


def _find(tx: Transaction, ids: Sequence[EntryID]) -> dict[EntryID, RegistrationEntry]:
    found = dict(tx.entries.get(ids))
    for number, entry_id in enumerate(ids):
        if entry_id not in found:
            raise Refused(Kind.NOT_FOUND, f"entries[{number}]: no entry has the id {entry_id!r}")
    if len(found) != len(ids):
        raise Refused(Kind.INVALID, f"entries: expected each id once, found {len(ids) - len(found)} repeated")
    return found


def _check_twins(tx: Transaction, entries: Sequence[RegistrationEntry]) -> None:
    twins = tx.entries.twins(entries)
    for number, entry in enumerate(entries):
        if entry.id in twins:
            raise Refused(
                Kind.EXISTS,
                f"entries[{number}]: expected another spiffe_id, parent_id or selectors, found those of {twins[entry.id]}",
                hint=f"see it with: cognomen entry show {twins[entry.id]}",
            )


def _is_node(tx: Transaction, parent: SpiffeID) -> bool:
    node_id = node_id_of(parent)
    return node_id is not None and tx.nodes.get(node_id) is not None
