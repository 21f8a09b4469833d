"""Count what a revocation ends. revocation decides what it names."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cognomen.protocol.names import NodeID
from issuer.decisions.ledger import CredentialKind
from svid.spiffeid import SpiffeID

__all__ = ["MOST_GROUPS", "Fallen", "Falling"]

MOST_GROUPS = 1000
"""How many groups are listed: this keeps an answer small, no matter how much ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallen:
    """The number of live credentials that are alike.

    Args:
        node_id: their node; None: they do not belong to a node.
        audiences: of tokens: those that may have been shown them.
        ends_at: when the last of them expires.
    """

    kind: CredentialKind
    spiffe_id: SpiffeID
    node_id: NodeID | None
    audiences: tuple[str, ...]
    count: int
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Falling:
    """What ends, or would end.

    Args:
        groups: by SPIFFE ID, node, kind and audiences; the first MOST_GROUPS.
        more: how many more groups there are.
        count: the number of credentials in all.
    """

    groups: Sequence[Fallen] = ()
    more: int = 0
    count: int = 0
