"""The reads: what the doors show and the flows look up, inside somebody's transaction or in one of their own."""

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Datastore, EntryFilter, LedgerFilter, Transaction
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.audit import Credential, NodeID
from issuer.decisions.authority import AuthorityState, bundle_of, tainted_ids
from issuer.decisions.entitlement import blocked_by, parents_of
from issuer.decisions.names import issuer_id, node_id_of
from issuer.decisions.revocation import Blocks, Revocation
from svid.bundle import Bundle
from svid.entry import EntryID, RegistrationEntry
from svid.errors import SpiffeIDError
from svid.keys import KeyID
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "active_node_in",
    "all_nodes_in",
    "blocks_in",
    "bundle_in",
    "crls_in",
    "entries_in",
    "get_bundle",
    "get_entry",
    "get_node",
    "groups_in",
    "list_blocked",
    "list_credentials",
    "list_entries",
    "list_nodes",
    "parents_in",
    "tainted_in",
]

_PAGE = 1000


def bundle_in(tx: Transaction, trust_domain: TrustDomain) -> Bundle:
    """Our own bundle, as this transaction sees it."""
    return bundle_of(trust_domain, tx.authorities.list(), sequence=tx.bundles.sequence())


def tainted_in(tx: Transaction) -> tuple[str, ...]:
    """The tainted authorities in our own bundle, as this transaction sees them."""
    return tainted_ids(tx.authorities.list())


def crls_in(tx: Transaction, of: Collection[KeyID] | None = None) -> list[bytes]:
    """The newest revocation lists of the bundle's authorities, or of those among these, DER, as this transaction sees them."""
    listed = {one.key_id for one in tx.authorities.list() if one.state is not AuthorityState.RETIRED}
    found = (tx.crls.get(key_id) for key_id in (listed if of is None else listed.intersection(of)))
    return [one.der for one in found if one is not None and one.der]


def groups_in(tx: Transaction, trust_domain: TrustDomain) -> Sequence[RegistrationEntry]:
    """Every node group, as this transaction sees it."""
    return tuple(tx.entries.below([issuer_id(trust_domain)]))


def blocks_in(tx: Transaction) -> Blocks:
    """Who gets nothing signed any more, as this transaction sees it."""
    return tx.revocations.blocks()


def parents_in(tx: Transaction, node: Node, *, blocks: Blocks, now: datetime) -> frozenset[SpiffeID]:
    """The parents whose entries are this node's, as this transaction sees it."""
    return parents_of(node, groups_in(tx, node.spiffe_id.trust_domain), blocks=blocks, now=now)


def entries_in(tx: Transaction, where: EntryFilter) -> Iterator[RegistrationEntry]:
    """Every entry that fits, in id order, as this transaction sees it."""
    after = ""
    while page := tx.entries.find(where, after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def active_node_in(tx: Transaction, node_id: NodeID) -> Node:
    """The node as it stands now, in this transaction, whatever it was when its call began.

    Raises:
        Refused: DENIED
    """
    node = tx.nodes.get(node_id)
    if node is None or node.state is not NodeState.ACTIVE:
        raise Refused(Kind.DENIED, "node: banned or gone", node=node_id)
    return node


def all_nodes_in(tx: Transaction) -> Iterator[Node]:
    """Every node, as this transaction sees it."""
    after = ""
    while page := tx.nodes.find(after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


async def get_bundle(datastore: Datastore, trust_domain: TrustDomain) -> Bundle:
    """Our own bundle."""
    return await datastore.read(lambda tx: bundle_in(tx, trust_domain))


async def get_node(datastore: Datastore, name: str) -> Node:
    """One node, by its id or SPIFFE ID.

    Raises:
        Refused: NOT_FOUND; INVALID for a SPIFFE ID that is no node's.
    """
    node_id: NodeID | None = NodeID(name)
    if name.startswith("spiffe://"):
        try:
            node_id = node_id_of(SpiffeID.parse(name))
        except SpiffeIDError as e:
            raise Refused(Kind.INVALID, f"id: {e}") from e
    if not node_id:
        raise Refused(Kind.INVALID, f"id: expected a node's id or SPIFFE ID, found {name!r}")
    found = await datastore.read(lambda tx: tx.nodes.get(node_id))
    if found is None:
        raise Refused(Kind.NOT_FOUND, f"node: no node is {name}", hint="nodes are listed by: cognomen node list")
    return found


async def list_nodes(datastore: Datastore, *, after: str, limit: int) -> Sequence[Node]:
    """A page of nodes in id order."""
    return await datastore.read(lambda tx: tx.nodes.find(after=after, limit=limit))


async def get_entry(datastore: Datastore, entry_id: EntryID) -> RegistrationEntry:
    """One entry.

    Raises:
        Refused: NOT_FOUND
    """
    found = await datastore.read(lambda tx: tx.entries.get([entry_id]))
    if entry_id not in found:
        raise Refused(
            Kind.NOT_FOUND,
            f"entry: no entry has the id {entry_id!r}",
            hint="entries are listed by: cognomen entry list",
        )
    return found[entry_id]


async def list_entries(
    datastore: Datastore, where: EntryFilter, *, after: str, limit: int
) -> Sequence[RegistrationEntry]:
    """A page of entries in id order."""
    return await datastore.read(lambda tx: tx.entries.find(where, after=after, limit=limit))


async def list_blocked(
    datastore: Datastore, where: EntryFilter, node: Node, *, now: datetime, limit: int
) -> Sequence[tuple[RegistrationEntry, Revocation]]:
    """Entries that would be this node's, but for revocations; with each of those, by parent and id."""

    def work(tx: Transaction) -> Sequence[tuple[RegistrationEntry, Revocation]]:
        parents, blocks = sorted(parents_in(tx, node, blocks=Blocks(), now=now), key=str), blocks_in(tx)
        own = itertools.chain.from_iterable(entries_in(tx, replace(where, parent_id=parent)) for parent in parents)
        blocked = (one for one in own if blocks.node(node) or blocks.entry(one))
        standing = tx.revocations.standing()
        found = ((entry, blocked_by(entry, node, [one])) for entry in blocked for one in standing)
        named = ((entry, revocation) for entry, revocation in found if revocation is not None)
        return list(itertools.islice(named, limit))

    return await datastore.read(work)


async def list_credentials(
    datastore: Datastore, where: LedgerFilter, *, before: int, limit: int
) -> Sequence[tuple[Credential, datetime | None]]:
    """A page of the ledger, newest first; with the moment at which each was revoked, or its authority left, before its own end."""

    def work(tx: Transaction) -> Sequence[tuple[Credential, datetime | None]]:
        found = tx.ledger.find(where, before=before, limit=limit)
        revocations = [tx.revocations.get(number) for number in {one.revocation for one in found}]
        revoked = {one.number: one.at for one in revocations if one is not None}
        retired = {one.key_id: one.retired_at for one in tx.authorities.list()}
        moments = [(revoked.get(one.revocation), retired.get(one.authority_id)) for one in found]
        ends = [[at for at in both if at is not None] for both in moments]
        return [
            (one, min((at for at in each if at < one.not_after), default=None))
            for one, each in zip(found, ends, strict=True)
        ]

    return await datastore.read(work)
