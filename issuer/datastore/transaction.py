"""A transaction over an adapter's tables: this does what is the same for every adapter.

That is the audit chain, the fingerprints of entries, how long what an authority signed is valid, what can be denied and for how
long, and how many checkpoints are kept.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from cognomen.protocol.auditlog import GENESIS, AuditRow, Checkpoint
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.witness import Heard, thinned
from issuer.datastore.ledgerport import Ledger, Observations, Use, Uses
from issuer.datastore.limitport import IssuanceLimits
from issuer.datastore.port import (
    Audit,
    Authorities,
    Bundles,
    Changes,
    Checkpoints,
    Entries,
    Exports,
    Ids,
    Nodes,
    Times,
    Tokens,
)
from issuer.datastore.revocationport import CRLs, Denials, Denied, Revocations, Supersessions
from issuer.datastore.rulebookport import HeldAgents, Rulebooks
from issuer.datastore.tables import (
    AuditTable,
    AuthorityTable,
    ChangeOfEntry,
    CheckpointTable,
    DenialRow,
    DenialTable,
    EntryRow,
    EntryTable,
    LedgerTable,
)
from issuer.decisions.audit import AuditEvent, chain
from issuer.decisions.authority import Authority
from issuer.decisions.crl import DeniedCertificate
from issuer.decisions.exchanged import Exchanged, exchanged_of
from issuer.decisions.falling import MOST_GROUPS, Falling
from issuer.decisions.filters import EntryFilter, LedgerFilter
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from issuer.decisions.minting import Holder
from issuer.decisions.registration import fingerprint
from issuer.decisions.revocation import MAX_OVER, Live, deniable_at
from svid.denials import OPEN_FOR, Denial, number_of_jti
from svid.keys import KeyID
from svid.spiffeid import SpiffeID

__all__ = ["TableTransaction"]

_NEWEST_CHECKPOINTS = 500
_MOST_CHECKPOINTS = 2000  # more than are ever kept


class TableTransaction:
    """One transaction over an adapter's tables. It has no state of its own and may serve one transaction after another."""

    def __init__(
        self,
        *,
        entries: EntryTable,
        nodes: Nodes,
        tokens: Tokens,
        bundles: Bundles,
        authorities: AuthorityTable,
        exports: Exports,
        rulebooks: Rulebooks,
        agents: HeldAgents,
        limits: IssuanceLimits,
        ledger: LedgerTable,
        revocations: Revocations,
        denials: DenialTable,
        supersessions: Supersessions,
        crls: CRLs,
        uses: Uses,
        observations: Observations,
        changes: Changes,
        times: Times,
        checkpoints: CheckpointTable,
        audit: AuditTable,
        ids: Ids,
    ) -> None:
        self.entries: Entries = _Entries(entries)
        self.nodes = nodes
        self.tokens = tokens
        self.bundles = bundles
        self.authorities: Authorities = _Authorities(authorities)
        self.exports = exports
        self.rulebooks = rulebooks
        self.agents = agents
        self.limits = limits
        self.ledger: Ledger = _Ledger(ledger, authorities)
        self.revocations = revocations
        self.denials: Denials = _Denials(denials)
        self.supersessions = supersessions
        self.crls = crls
        self.uses = uses
        self.observations = observations
        self.changes = changes
        self.times = times
        self.checkpoints: Checkpoints = _Checkpoints(checkpoints)
        self.audit: Audit = _Audit(audit)
        self.ids = ids


class _Entries:
    """Registration entries, distinguished by their fingerprints."""

    def __init__(self, table: EntryTable) -> None:
        self._table = table

    def get(self, ids: Collection[EntryID]) -> Mapping[EntryID, RegistrationEntry]:
        return self._table.get(ids)

    def find(self, where: EntryFilter, *, after: str, limit: int) -> Sequence[RegistrationEntry]:
        return self._table.find(where, after=after, limit=limit)

    def each(self, where: EntryFilter, *, after: str, limit: int) -> Iterator[RegistrationEntry]:
        return self._table.each(where, after=after, limit=limit)

    def below(self, parents: Collection[SpiffeID]) -> Iterator[RegistrationEntry]:
        return self._table.below(parents)

    def alike(self, entry: RegistrationEntry, *, most: int) -> int:
        return self._table.alike(entry, most=most)

    def twins(self, entries: Collection[RegistrationEntry]) -> Mapping[EntryID, EntryID]:
        rows = _rows(entries)
        taken = self._table.taken({row.fingerprint for row in rows})
        found = ((entry.id, taken.get(name)) for entry, name in rows)
        return {own: other for own, other in found if other is not None and other != own}

    def insert(self, entries: Sequence[RegistrationEntry]) -> None:
        self._table.insert(_rows(entries))

    def replace(self, entries: Sequence[RegistrationEntry]) -> None:
        self._table.replace(_rows(entries))

    def delete(self, ids: Sequence[EntryID]) -> None:
        self._table.delete(ids)


def _rows(entries: Collection[RegistrationEntry]) -> list[EntryRow]:
    return [EntryRow(entry, fingerprint(entry)) for entry in entries]


class _Authorities:
    """Signing authorities, whose last_not_after never becomes earlier."""

    def __init__(self, table: AuthorityTable) -> None:
        self._table = table

    def list(self) -> Sequence[Authority]:
        return self._table.list()

    def put(self, authority: Authority) -> None:
        self._table.put(authority)
        if authority.last_not_after is not None:
            self._table.extend({authority.key_id: authority.last_not_after})


class _Ledger:
    """The ledger, which notes for each authority how long what it signed is valid."""

    def __init__(self, table: LedgerTable, authorities: AuthorityTable) -> None:
        self._table = table
        self._authorities = authorities

    def record(self, credentials: Sequence[Credential]) -> None:
        self._table.add(credentials)
        ends: dict[KeyID, datetime] = {}
        for credential in credentials:
            if credential.kind is not CredentialKind.AUTHORITY:
                end = credential.not_after
                ends[credential.authority_id] = max(end, ends.get(credential.authority_id, end))
        self._authorities.extend(ends)

    def resolve(self, serials: Collection[str], state: CredentialState) -> None:
        self._table.resolve(serials, state)

    def get(self, serial: str) -> Credential | None:
        return self._table.get(serial)

    def among(self, serials: Collection[str]) -> Iterator[Credential]:
        return self._table.among(serials)

    def holders(self, key_hashes: Collection[str]) -> Mapping[str, Holder]:
        return self._table.holders(key_hashes)

    def find(self, where: LedgerFilter, *, before: int, limit: int) -> Sequence[Credential]:
        return self._table.find(where, before=before, limit=limit)

    def after(self, number: int, *, limit: int) -> Sequence[Credential]:
        return self._table.after(number, limit=limit)

    def uses(self, *, tainted: Collection[KeyID], now: datetime) -> Mapping[KeyID, Use]:
        return self._table.uses(tainted=tainted, now=now)


class _Denials:
    """What was denied and what can be denied, by the limits of decisions/revocation."""

    def __init__(self, table: DenialTable) -> None:
        self._table = table

    def count(self) -> int:
        return self._table.count()

    def last_end(self, revocation: int) -> datetime | None:
        return self._table.last_end(revocation)

    def of_authority(self, authority_id: KeyID) -> Sequence[DeniedCertificate]:
        return self._table.of_authority(authority_id)

    def falling(self, where: Live, *, now: datetime) -> Falling:
        return self._table.falling(where, now=now, most=MOST_GROUPS)

    def exchanged(self, where: Live, *, longest_lives: Mapping[str, timedelta], now: datetime) -> Sequence[Exchanged]:
        if not longest_lives:
            return ()
        since = now - max(longest_lives.values())
        ends = self._table.last_ends(where, audiences=longest_lives.keys(), since=since, now=now)
        return exchanged_of(ends, longest_lives, now=now)

    def is_any(self, where: Live, *, now: datetime, is_leak: bool = False) -> bool:
        return self._table.is_any(where, when=deniable_at(now), is_leak=is_leak)

    def deny(self, where: Live, *, revocation: int, now: datetime) -> Denied:
        return self._table.deny(where, revocation=revocation, when=deniable_at(now), most_over=MAX_OVER)

    def compromise(self, where: Live, *, revocation: int, now: datetime) -> int:
        return self._table.compromise(where, revocation=revocation, when=deniable_at(now))

    def of(self, revocations: Collection[int]) -> Iterator[Denial]:
        return _denials(self._table.of(revocations))

    def all(self) -> Iterator[Denial]:
        return _denials(self._table.all())

    def prune(self, *, ended_before: datetime, now: datetime) -> None:
        self._table.prune(ended_before=ended_before, certificates_before=ended_before - OPEN_FOR, when=deniable_at(now))


def _denials(rows: Iterator[DenialRow]) -> Iterator[Denial]:
    for serial, kind, not_after in rows:
        if (number := number_of_jti(serial)) is not None:
            longer = timedelta() if kind is CredentialKind.JWT else OPEN_FOR
            yield Denial(number, not_after + longer)


class _Audit:
    """The chained record of decisions. Its head is read in the transaction that adds to it."""

    def __init__(self, table: AuditTable) -> None:
        self._table = table

    def append(self, events: Sequence[AuditEvent]) -> None:
        number, head = self.head()
        rows = list(chain(events, number=number, head=head))
        changed = ((event.changed_entry, row.number) for event, row in zip(events, rows, strict=True))
        self._table.add(rows, [ChangeOfEntry(one.id, at, one.spiffe_id) for one, at in changed if one is not None])

    def head(self) -> tuple[int, bytes]:
        return self._table.head() or (0, GENESIS)

    def rows(self, *, after: int, limit: int) -> Sequence[AuditRow]:
        return self._table.rows(after=after, limit=limit)

    def each(self, *, after: int) -> Iterator[AuditRow]:
        return self._table.each(after=after)

    def of_entry(self, entry_id: EntryID, *, after: int) -> Iterator[AuditRow]:
        return self._table.of_entry(entry_id, after=after)


class _Checkpoints:
    """The latest signed checkpoints, and fewer of the older ones."""

    def __init__(self, table: CheckpointTable) -> None:
        self._table = table

    def add(self, checkpoint: Checkpoint) -> None:
        self._table.add(checkpoint)
        known = self._table.newest(_MOST_CHECKPOINTS)
        held = [Heard(checkpoint=one, at=one.at) for one in known]  # the times are of our own clock
        kept = {id(one.checkpoint) for one in thinned(held, newest=_NEWEST_CHECKPOINTS, now=checkpoint.at)}
        self._table.forget([one for one in known if id(one) not in kept])

    def latest(self) -> Checkpoint | None:
        return next(iter(self._table.newest(1)), None)

    def newest(self, limit: int) -> Sequence[Checkpoint]:
        return self._table.newest(limit)
