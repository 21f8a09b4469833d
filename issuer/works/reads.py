"""Reads that several flows need, inside their own transactions. issuer/queries reads what the doors show."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.errors import Kind, Reason, Refused
from cognomen.protocol.names import NodeID, issuer_id, node_id_of
from issuer.datastore.port import Transaction
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.authority import AuthorityState, bundle_of, tainted_ids
from issuer.decisions.entitlement import parents_of
from issuer.decisions.filters import EntryFilter
from issuer.decisions.revocation import Blocks
from svid.bundle import Bundle
from svid.errors import SpiffeIDError
from svid.keys import KeyID, thumbprint
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "active_node_in",
    "all_nodes_in",
    "blocks_in",
    "bundle_in",
    "crls_in",
    "entries_in",
    "groups_in",
    "named_node_in",
    "node_of_in",
    "own_keys_in",
    "parents_in",
    "tainted_in",
]

_PAGE = 1000


def bundle_in(tx: Transaction, trust_domain: TrustDomain) -> Bundle:
    """Our own bundle, as this transaction sees it."""
    return bundle_of(trust_domain, tx.authorities.list(), sequence=tx.bundles.sequence())


def own_keys_in(tx: Transaction) -> frozenset[str]:
    """The thumbprints of the keys that we sign with: those of every authority that ever existed, and of the audit's checkpoints.

    The keys of our own doors are in the ledger, like those of nodes and workloads.
    """
    ours = {thumbprint(one.public_key) for one in tx.authorities.list() if one.public_key}
    checkpoint = tx.checkpoints.latest()
    return frozenset(ours if checkpoint is None else ours | {checkpoint.key_thumbprint})


def tainted_in(tx: Transaction) -> tuple[str, ...]:
    """The tainted authorities in our own bundle, as this transaction sees them."""
    return tainted_ids(tx.authorities.list())


def crls_in(tx: Transaction, of: Collection[KeyID] | None = None) -> list[bytes]:
    """The newest revocation lists of the bundle's authorities, or only those of `of`, in DER, as this transaction sees them."""
    listed = {one.key_id for one in tx.authorities.list() if one.state is not AuthorityState.RETIRED}
    found = (tx.crls.get(key_id) for key_id in (listed if of is None else listed.intersection(of)))
    return [one.der for one in found if one is not None and one.der]


def groups_in(tx: Transaction, trust_domain: TrustDomain) -> Sequence[RegistrationEntry]:
    """Every node group, as this transaction sees it."""
    return tuple(tx.entries.below([issuer_id(trust_domain)]))


def blocks_in(tx: Transaction) -> Blocks:
    """What is blocked, as this transaction sees it."""
    return tx.revocations.blocks()


def parents_in(tx: Transaction, node: Node, *, blocks: Blocks, now: datetime) -> frozenset[SpiffeID]:
    """The parents whose entries are this node's, as this transaction sees it."""
    return parents_of(node, groups_in(tx, node.spiffe_id.trust_domain), blocks=blocks, now=now)


def entries_in(tx: Transaction, where: EntryFilter) -> Iterator[RegistrationEntry]:
    """Every entry that matches, in id order, as this transaction sees it."""
    after = ""
    while page := tx.entries.find(where, after=after, limit=_PAGE):
        yield from page
        after = page[-1].id


def active_node_in(tx: Transaction, node_id: NodeID) -> Node:
    """The node as this transaction sees it, whatever it was when its call began.

    Raises:
        Refused: DENIED
    """
    node = tx.nodes.get(node_id)
    if node is None or node.state is not NodeState.ACTIVE:
        reason = Reason.EVICTED if node is None else Reason.BANNED
        raise Refused(Kind.DENIED, "node: banned or gone", node=node_id).because(reason)
    return node


def named_node_in(tx: Transaction, text: str) -> Node:
    """One node, by its id, SPIFFE ID or name; a SPIFFE ID means only the node that has exactly this one.

    Raises:
        Refused: NOT_FOUND; INVALID for a SPIFFE ID that is not a node's; CONFLICT for the id of one node that is another's name.
    """
    one = _with_spiffe_id_in(tx, text) if text.startswith("spiffe://") else _with_id_or_name_in(tx, text)
    if one is None:
        raise Refused(
            Kind.NOT_FOUND,
            f"node: no node has the id, SPIFFE ID or name {text}",
            hint="list the nodes: cognomen node list",
        )
    return one


def node_of_in(tx: Transaction, spiffe_id: SpiffeID) -> Node | None:
    """The node that has this SPIFFE ID; its id alone would also be part of IDs of another trust domain or node attestor."""
    node_id = node_id_of(spiffe_id)
    found = None if node_id is None else tx.nodes.get(node_id)
    return found if found is not None and found.spiffe_id == spiffe_id else None


def _with_spiffe_id_in(tx: Transaction, text: str) -> Node | None:
    try:
        spiffe_id = SpiffeID.parse(text)
    except SpiffeIDError as e:
        raise Refused(Kind.INVALID, f"id: {e}") from e
    if node_id_of(spiffe_id) is None:
        raise Refused(Kind.INVALID, f"id: expected a node's id, SPIFFE ID or name, found {text!r}")
    return node_of_in(tx, spiffe_id)


def _with_id_or_name_in(tx: Transaction, text: str) -> Node | None:
    if not text:
        raise Refused(Kind.INVALID, "id: expected a node's id, SPIFFE ID or name, found ''")
    by_id, named = tx.nodes.get(NodeID(text)), tx.nodes.named(text)
    if named is not None and by_id is not None and named.id != by_id.id:
        raise Refused(
            Kind.CONFLICT,
            f"node: {text} is the id of one node and the name of another",
            hint=f"name it by its SPIFFE ID, or give the other a new name: cognomen node rename {named.id} NEW-NAME",
        )
    return by_id or named


def all_nodes_in(tx: Transaction) -> Iterator[Node]:
    """Every node, as this transaction sees it."""
    after = ""
    while page := tx.nodes.find(after=after, limit=_PAGE):
        yield from page
        after = page[-1].id
