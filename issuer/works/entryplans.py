"""Decide what a batch of changes does to the entries, inside a transaction, and write nothing: a dry run does no more than this.

issuer/decisions/registration decides which entries may be stored, issuer/decisions/supersession what a change takes away.
entrychanges carries a plan out.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.decisions import registration
from issuer.decisions.entrysteps import Step
from issuer.decisions.revocation import Live
from issuer.decisions.rulebooks import check_owner
from issuer.decisions.supersession import Supersession
from issuer.works.entriesafter import EntriesAfter
from issuer.works.supersessions import EntriesChanged, Pair, Taken, superseded_in
from svid.spiffeid import TrustDomain

__all__ = ["Asked", "Batch", "Plan", "plan_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is to be changed together.

    Args:
        create: without ids.
        update: by their ids; a revision other than 0 must equal the stored one.
        delete: ids, each with the revision that is expected; 0: any.
        by_path: refusals and warnings name an entry by its path, instead of its place in the batch.
        places: if the batch is a part of one of a single kind: the place of each of its entries there; empty: it is no part.
    """

    create: Sequence[RegistrationEntry] = ()
    update: Sequence[RegistrationEntry] = ()
    delete: Sequence[tuple[EntryID, int]] = ()
    by_path: bool = False
    places: Sequence[int] = ()

    def __len__(self) -> int:
        """How many entries it names."""
        return len(self.create) + len(self.update) + len(self.delete)

    def place(self, number: int, entry: RegistrationEntry | None) -> str:
        """How a refusal or a warning names an entry; None: it is not known."""
        if self.by_path:
            return "entry" if entry is None else entry.spiffe_id.path
        return f"entries[{self.places[number] if self.places else number}]"

    def part(self, numbers: Sequence[int]) -> "Batch":
        """The entries with these numbers, which count from 0 through those to create, update and delete, and are in order."""
        updates = len(self.create)
        deletes = updates + len(self.update)
        return Batch(
            create=[self.create[number] for number in numbers if number < updates],
            update=[self.update[number - updates] for number in numbers if updates <= number < deletes],
            delete=[self.delete[number - deletes] for number in numbers if deletes <= number],
            by_path=self.by_path,
            places=numbers,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Who wants a change, where and how.

    Args:
        node_attestors: the names of the node attestors.
        strict: what would be a warning of an entry's selectors refuses the batch.
        let_expire: what it takes away stays valid until it expires.
        rulebook: the revision of the rulebook that is applied; 0: it is another command.
    """

    actor: str
    at: datetime
    trust_domain: TrustDomain
    node_attestors: Collection[str]
    strict: bool = False
    let_expire: bool = False
    rulebook: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a batch does.

    Args:
        steps: in the order of the batch: created, updated, deleted.
        warnings: about each entry on its own.
        ended: the deleted entries for which what was signed ends.
        superseded: what changes of entries take away.
        taken: how many credentials that is.
    """

    steps: tuple[Step, ...]
    warnings: tuple[str, ...]
    ended: tuple[EntryID, ...] = ()
    superseded: Sequence[Supersession] = ()
    taken: Taken = field(default_factory=Taken)

    @property
    def entries(self) -> tuple[RegistrationEntry, ...]:
        """The entries as the steps leave them; deleted ones, as they are before."""
        return tuple(step.entry for step in self.steps)


def plan_in(tx: Transaction, batch: Batch, ids: Sequence[EntryID], asked: Asked) -> Plan:
    """Check a whole batch and find what it does. An update that changes nothing leaves the entry as it is.

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
    # 2. Find what stays, comes and goes.
    gone = [Step(before=before[entry_id], after=None) for entry_id, _ in batch.delete]
    steps = (*(Step(before=None, after=entry) for _, entry in fresh), *updates, *gone)
    warnings = (*warnings, *_check_owners(tx, batch, steps, asked))
    after = EntriesAfter(tx.entries, steps)
    _check_twins(tx, changed, given_up={step.entry.id for step in gone})
    _check_twins(tx, fresh, given_up=after.gone_or_other)
    plan = Plan(steps=steps, warnings=warnings)
    # 3. Find what it takes away.
    return plan if asked.let_expire else _with_what_ends(tx, plan, after, asked)


def _find(tx: Transaction, batch: Batch) -> Mapping[EntryID, RegistrationEntry]:
    """The entries that the batch updates or deletes, as they are stored."""
    ids = [*(entry.id for entry in batch.update), *(entry_id for entry_id, _ in batch.delete)]
    found = dict(tx.entries.get(ids))
    for number, entry_id in enumerate(ids):
        if entry_id not in found:
            raise Refused(
                Kind.NOT_FOUND,
                f"{batch.place(number, None)}: no entry has the id {entry_id!r}",
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
            place, path = batch.place(number, before[entry_id]), before[entry_id].spiffe_id.path
            raise Refused(
                Kind.CONFLICT,
                f"{place}: revision: expected {found}, found {revision}",
                hint=f"{path} was changed after it was read: see who did it with cognomen entry history {entry_id},"
                " and begin with the entry as it is now: cognomen entry list -o json",
            )


def _created(batch: Batch, ids: Sequence[EntryID], now: datetime) -> Iterator[RegistrationEntry]:
    for number, (entry, entry_id) in enumerate(zip(batch.create, ids, strict=True)):
        if entry.id:
            raise Refused(Kind.INVALID, f"{batch.place(number, entry)}: id: expected none, found {entry.id!r}")
        yield registration.created(entry, entry_id=entry_id, now=now)


def _update(entry: RegistrationEntry, stored: RegistrationEntry) -> Step:
    changes = registration.changes(entry, stored)
    return Step(before=stored, after=registration.updated(entry, stored) if changes else stored)


def _check(entries: Sequence[tuple[str, RegistrationEntry]], asked: Asked) -> tuple[str, ...]:
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
    return tuple(warnings)


def _check_owners(tx: Transaction, batch: Batch, steps: Sequence[Step], asked: Asked) -> Iterator[str]:
    """Check that nobody but the rulebook changes what belongs to it."""
    if asked.rulebook:
        return
    in_force = tx.rulebooks.revision()
    for number, step in enumerate(steps):
        place = batch.place(number - len(batch.create) if step.before else number, step.entry)
        for one in (step.before, step.after) if step.action is not None else ():
            warning = "" if one is None else check_owner(place, one.spiffe_id, in_force)
            if warning and one is step.after:
                yield warning


def _check_twins(
    tx: Transaction, entries: Sequence[tuple[str, RegistrationEntry]], *, given_up: Collection[EntryID]
) -> None:
    """Check that no entry takes what another one has, except for those whose own the batch gives up first."""
    twins = tx.entries.twins([entry for _, entry in entries])
    for place, entry in entries:
        if (other := twins.get(entry.id)) is not None and other not in given_up:
            raise Refused(
                Kind.EXISTS,
                f"{place}: expected another spiffe_id, parent_id or selectors, found those of {other}",
                hint=f"see it with: cognomen entry show {other}",
            )


def _with_what_ends(tx: Transaction, plan: Plan, after: EntriesAfter, asked: Asked) -> Plan:
    """Find what was signed for deleted entries, and what changes of others take away."""
    pairs: list[Pair] = [(step.before, step.after) for step in plan.steps if step.action is not None and step.before]
    ended = tuple(before.id for before, now in pairs if now is None)
    superseded = superseded_in(
        tx, after, EntriesChanged(pairs=pairs, trust_domain=asked.trust_domain, actor=asked.actor, at=asked.at)
    )
    at_once = [one for one in superseded if one.due_at <= asked.at]
    later = [one for one in superseded if one.due_at > asked.at]
    taken = Taken(
        at_once=(tx.denials.falling(Live(entry_ids=ended), now=asked.at).count if ended else 0)
        + tx.supersessions.live(at_once, now=asked.at),
        later=tx.supersessions.live(later, now=asked.at),
    )
    return replace(plan, ended=ended, superseded=superseded, taken=taken)
