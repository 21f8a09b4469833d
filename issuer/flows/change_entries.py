"""Create, update and delete registration entries: each batch is one transaction, all or nothing."""

import secrets
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings
from issuer.works.entrychanges import Asked, Batch, Changed, change_entries_in, record_changes_in
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


class _Undone(Exception):  # noqa: N818 - no error
    """Undoes what a dry run wrote; carries what it found."""

    def __init__(self, changed: Changed) -> None:
        super().__init__("dry run")
        self.changed = changed


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEntries:
    """Changes entries on behalf of an operator. An update that changes nothing leaves neither a revision nor a trace.

    Args:
        node_attestors: the names of the node attestors.
    """

    datastore: Datastore
    around: Surroundings
    trust_domain: TrustDomain
    node_attestors: Collection[str]
    watch: EnforcementWatch

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
        """Do what `apply` does, and undo it in the same transaction: nothing is recorded, a refusal neither.

        Raises:
            Refused: as apply.
        """
        _check_size(batch)
        ids = _new_ids(batch)

        def work(tx: Transaction) -> None:
            raise _Undone(change_entries_in(tx, batch, ids, self._asked(how, actor)))

        try:
            await self.datastore.write(work, expendable=True)
        except _Undone as undone:
            return undone.changed
        raise AssertionError("a dry run ended without a result")

    async def _change(self, action: Action, batch: Batch, how: How, actor: str) -> Changed:
        """Carry out a batch; a refusal leaves nothing behind but an audit row."""
        async with refusals_on_record(self.datastore, self.around.clock, action, actor=actor):
            _check_size(batch)
            ids = _new_ids(batch)

            def work(tx: Transaction) -> Changed:
                asked = self._asked(how, actor)
                return record_changes_in(tx, change_entries_in(tx, batch, ids, asked), asked)

            changed = await self.datastore.write(work, expendable=bool(batch.create or batch.update))
        for revocation in changed.taken.revocations:
            self.watch.committed(revocation)
        for done, count in Counter(step.action for step in changed.steps).items():
            if done is not None:
                self.around.metrics.entries_changed.labels(done).inc(count)
        return changed

    def _asked(self, how: How, actor: str) -> Asked:
        return Asked(
            actor=actor,
            at=self.around.clock.now(),
            trust_domain=self.trust_domain,
            node_attestors=self.node_attestors,
            strict=how.strict,
            let_expire=how.let_expire,
        )


def _check_size(batch: Batch) -> None:
    found = len(batch.create) + len(batch.update) + len(batch.delete)
    if not 1 <= found <= MAX_BATCH:
        raise Refused(Kind.INVALID, f"entries: expected 1 to {MAX_BATCH}, found {found}")


def _new_ids(batch: Batch) -> list[EntryID]:
    return [EntryID(secrets.token_hex(16)) for _ in batch.create]
