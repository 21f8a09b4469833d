"""What the attestor asks of a node attestor: evidence of which node this is."""

from typing import Protocol

__all__ = ["NodeAttestor"]


class NodeAttestor(Protocol):
    """One way for this node to prove itself; the issuer has the other half."""

    @property
    def name(self) -> str:
        """As the issuer calls it: `join_token`."""

    async def evidence(self) -> bytes:
        """What it has to show."""

    async def answer(self, challenge: bytes) -> bytes:
        """Answer the issuer's challenge; Refused (INVALID) where none is expected."""
