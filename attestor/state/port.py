"""What the attestor keeps across a restart: the node's key, its SVID, and the bundle it trusts."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from svid.bundle import Bundle
from svid.keys import PrivateKey

__all__ = ["SavedNode", "State"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedNode:
    """A joined node, as it is kept: one unit, written and read as a whole.

    Args:
        chain: the node SVID, DER certificates, leaf first.
        issued_at: when the issuer signed it; half-life counts from here.
        join_address, node_address: host:port of the issuer's two doors, from the invite.
    """

    private_key: PrivateKey = field(repr=False)
    chain: tuple[bytes, ...]
    issued_at: datetime
    bundle: Bundle
    join_address: str
    node_address: str


class State(Protocol):
    """Where a joined node is kept.

    Raises:
        Refused: INVALID for a state that is not whole; UNAVAILABLE when it cannot be read or written.
    """

    def load(self) -> SavedNode | None:
        """What was kept; None: this node never joined."""

    def save(self, node: SavedNode) -> None:
        """Keep it, durably, all or nothing."""
