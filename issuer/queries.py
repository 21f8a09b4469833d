"""The reads that the doors show, each in its own transaction. issuer/works/reads has the reads inside the flows' transactions."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from cognomen.protocol.auditlog import AuditRow, Checkpoint
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.meaning import Meaning, Nameable
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import Node
from issuer.decisions.coverage import silent_nodes
from issuer.decisions.entitlement import blocked_by, parents_of
from issuer.decisions.filters import AuditFilter, EntryFilter, LedgerFilter
from issuer.decisions.ledger import Credential
from issuer.decisions.observing import ObservedEntry, ObservedProgram
from issuer.decisions.revocation import Blocks, Revocation
from issuer.decisions.uses import NotedUse, UseFilter
from issuer.works.naming import meanings_in
from issuer.works.reads import all_nodes_in, blocks_in, bundle_in, entries_in, groups_in, named_node_in, parents_in
from svid.bundle import Bundle
from svid.keys import KeyID
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["Queries"]

_MOST_ROWS_READ = 10_000  # of the audit record in one call, which may look at rows that do not match
_MOST_BYTES_READ = 32 << 20
_MOST_ON_A_PAGE = 4 << 20  # bytes of rows, or characters of entries: a page fits into a message, however large they are


class Queries:
    """Reads what the doors show."""

    def __init__(self, datastore: Datastore, trust_domain: TrustDomain) -> None:
        self._datastore = datastore
        self._trust_domain = trust_domain

    async def get_bundle(self) -> Bundle:
        """Our own bundle."""
        return await self._datastore.read(lambda tx: bundle_in(tx, self._trust_domain))

    async def get_bundle_and_authorities(self) -> tuple[Bundle, Sequence[KeyID]]:
        """Our own bundle, and which authorities are in it."""

        def work(tx: Transaction) -> tuple[Bundle, Sequence[KeyID]]:
            listed = [one.key_id for one in tx.authorities.list() if one.is_published]
            return bundle_in(tx, self._trust_domain), listed

        return await self._datastore.read(work)

    async def wait_for_change(self, after: int) -> int:
        """As Datastore.wait_for_change."""
        return await self._datastore.wait_for_change(after)

    async def get_node(self, name: str) -> Node:
        """One node, by its id, SPIFFE ID or name.

        Raises:
            Refused: as works/reads.named_node_in.
        """
        return await self._datastore.read(lambda tx: named_node_in(tx, name))

    async def has_node(self, node_id: NodeID) -> bool:
        """Whether there is a node with that id."""
        return await self._datastore.read(lambda tx: tx.nodes.get(node_id)) is not None

    async def list_nodes(self, *, after: str, limit: int) -> Sequence[Node]:
        """A page of nodes in id order."""
        return await self._datastore.read(lambda tx: tx.nodes.find(after=after, limit=limit))

    async def get_entry(self, entry_id: EntryID) -> RegistrationEntry:
        """One entry.

        Raises:
            Refused: NOT_FOUND
        """
        found = await self._datastore.read(lambda tx: tx.entries.get([entry_id]))
        if entry_id not in found:
            raise Refused(
                Kind.NOT_FOUND,
                f"entry: no entry has the id {entry_id!r}",
                hint="list the entries: cognomen entry list",
            )
        return found[entry_id]

    async def list_entries(
        self, where: EntryFilter, *, after: str, limit: int
    ) -> tuple[Sequence[RegistrationEntry], str]:
        """A page of entries in id order, and the id that the next page follows; empty: there is none.

        A page is short when its entries are large: it ends with the one that reaches 4 Mi characters.
        """

        def work(tx: Transaction) -> tuple[Sequence[RegistrationEntry], str]:
            found: list[RegistrationEntry] = []
            size = 0
            for entry in tx.entries.each(where, after=after, limit=limit):
                found.append(entry)
                size += _characters_of(entry)
                if len(found) == limit or size >= _MOST_ON_A_PAGE:
                    return found, entry.id
            return found, ""

        return await self._datastore.read(work)

    async def list_blocked(
        self, where: EntryFilter, node: Node, *, now: datetime, limit: int
    ) -> Sequence[tuple[RegistrationEntry, Revocation]]:
        """Entries that would be this node's without revocations, and the revocation that blocks each; by parent and id."""

        def work(tx: Transaction) -> Sequence[tuple[RegistrationEntry, Revocation]]:
            parents, blocks = sorted(parents_in(tx, node, blocks=Blocks(), now=now), key=str), blocks_in(tx)
            own = itertools.chain.from_iterable(entries_in(tx, replace(where, parent_id=parent)) for parent in parents)
            blocked = (one for one in own if blocks.node(node) or blocks.entry(one))
            standing = tx.revocations.standing()
            found = ((entry, blocked_by(entry, node, [one])) for entry in blocked for one in standing)
            named = ((entry, revocation) for entry, revocation in found if revocation is not None)
            return list(itertools.islice(named, limit))

        return await self._datastore.read(work)

    async def list_credentials(
        self, where: LedgerFilter, *, before: int, limit: int
    ) -> Sequence[tuple[Credential, datetime | None]]:
        """A page of the ledger, newest first, with the time when each was revoked or its authority left, if it ended early."""
        return await self._datastore.read(lambda tx: _with_ends(tx, tx.ledger.find(where, before=before, limit=limit)))

    async def follow_ledger(self, *, after: int, limit: int) -> Sequence[tuple[Credential, datetime | None]]:
        """A page of the ledger in the order in which it was recorded, with the same times."""
        return await self._datastore.read(lambda tx: _with_ends(tx, tx.ledger.after(after, limit=limit)))

    async def list_uses(self, where: UseFilter, *, after: int, limit: int) -> tuple[Sequence[NotedUse], datetime]:
        """A page of uses in the order in which they were first reported, and when uses began to be recorded."""
        return await self._datastore.read(lambda tx: (tx.uses.find(where, after=after, limit=limit), tx.uses.since()))

    async def last_used(self, entry_ids: Sequence[EntryID]) -> tuple[Mapping[EntryID, datetime], datetime]:
        """When those of these entries that were used were last used, and when uses began to be recorded."""
        return await self._datastore.read(lambda tx: (tx.uses.last(entry_ids), tx.uses.since()))

    async def list_observed(
        self, below: SpiffeID | None, *, since: datetime | None, after: str, limit: int, most: int
    ) -> Sequence[tuple[ObservedEntry, Sequence[ObservedProgram], int]]:
        """A page of the entries that only observe, each with what it would have given to whom, and how much more that was.

        Args:
            since: what lasted until then or later; None: any.
            most: how many programs of each entry.
        """

        def work(tx: Transaction) -> Sequence[tuple[ObservedEntry, Sequence[ObservedProgram], int]]:
            found = tx.observations.find(below, after=after, limit=limit)
            return [
                (one, *tx.observations.programs(one.entry_id, since=max(one.since, since or one.since), limit=most))
                for one in found
            ]

        return await self._datastore.read(work)

    async def silent_below(
        self, parents: Collection[SpiffeID], *, since: datetime, now: datetime, seen: Callable[[Node], Node]
    ) -> Sequence[tuple[Node, frozenset[SpiffeID]]]:
        """The nodes that did not report all uses since then, and which of these parents each has; without those that have none.

        Args:
            seen: returns a node's row with what is known of it, but not stored yet.
        """

        def work(tx: Transaction) -> Sequence[tuple[Node, frozenset[SpiffeID]]]:
            groups, blocks, began = groups_in(tx, self._trust_domain), blocks_in(tx), tx.uses.since()
            silent = silent_nodes(map(seen, all_nodes_in(tx)), recorded_since=began, since=since, until=now)
            found = ((node, parents_of(node, groups, blocks=blocks, now=now).intersection(parents)) for node in silent)
            return [(node, theirs) for node, theirs in found if theirs]

        return await self._datastore.read(work)

    async def silent_among(
        self, node_ids: Collection[NodeID], *, since: datetime, until: datetime, seen: Callable[[Node], Node]
    ) -> Sequence[Node]:
        """Those of these nodes that exist and did not report all uses in that time; `seen` as above."""

        def work(tx: Transaction) -> Sequence[Node]:
            nodes = [seen(node) for node in map(tx.nodes.get, node_ids) if node is not None]
            return silent_nodes(nodes, recorded_since=tx.uses.since(), since=since, until=until)

        return await self._datastore.read(work)

    async def newest_audit(self, *, limit: int) -> Sequence[AuditRow]:
        """The last rows of the record of decisions, oldest first; fewer if they are large."""

        def work(tx: Transaction) -> Sequence[AuditRow]:
            last = tx.audit.head()[0]
            found: list[AuditRow] = []
            size = 0
            for number in range(last, max(0, last - limit), -1):
                rows = [row for row in tx.audit.rows(after=number - 1, limit=1) if row.number == number]
                found += rows
                size += sum(len(row.body) for row in rows)
                if size >= _MOST_ON_A_PAGE:
                    break
            return found[::-1]

        return await self._datastore.read(work)

    async def list_audit(self, where: AuditFilter, *, after: int, limit: int) -> tuple[Sequence[AuditRow], int]:
        """A page of the record of decisions: rows after a number, and the number that the next page follows; 0: there is none.

        A page is short, or even empty, when many rows were read that do not match, or when rows are large: no call keeps the store for
        long, and a page fits into a message. It ends with the row that reaches a limit.
        """

        def work(tx: Transaction) -> tuple[Sequence[AuditRow], int]:
            entry_id = where.entry_id
            rows = tx.audit.each(after=after) if entry_id is None else tx.audit.of_entry(entry_id, after=after)
            found: list[AuditRow] = []
            size = size_read = 0
            for read, row in enumerate(rows, 1):
                size_read += len(row.body)
                if where.admits(row):
                    found.append(row)
                    size += len(row.body)
                is_full = len(found) == limit or size >= _MOST_ON_A_PAGE
                if is_full or read == _MOST_ROWS_READ or size_read >= _MOST_BYTES_READ:
                    return found, row.number
            return found, 0

        return await self._datastore.read(work)

    async def resolve(self, kind: Nameable, texts: Sequence[str], *, with_past: bool) -> Sequence[Sequence[Meaning]]:
        """What each of these texts can mean: nothing, one thing or several."""
        return await self._datastore.read(
            lambda tx: [meanings_in(tx, kind, text, self._trust_domain, with_past=with_past) for text in texts]
        )

    async def list_checkpoints(self, *, limit: int) -> Sequence[Checkpoint]:
        """The newest checkpoints, oldest first."""
        return await self._datastore.read(lambda tx: tx.checkpoints.newest(limit))


def _characters_of(entry: RegistrationEntry) -> int:
    """About how long it is, without the cost of encoding it."""
    texts = (entry.spiffe_id.path, entry.parent_id.path, entry.hint, entry.owner, *entry.dns_names)
    labels = sum(len(key) + len(value) for key, value in entry.labels.items())
    return sum(map(len, texts)) + labels + sum(len(one.type) + len(one.value) for one in entry.selectors)


def _with_ends(tx: Transaction, found: Sequence[Credential]) -> Sequence[tuple[Credential, datetime | None]]:
    """Each credential with the time when it was revoked or its authority left, if it ended early."""
    revocations = [tx.revocations.get(number) for number in {one.revocation for one in found}]
    revoked = {one.number: one.at for one in revocations if one is not None}
    retired = {one.key_id: one.retired_at for one in tx.authorities.list()}
    moments = [(revoked.get(one.revocation), retired.get(one.authority_id)) for one in found]
    ends = [[at for at in both if at is not None] for both in moments]
    return [
        (one, min((at for at in each if at < one.not_after), default=None))
        for one, each in zip(found, ends, strict=True)
    ]
