"""Create, update and delete registration entries in batches.

A small batch is one transaction, all or nothing. A large one is checked as a whole on one view of the store. Then it is carried out
in slices, each of which is one transaction and is checked again, so that other writes have their turns in between (ADR-0025). A dry
run is the same check.
"""

import asyncio
import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.entrysteps import MOST_STEPS, are_few, slices
from issuer.keepers.committed_entries import tell_committed
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings
from issuer.works.entryadvice import advice_in
from issuer.works.entrychanges import Changed, carry_out_in
from issuer.works.entryplans import Asked, Batch, plan_in
from issuer.works.supersessions import Taken
from svid.spiffeid import TrustDomain

__all__ = ["MAX_BATCH", "Batch", "ChangeEntries", "Changed", "How"]

MAX_BATCH = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a batch is carried out.

    Args:
        let_expire: what it takes away stays valid until it expires.
        strict: what would be a warning of an entry's selectors refuses the batch.
    """

    let_expire: bool = False
    strict: bool = False


_AS_USUAL = How()


_HOW_TO_GO_ON = {
    Action.ENTRY_CREATED: "the same file goes on with: cognomen entry apply FILE",
    Action.ENTRY_UPDATED: "the same file goes on with: cognomen entry apply FILE",
    Action.ENTRY_DELETED: "list those that are left: cognomen entry list",
    Action.ENTRIES_APPLIED: "run it again: it goes on with the rest",
}
_HEX = 32  # characters of an id


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """What the check of a large batch found. It does not keep the plan, which holds every entry twice.

    Args:
        unchanged: the entries that the batch leaves as they are, by their places in the batch.
        parts: the slices.
        change: the change number at that time.
    """

    unchanged: Mapping[int, RegistrationEntry]
    warnings: tuple[str, ...]
    parts: Sequence[Sequence[int]]
    change: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEntries:
    """Changes entries on behalf of an operator. An update that changes nothing leaves neither a revision nor a trace.

    Large batches come one after the other, dry runs too, so that they never keep all readers of the store busy.

    Args:
        node_attestors: the names of the node attestors.
        most: how many entries one transaction changes.
    """

    datastore: Datastore
    around: Surroundings
    trust_domain: TrustDomain
    node_attestors: Collection[str]
    watch: EnforcementWatch
    most: int = MOST_STEPS
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False, compare=False)

    async def create(self, entries: Sequence[RegistrationEntry], *, how: How = _AS_USUAL, actor: str) -> Changed:
        """Add entries. We choose the ids: a request that names one is refused.

        Raises:
            Refused: INVALID, EXISTS; the detail says which entry of the batch.
        """
        return await self._change(Action.ENTRY_CREATED, Batch(create=entries), how, actor)

    async def update(self, entries: Sequence[RegistrationEntry], *, how: How = _AS_USUAL, actor: str) -> Changed:
        """Replace entries by their ids; a revision other than 0 must equal the stored one. What this takes away ends (works/supersessions).

        A full disk refuses it, because it adds whole entries to the record; deleting and revoking still work.

        Raises:
            Refused: INVALID, NOT_FOUND, CONFLICT, EXISTS.
        """
        return await self._change(Action.ENTRY_UPDATED, Batch(update=entries), how, actor)

    async def delete(self, ids: Sequence[EntryID], *, how: How = _AS_USUAL, actor: str) -> Changed:
        """Remove entries by their ids, and end what was signed for them.

        Raises:
            Refused: INVALID, NOT_FOUND.
        """
        return await self._change(Action.ENTRY_DELETED, Batch(delete=[(one, 0) for one in ids]), how, actor)

    async def apply(self, batch: Batch, *, how: How = _AS_USUAL, actor: str) -> Changed:
        """Create, update and delete entries together.

        Raises:
            Refused: INVALID, NOT_FOUND, CONFLICT, EXISTS.
        """
        return await self._change(Action.ENTRIES_APPLIED, batch, how, actor)

    async def try_out(self, batch: Batch, *, how: How = _AS_USUAL, actor: str) -> Changed:
        """Find what `apply` would do, and do nothing. Nothing is recorded, a refusal neither, and nobody waits for it.

        Raises:
            Refused: as apply.
        """
        _check_size(batch)
        ids, asked = _new_ids(batch), self._asked(how, actor)

        def work(tx: Transaction) -> Changed:
            plan = plan_in(tx, batch, ids, asked)
            warnings = advice_in(tx, plan, self.trust_domain)
            return Changed(entries=plan.entries, taken=plan.taken, warnings=warnings)

        async with self._turn_of(batch):
            return await self.datastore.read(work)

    async def _change(self, action: Action, batch: Batch, how: How, actor: str) -> Changed:
        """Carry out a batch; a refusal leaves nothing behind but an audit row, and the slices before it."""
        async with refusals_on_record(self.datastore, self.around.clock, action, actor=actor):
            _check_size(batch)
            ids = _new_ids(batch)
            if are_few([*batch.create, *batch.update], len(batch.update) + len(batch.delete), most=self.most):
                return await self._at_once(batch, ids, how, actor, advise=True)
            async with self._turn_of(batch):
                return await self._in_slices(action, batch, ids, how, actor)

    async def _at_once(
        self, batch: Batch, ids: Sequence[EntryID], how: How, actor: str, *, advise: bool = False
    ) -> Changed:
        """Carry out a batch in one transaction."""

        def work(tx: Transaction) -> Changed:
            asked = self._asked(how, actor)
            plan = plan_in(tx, batch, ids, asked)
            warnings = advice_in(tx, plan, self.trust_domain) if advise else ()
            return replace(carry_out_in(tx, plan, asked), warnings=warnings)

        changed = await self.datastore.write(work, expendable=bool(batch.create or batch.update))
        tell_committed(changed, watch=self.watch, metrics=self.around.metrics)
        return changed

    async def _in_slices(self, action: Action, batch: Batch, ids: Sequence[EntryID], how: How, actor: str) -> Changed:
        # 1. Check all of it.
        def check(tx: Transaction) -> _Checked:
            plan = plan_in(tx, batch, ids, self._asked(how, actor))
            return _Checked(
                unchanged={number: step.entry for number, step in enumerate(plan.steps) if step.action is None},
                warnings=advice_in(tx, plan, self.trust_domain),
                parts=list(slices(plan.steps, most=self.most)),
                change=tx.changes.head().number,
            )

        checked = await self.datastore.read(check)
        # 2. Carry it out. Between two slices, the writes that wait get their turns.
        entries, taken, change, done = dict(checked.unchanged), Taken(), checked.change, 0
        for part in checked.parts:
            own = [ids[number] for number in part if number < len(ids)]
            try:
                if done:
                    await self.datastore.write(_nothing)  # whoever waits need not share the commit of the next slice
                changed = await self._at_once(batch.part(part), own, how, actor)
            except Refused as e:
                raise _unfinished(e, action, done, sum(map(len, checked.parts))) from e
            entries |= zip(part, changed.entries, strict=True)
            taken, change, done = taken.plus(changed.taken), changed.change, done + len(part)
        every = tuple(entries[number] for number in range(len(batch)))
        return Changed(entries=every, taken=taken, warnings=checked.warnings, change=change)

    def _turn_of(self, batch: Batch) -> AbstractAsyncContextManager[None]:
        """What a batch waits for: a large one, until no other is checked or carried out."""
        return self._turn if len(batch) > self.most else nullcontext()

    def _asked(self, how: How, actor: str) -> Asked:
        return Asked(
            actor=actor,
            at=self.around.clock.now(),
            trust_domain=self.trust_domain,
            node_attestors=self.node_attestors,
            strict=how.strict,
            let_expire=how.let_expire,
        )


def _nothing(_: Transaction) -> None:
    pass


def _unfinished(refusal: Refused, action: Action, done: int, of: int) -> Refused:
    """A refusal that says how much was carried out before it, and how to go on."""
    if not done:
        return refusal
    detail = f"{refusal.detail}; {done} of {of} changes were made before"
    return Refused(refusal.kind, detail, hint=_HOW_TO_GO_ON[action], **refusal.facts).because(refusal.reason)


def _check_size(batch: Batch) -> None:
    if not 1 <= len(batch) <= MAX_BATCH:
        raise Refused(Kind.INVALID, f"entries: expected 1 to {MAX_BATCH}, found {len(batch)}")


def _new_ids(batch: Batch) -> list[EntryID]:
    digits = secrets.token_hex(len(batch.create) * _HEX // 2)
    return [EntryID(digits[at : at + _HEX]) for at in range(0, len(digits), _HEX)]
