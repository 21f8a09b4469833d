"""What the attestor keeps across a restart: the node's key, its SVID, and the bundle it trusts."""

from typing import Protocol

from attestor.decisions.node import Joining, Node

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
