"""Our own SPIFFE IDs, those of the issuer and the nodes; and the paths that nobody else may have.

Who may have any other ID is decided in issuer/decisions/registration.
"""

import re
from typing import NewType

from svid.spiffeid import SpiffeID, TrustDomain

__all__ = [
    "ACTORS",
    "MAX_NODE_NAME_BYTES",
    "NODE_NAME_RULE",
    "NodeID",
    "agent_and_component",
    "is_issuer",
    "is_node_name",
    "is_reserved",
    "issuer_id",
    "node_id_of",
    "node_spiffe_id",
]

NodeID = NewType("NodeID", str)
"""The issuer's name for a node: the last segment of its SPIFFE ID."""

MAX_NODE_NAME_BYTES = 253
"""As many as a host name may have."""

ACTORS = frozenset({"issuer", "many", "stranger"})
"""Who acts according to the audit record, where it is neither a node nor a uid; no node has one of these names."""

_NODE_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NODE_NAME_BYTES - 1}}}")  # no option, path or SPIFFE ID
NODE_NAME_RULE = (
    f"1 to {MAX_NODE_NAME_BYTES} of a-z A-Z 0-9 . _ - that begin with a letter or digit,"
    f" and none of {', '.join(sorted(ACTORS))}"
)
"""What `is_node_name` expects, in words."""

_RESERVED = ("/cognomen", "/spire")
"""Nobody else may have one of these paths or a path below one."""

_NODE_SEGMENTS = 4  # cognomen, node, attestor, id
_COMPONENT_SEGMENTS = 3  # agent, agent's name, component


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
    """Which node has this ID; None: it is not the ID of a node."""
    segments = spiffe_id.path[1:].split("/")
    if len(segments) != _NODE_SEGMENTS or segments[:2] != ["cognomen", "node"]:
        return None
    return NodeID(segments[3])


def agent_and_component(spiffe_id: SpiffeID) -> tuple[str, str]:
    """Which component of which agent of a rulebook has this ID; both empty: it is the ID of something else."""
    segments = spiffe_id.path[1:].split("/")
    if len(segments) != _COMPONENT_SEGMENTS or segments[0] != "agent":
        return "", ""
    return segments[1], segments[2]


def is_reserved(spiffe_id: SpiffeID) -> bool:
    """Whether this ID is reserved, so that no entry may claim it."""
    return any(spiffe_id.path == path or spiffe_id.is_below(path) for path in _RESERVED)


def is_node_name(text: str) -> bool:
    """Whether a node may have this name, which is for people: letters, digits, dots, dashes and underscores."""
    return _NODE_NAME.fullmatch(text) is not None and text.lower() not in ACTORS
