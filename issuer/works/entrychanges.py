"""Change registration entries inside a transaction: check a whole batch, write it, end what it takes away, and record it.

issuer/decisions/registration decides which entries may be stored, issuer/decisions/supersession what a change takes away.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.decisions import registration
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import entry_changes
from issuer.decisions.filters import EntryFilter
from issuer.decisions.operator import comment_of
from issuer.decisions.revocation import Live, Reason, Revocation, RevocationKind, Target
from issuer.works.denials import end_in
from issuer.works.reads import groups_in, node_of_in
from issuer.works.supersessions import EntriesChanged, Pair, Taken, supersede_in
from svid.spiffeid import TrustDomain

__all__ = ["Asked", "Batch", "Changed", "Step", "change_entries_in", "record_changes_in"]

_MAX_WARNINGS = 100
_MOST_CROWDS = 20  # that we look for in the store: a large batch must not cost a query for each entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is to be changed together.

    Args:
        create: without ids.
        update: by their ids; a revision other than 0 must equal the stored one.
        delete: ids, each with the revision that is expected; 0: any.
        by_path: refusals and warnings name an entry by its path, instead of its place in the batch.
    """

    create: Sequence[RegistrationEntry] = ()
    update: Sequence[RegistrationEntry] = ()
    delete: Sequence[tuple[EntryID, int]] = ()
    by_path: bool = False

    def place(self, number: int, entry: RegistrationEntry) -> str:
        """How a refusal or a warning names an entry."""
        return entry.spiffe_id.path if self.by_path else f"entries[{number}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who wants a change, where and how.

    Args:
        node_attestors: the names of the node attestors.
        strict: what would be a warning of an entry's selectors refuses the batch.
        let_expire: what it takes away stays valid until it expires.
    """

    actor: str
    at: datetime
    trust_domain: TrustDomain
    node_attestors: Collection[str]
    strict: bool = False
    let_expire: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What became of one entry of a batch.

    Args:
        before, after: the entry; None: it did not exist. They are one object if the batch does not change it.
    """

    before: RegistrationEntry | None
    after: RegistrationEntry | None

    @property
    def entry(self) -> RegistrationEntry:
        """The entry as it is now; if it was deleted, as it was before."""
        found = self.after or self.before
        assert found is not None  # noqa: S101 - a step is about an entry
        return found

    @property
    def action(self) -> Action | None:
        """What was done; None: nothing."""
        if self.before is self.after:
            return None
        if self.before is None:
            return Action.ENTRY_CREATED
        return Action.ENTRY_DELETED if self.after is None else Action.ENTRY_UPDATED


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The result of a batch.

    Args:
        steps: in the order of the batch: created, updated, deleted.
        change: the change number with which followers have it; 0: it is not recorded.
        taken: how many of the credentials signed before it ends.
    """

    steps: tuple[Step, ...]
    warnings: tuple[str, ...]
    taken: Taken
    change: int = 0

    @property
    def entries(self) -> tuple[RegistrationEntry, ...]:
        """The entries as they are now; those that were deleted, as they were before."""
        return tuple(step.entry for step in self.steps)


def change_entries_in(tx: Transaction, batch: Batch, ids: Sequence[EntryID], asked: Asked) -> Changed:
    """Check and write a whole batch; `record_changes_in` then records it. An update that changes nothing leaves the entry as it is.

    Args:
        ids: those of the new entries.

    Raises:
        Refused: INVALID, NOT_FOUND, CONFLICT, EXISTS; the detail says which entry of the batch.
    """
    # 1. Check.
    before = _find(tx, batch)
    _check_revisions(batch, before)
    updates = [_update(entry, before[entry.id]) for entry in batch.update]
    fresh = [(batch.place(n, entry), entry) for n, entry in enumerate(_created(batch, ids, asked.at))]
    changed = [(batch.place(n, step.entry), step.entry) for n, step in enumerate(updates) if step.action is not None]
    warnings = _check([*fresh, *changed], asked)
    # 2. Write.
    gone = [before[entry_id] for entry_id, _ in batch.delete]
    tx.entries.delete([entry.id for entry in gone])
    _check_twins(tx, changed)
    tx.entries.replace([entry for _, entry in changed])
    _check_twins(tx, fresh)
    tx.entries.insert([entry for _, entry in fresh])
    # 3. End what it takes away.
    pairs: list[Pair] = [(step.before, step.after) for step in updates if step.action is not None and step.before]
    taken = Taken() if asked.let_expire else _end(tx, pairs, gone, asked)
    stored = [entry for _, entry in (*fresh, *changed)]
    warnings += [*_orphans(tx, stored, asked.trust_domain), *_crowds(tx, stored), *_rivals(tx, stored)]
    if len(warnings) > _MAX_WARNINGS:
        warnings = [*warnings[:_MAX_WARNINGS], f"{len(warnings) - _MAX_WARNINGS} more warnings"]
    created = [Step(before=None, after=entry) for _, entry in fresh]
    steps = (*created, *updates, *(Step(before=entry, after=None) for entry in gone))
    return Changed(steps=steps, warnings=tuple(warnings), taken=taken)


def record_changes_in(tx: Transaction, changed: Changed, asked: Asked) -> Changed:
    """Put a batch into the record and into the change log; return it with its change number."""
    done = [(step, step.action) for step in changed.steps if step.action is not None]
    tx.audit.append(
        [
            AuditEvent(
                at=asked.at,
                actor=asked.actor,
                action=action,
                subject=str(step.entry.spiffe_id),
                entry_revision=step.entry.revision,
                before=step.before,
                after=step.after,
                facts={"entry": step.entry.id, "parent": str(step.entry.parent_id), "owner": step.entry.owner},
            )
            for step, action in done
        ]
    )
    number = tx.changes.append(one for step, _ in done for one in entry_changes(step.before, step.after))
    return replace(changed, change=number)


def _find(tx: Transaction, batch: Batch) -> Mapping[EntryID, RegistrationEntry]:
    """The entries that the batch updates or deletes, as they are stored."""
    ids = [*(entry.id for entry in batch.update), *(entry_id for entry_id, _ in batch.delete)]
    found = dict(tx.entries.get(ids))
    for number, entry_id in enumerate(ids):
        if entry_id not in found:
            place = "entry" if batch.by_path else f"entries[{number}]"
            raise Refused(
                Kind.NOT_FOUND,
                f"{place}: no entry has the id {entry_id!r}",
                hint="list the entries: cognomen entry list",
            )
    if len(found) != len(ids):
        raise Refused(Kind.INVALID, f"entries: expected each id once, found {len(ids) - len(found)} repeated")
    return found


def _check_revisions(batch: Batch, before: Mapping[EntryID, RegistrationEntry]) -> None:
    asked = [*((entry.id, entry.revision) for entry in batch.update), *batch.delete]
    for number, (entry_id, revision) in enumerate(asked):
        found = before[entry_id].revision
        if revision not in {0, found}:
            place = batch.place(number, before[entry_id])
            raise Refused(Kind.CONFLICT, f"{place}: revision: expected {found}, found {revision}")


def _created(batch: Batch, ids: Sequence[EntryID], now: datetime) -> Iterator[RegistrationEntry]:
    for number, (entry, entry_id) in enumerate(zip(batch.create, ids, strict=True)):
        if entry.id:
            raise Refused(Kind.INVALID, f"{batch.place(number, entry)}: id: expected none, found {entry.id!r}")
        yield registration.created(entry, entry_id=entry_id, now=now)


def _update(entry: RegistrationEntry, stored: RegistrationEntry) -> Step:
    changes = registration.changes(entry, stored)
    return Step(before=stored, after=registration.updated(entry, stored) if changes else stored)


def _check(entries: Sequence[tuple[str, RegistrationEntry]], asked: Asked) -> list[str]:
    warnings: list[str] = []
    for place, entry in entries:
        try:
            found = registration.check_entry(
                entry,
                trust_domain=asked.trust_domain,
                node_attestors=asked.node_attestors,
                now=asked.at,
                strict=asked.strict,
            )
        except Refused as e:
            raise Refused(e.kind, f"{place}: {e.detail}", hint=e.hint) from e
        warnings += [f"{place}: {warning}" for warning in found]
    registration.check_no_twins(entry for _, entry in entries)
    return warnings


def _check_twins(tx: Transaction, entries: Sequence[tuple[str, RegistrationEntry]]) -> None:
    twins = tx.entries.twins([entry for _, entry in entries])
    for place, entry in entries:
        if entry.id in twins:
            raise Refused(
                Kind.EXISTS,
                f"{place}: expected another spiffe_id, parent_id or selectors, found those of {twins[entry.id]}",
                hint=f"see it with: cognomen entry show {twins[entry.id]}",
            )


def _end(tx: Transaction, pairs: Sequence[Pair], gone: Sequence[RegistrationEntry], asked: Asked) -> Taken:
    """End what was signed for deleted entries, and what changes of others take away."""
    ended, revocation = 0, None
    if gone:
        ids = tuple(entry.id for entry in gone)
        live = Live(entry_ids=ids)
        target = Target(kind=RevocationKind.DELETION, entry_ids=ids)
        reason = Reason.CESSATION_OF_OPERATION
        comment = comment_of(asked.actor)
        order = Revocation(target=target, reason=reason, comment=comment, actor=asked.actor, at=asked.at)
        ended = tx.denials.falling(live, now=asked.at).count
        revocation = end_in(tx, order, live)
    changed = [*pairs, *((entry, None) for entry in gone)]
    taken = supersede_in(
        tx, EntriesChanged(pairs=changed, trust_domain=asked.trust_domain, actor=asked.actor, at=asked.at)
    )
    revocations = taken.revocations if revocation is None else (revocation, *taken.revocations)
    return replace(taken, at_once=taken.at_once + ended, revocations=revocations)


def _orphans(tx: Transaction, entries: Iterable[RegistrationEntry], trust_domain: TrustDomain) -> tuple[str, ...]:
    wanted = {entry.parent_id for entry in entries}
    if not wanted:
        return ()
    known = {group.spiffe_id for group in groups_in(tx, trust_domain)}
    known |= {parent for parent in wanted if node_of_in(tx, parent) is not None}
    return registration.unknown_parents(entries, known)


def _crowds(tx: Transaction, entries: Iterable[RegistrationEntry]) -> tuple[str, ...]:
    """Warn of too many entries for the same programs. If a batch is for many programs, count only the entries in the batch."""
    crowds: dict[registration.Alike, list[RegistrationEntry]] = {}
    for entry in entries:
        crowds.setdefault(registration.alike(entry), []).append(entry)
    counted = {one: len(some) for one, some in crowds.items()}
    if len(crowds) <= _MOST_CROWDS:
        counted |= {one: tx.entries.alike(some[0], most=registration.MOST_ALIKE + 1) for one, some in crowds.items()}
    return registration.too_many_alike(counted)


def _rivals(tx: Transaction, entries: Iterable[RegistrationEntry]) -> Iterator[str]:
    """Warn of entries marked as default whose programs have another that is; of a large batch, look at the first few only."""
    for entry in islice((one for one in entries if one.default), _MOST_CROWDS):
        where = EntryFilter(parent_id=entry.parent_id, selector=min(entry.selectors))
        near = tx.entries.each(where, after="", limit=registration.MOST_ALIKE)
        yield from islice(registration.rivals(entry, near), 1)
