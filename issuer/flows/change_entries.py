"""Create, update and delete registration entries: each batch is one transaction, all or nothing."""

import secrets
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import node_id_of
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import registration
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import entry_changes
from issuer.decisions.revocation import Live, Reason, Revocation, RevocationKind, Target
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings
from issuer.works.denials import end_in
from issuer.works.reads import groups_in
from issuer.works.supersessions import EntriesChanged, Pair, Taken, supersede_in
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["MAX_BATCH", "ChangeEntries", "Changed"]

MAX_BATCH = 100_000
_MAX_WARNINGS = 100
_MOST_CROWDS = 20  # that we look for in the store: a large batch must not cost a query for each entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The result of a batch.

    Args:
        entries: as stored, in the order of the request; if deleted, as they were before.
        change: the change number with which followers have it.
        taken: how many of the credentials signed before it ends.
    """

    entries: tuple[RegistrationEntry, ...]
    warnings: tuple[str, ...]
    change: int
    taken: Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What the audit record and the change log say about a batch.

    Args:
        steps: each entry before and after; None: it did not exist.
    """

    action: Action
    actor: str
    steps: Sequence[tuple[RegistrationEntry | None, RegistrationEntry | None]]
    taken: Taken

    @property
    def entries(self) -> tuple[RegistrationEntry, ...]:
        """The entries as they are now; if they were deleted, as they were before."""
        both = (after or before for before, after in self.steps)
        return tuple(one for one in both if one is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEntries:
    """Changes entries on behalf of an operator.

    Args:
        node_attestors: the names of the node attestors.
    """

    datastore: Datastore
    around: Surroundings
    trust_domain: TrustDomain
    node_attestors: Collection[str]
    watch: EnforcementWatch

    async def create(self, entries: Sequence[RegistrationEntry], *, actor: str) -> Changed:
        """Add entries. We choose the ids: a request that names one is refused.

        Raises:
            Refused: INVALID, EXISTS; the detail says which entry of the batch.
        """
        ids = [EntryID(secrets.token_hex(16)) for _ in entries]
        return await self._change(
            Action.ENTRY_CREATED, actor, len(entries), lambda tx: self._create(tx, entries, ids, actor), expendable=True
        )

    async def update(self, entries: Sequence[RegistrationEntry], *, let_expire: bool = False, actor: str) -> Changed:
        """Replace entries by their ids; a revision other than 0 must equal the stored one. What this takes away ends (works/supersessions).

        A full disk refuses it, because it adds whole entries to the record; deleting and revoking still work.

        Args:
            let_expire: what it takes away stays valid until it expires.

        Raises:
            Refused: INVALID, NOT_FOUND, CONFLICT, EXISTS.
        """
        return await self._change(
            Action.ENTRY_UPDATED,
            actor,
            len(entries),
            lambda tx: self._update(tx, entries, actor, let_expire=let_expire),
            expendable=True,
        )

    async def delete(self, ids: Sequence[EntryID], *, let_expire: bool = False, actor: str) -> Changed:
        """Remove entries by their ids, and end what was signed for them.

        Args:
            let_expire: what was signed stays valid until it expires.

        Raises:
            Refused: INVALID, NOT_FOUND.
        """
        return await self._change(
            Action.ENTRY_DELETED, actor, len(ids), lambda tx: self._delete(tx, ids, actor, let_expire=let_expire)
        )

    async def _change(
        self, action: Action, actor: str, size: int, work: Callable[[Transaction], Changed], *, expendable: bool = False
    ) -> Changed:
        """Run the work; a refusal leaves nothing behind but an audit row."""
        async with refusals_on_record(self.datastore, self.around.clock, action, actor=actor):
            _check_size(size)
            changed = await self.datastore.write(work, expendable=expendable)
        for revocation in changed.taken.revocations:
            self.watch.committed(revocation)
        self.around.metrics.entries_changed.labels(action).inc(len(changed.entries))
        return changed

    def _create(
        self, tx: Transaction, entries: Sequence[RegistrationEntry], ids: Sequence[EntryID], actor: str
    ) -> Changed:
        for number, entry in enumerate(entries):
            if entry.id:
                raise Refused(Kind.INVALID, f"entries[{number}]: id: expected none, found {entry.id!r}")
        warnings = self._check(entries)
        now = self.around.clock.now()
        stored = [registration.created(entry, entry_id=ids[n], now=now) for n, entry in enumerate(entries)]
        _check_twins(tx, stored)
        tx.entries.insert(stored)
        steps = [(None, entry) for entry in stored]
        done = _Done(action=Action.ENTRY_CREATED, actor=actor, steps=steps, taken=Taken())
        return self._record(tx, done, [*warnings, *self._orphans(tx, stored), *_crowds(tx, stored)])

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
        steps = [(before[entry.id], entry) for entry in stored]
        done = _Done(action=Action.ENTRY_UPDATED, actor=actor, steps=steps, taken=taken)
        return self._record(tx, done, [*warnings, *self._orphans(tx, stored), *_crowds(tx, stored)])

    def _delete(self, tx: Transaction, ids: Sequence[EntryID], actor: str, *, let_expire: bool) -> Changed:
        before = _find(tx, ids)
        gone = [before[entry_id] for entry_id in ids]
        tx.entries.delete(ids)
        taken = Taken()
        if not let_expire:
            live = Live(entry_ids=ids)
            target = Target(kind=RevocationKind.DELETION, entry_ids=tuple(ids))
            asked = Revocation(
                target=target, reason=Reason.CESSATION_OF_OPERATION, comment="", actor=actor, at=self.around.clock.now()
            )
            ended = tx.denials.falling(live, now=asked.at).count
            revocation = end_in(tx, asked, live)
            below = self._supersede(tx, [(entry, None) for entry in gone], actor)
            revocations = below.revocations if revocation is None else (revocation, *below.revocations)
            taken = replace(below, at_once=below.at_once + ended, revocations=revocations)
        steps = [(entry, None) for entry in gone]
        done = _Done(action=Action.ENTRY_DELETED, actor=actor, steps=steps, taken=taken)
        return self._record(tx, done)

    def _supersede(self, tx: Transaction, pairs: Sequence[Pair], actor: str) -> Taken:
        return supersede_in(
            tx, EntriesChanged(pairs=pairs, trust_domain=self.trust_domain, actor=actor, at=self.around.clock.now())
        )

    def _check(self, entries: Sequence[RegistrationEntry]) -> list[str]:
        now = self.around.clock.now()
        warnings: list[str] = []
        for number, entry in enumerate(entries):
            try:
                found = registration.check_entry(
                    entry, trust_domain=self.trust_domain, node_attestors=self.node_attestors, now=now
                )
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
        now = self.around.clock.now()
        entries = done.entries
        tx.audit.append(
            [
                AuditEvent(
                    at=now,
                    actor=done.actor,
                    action=done.action,
                    subject=str(entry.spiffe_id),
                    entry_revision=entry.revision,
                    before=before,
                    after=after,
                    facts={"entry": entry.id, "parent": str(entry.parent_id), "owner": entry.owner},
                )
                for entry, (before, after) in zip(entries, done.steps, strict=True)
            ]
        )
        shown = tuple(warnings[:_MAX_WARNINGS])
        if len(warnings) > _MAX_WARNINGS:
            shown = (*shown, f"{len(warnings) - _MAX_WARNINGS} more warnings")
        change = tx.changes.append(one for step in done.steps for one in entry_changes(*step))
        return Changed(entries=entries, warnings=shown, change=change, taken=done.taken)


def _crowds(tx: Transaction, entries: Iterable[RegistrationEntry]) -> tuple[str, ...]:
    """Warn of too many entries for the same programs. If a batch is for many programs, count only the entries in the batch."""
    crowds: dict[registration.Alike, list[RegistrationEntry]] = {}
    for entry in entries:
        crowds.setdefault(registration.alike(entry), []).append(entry)
    counted = {one: len(some) for one, some in crowds.items()}
    if len(crowds) <= _MOST_CROWDS:
        counted |= {one: tx.entries.alike(some[0], most=registration.MOST_ALIKE + 1) for one, some in crowds.items()}
    return registration.too_many_alike(counted)


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
