"""What the attestor keeps across a restart: the node's key, its SVID, the bundle it trusts, and what it heard of the issuer's record."""

from typing import Protocol

from attestor.decisions.node import Joining, Node
from cognomen.daemon.auditlog import Checkpoint

__all__ = ["State"]


class State(Protocol):
    """Where the node is kept: one unit, written and read as a whole.

    Raises:
        Refused: INVALID for a state that is not whole; UNAVAILABLE when it cannot be read or written.
    """

    def load(self) -> Joining | Node | None:
        """What was kept; None: this node never tried to join."""

    def save(self, kept: Joining | Node) -> None:
        """Keep it, durably, all or nothing."""

    def keep_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint of the issuer's audit chain behind those before it; only the last hundred stay."""
