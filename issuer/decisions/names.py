"""The SPIFFE IDs that are ours: the issuer's and the nodes'; which paths nobody else may hold.

Who may hold any other ID is decided in registration.
"""

from issuer.decisions.audit import NodeID
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["is_issuer", "is_reserved", "issuer_id", "node_id_of", "node_spiffe_id"]

_RESERVED = ("/cognomen", "/spire")
"""Nobody but us holds a path that is one of these or lies below."""

_NODE_SEGMENTS = 4  # cognomen, node, attestor, id


def issuer_id(trust_domain: TrustDomain) -> SpiffeID:
    """The issuer's own SPIFFE ID, and the parent of every node group."""
    return SpiffeID.from_segments(trust_domain, "cognomen", "issuer")


def node_spiffe_id(trust_domain: TrustDomain, attestor: str, node_id: NodeID) -> SpiffeID:
    """A node's SPIFFE ID."""
    return SpiffeID.from_segments(trust_domain, "cognomen", "node", attestor, node_id)


def is_issuer(spiffe_id: SpiffeID) -> bool:
    """Whether this is an issuer's ID."""
    return spiffe_id.path == "/cognomen/issuer"


def node_id_of(spiffe_id: SpiffeID) -> NodeID | None:
    """Which node holds this ID; None: it is no node's."""
    segments = spiffe_id.path[1:].split("/")
    if len(segments) != _NODE_SEGMENTS or segments[:2] != ["cognomen", "node"]:
        return None
    return NodeID(segments[3])


def is_reserved(spiffe_id: SpiffeID) -> bool:
    """Whether no entry may claim this ID."""
    return any(spiffe_id.path == path or spiffe_id.is_below(path) for path in _RESERVED)
