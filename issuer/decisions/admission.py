"""Who may be a node: tokens, nodes, and the rules that admit a joiner or a node's call.

The kernel of a node attestor's own proof is its plugin's (issuer/nodeattestor); what the store knows is added here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from issuer.decisions.audit import NodeID
from svid.selector import Selector
from svid.spiffeid import SpiffeID

__all__ = ["Node", "NodeState", "Token"]


class NodeState(StrEnum):
    """Whether a node may call."""

    ACTIVE = "active"
    BANNED = "banned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A join token's row; the token itself is known to the invite only.

    Args:
        hash: SHA-256 of the token, lower-case hexadecimal.
        node_id: the node this invite is for, chosen when it was made.
        key_hash: thumbprint of the first public key that used it; empty: unused.
    """

    hash: str = field(repr=False)
    node_id: NodeID
    labels: Mapping[str, str]
    created_at: datetime
    expires_at: datetime
    key_hash: str = ""
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An attested node.

    Args:
        current_serial: of the node SVID in use, lower-case hexadecimal; empty: none was used yet.
        pending_serial: of the one handed out last, current at its first use; empty: none.
        acknowledged: the change number its attestor last acknowledged.
    """

    id: NodeID
    spiffe_id: SpiffeID
    attestor: str
    selectors: frozenset[Selector]
    attested_at: datetime
    svid_not_after: datetime
    state: NodeState = NodeState.ACTIVE
    current_serial: str = ""
    pending_serial: str = ""
    acknowledged: int = 0
