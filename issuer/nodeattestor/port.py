"""What the issuer asks of a node attestor: is this evidence true, and what does it prove?

issuer/decisions/attestation decides what follows from a proof.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from cognomen.daemon.plugins import PluginContext, Seam
from issuer.decisions.attestation import Proof

__all__ = ["NODE_ATTESTORS", "Challenge", "NodeAttestor"]

Challenge = Callable[[bytes], Awaitable[bytes]]
"""Sends a challenge to the joiner and waits for its answer."""


class NodeAttestor(Protocol):
    """One way for a node to prove itself."""

    @property
    def name(self) -> str:
        """Its name in SPIFFE IDs, selectors and configuration: `join_token`."""

    async def attest(self, evidence: bytes, challenge: Challenge) -> Proof:
        """Judge the evidence; Refused (UNAUTHENTICATED, INVALID) when it proves nothing."""


NODE_ATTESTORS: Seam[PluginContext, NodeAttestor] = Seam(group="cognomen.issuer.node_attestors", key="node_attestors")
"""Where to find the installed ones."""
