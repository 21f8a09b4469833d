"""What the issuer asks of a node attestor: is this evidence true, and of which node?

What the store knows (a token's row, the node's id and labels) is added by issuer/decisions/admission.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from issuer.decisions.audit import NodeID
from svid.selector import Selector

__all__ = ["AttestedNode", "Challenge", "NodeAttestor"]

Challenge = Callable[[bytes], Awaitable[bytes]]
"""Send a challenge to the joiner and wait for its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedNode:
    """What the evidence proved.

    Args:
        node_id: the node, or None where the token's row names it.
        token_hash: SHA-256 of the join token, lower-case hexadecimal; empty where there is none.
        can_reattest: whether the node may prove itself again by the same means.
    """

    node_id: NodeID | None = None
    token_hash: str = field(default="", repr=False)
    selectors: frozenset[Selector] = frozenset()
    can_reattest: bool = False


class NodeAttestor(Protocol):
    """One way for a node to prove itself."""

    @property
    def name(self) -> str:
        """Its name in SPIFFE IDs, selectors and configuration: `join_token`."""

    async def attest(self, evidence: bytes, challenge: Challenge) -> AttestedNode:
        """Judge the evidence; Refused (UNAUTHENTICATED, INVALID) when it proves nothing."""
