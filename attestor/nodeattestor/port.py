"""The port for node attestors: they supply evidence of which node this is."""

from typing import Protocol

from cognomen.daemon.plugins import Seam
from cognomen.protocol.invite import Invite

__all__ = ["NODE_ATTESTORS", "NodeAttestor"]


class NodeAttestor(Protocol):
    """One way for this node to prove its identity; the issuer has the other half."""

    @property
    def name(self) -> str:
        """Its name at the issuer: `join_token`."""

    async def evidence(self) -> bytes:
        """The evidence to present."""

    async def answer(self, challenge: bytes) -> bytes:
        """Answer the issuer's challenge; Refused (INVALID) if none is expected."""


NODE_ATTESTORS: Seam[Invite, NodeAttestor] = Seam(group="cognomen.attestor.node_attestors", key="node_attestor")
"""Where installed node attestors are found; each is made with the invite, which has the issuer's address."""
