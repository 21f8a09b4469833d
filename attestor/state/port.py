"""What the attestor keeps across a restart.

The node's key, its SVID, the bundle it trusts, and what it heard of the issuer's record (State); what is denied (DenialStore).
"""

from collections.abc import Sequence
from typing import Protocol

from attestor.decisions.node import Joining, Node
from attestor.deniallog import Piece
from cognomen.daemon.auditlog import Checkpoint
from svid.denials import Denial

__all__ = ["DenialStore", "State"]


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


class DenialStore(Protocol):
    """Where denials are kept: they grow, and are replaced as a whole.

    Raises:
        Refused: INVALID for what others may have written, or is of another version; UNAVAILABLE when it cannot be read or written.
    """

    def load(self) -> Sequence[Denial]:
        """Those that were kept, some of them perhaps twice; what is damaged is left out, and logged."""

    def append(self, piece: Piece) -> None:
        """Keep these, too, durably; there must be a whole to add them to."""

    def replace(self, piece: Piece) -> None:
        """Keep these instead of all before, durably, all or nothing."""
