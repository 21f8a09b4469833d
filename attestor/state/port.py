"""What the attestor keeps across restarts.

State holds the node's key, its SVID, the bundle it trusts, and checkpoints of the issuer's audit record. DenialStore holds the denials.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from attestor.decisions.node import Joining, Node
from attestor.deniallog import Piece
from cognomen.protocol.auditlog import Checkpoint
from svid.denials import Denial

__all__ = ["DenialStore", "State"]


class State(Protocol):
    """Where the node is saved: one unit, written and read as a whole.

    Raises:
        Refused: INVALID for a state that is not complete; UNAVAILABLE when it cannot be read or written.
    """

    def load(self) -> Joining | Node | None:
        """What was saved; None: this node has never tried to join."""

    def save(self, kept: Joining | Node) -> None:
        """Save it durably, all or nothing."""

    def keep_checkpoint(self, checkpoint: Checkpoint, *, now: datetime) -> str:
        """Append a checkpoint of the issuer's audit chain, unless it is already there; the older ones are thinned out.

        One that contradicts those that are there is kept apart, for ever, and not among them.

        Args:
            now: by this node's own clock, which nobody at the issuer sets.

        Returns:
            Why it contradicts them; empty: it does not.
        """

    def contradicted(self) -> str:
        """Where checkpoints are that contradict the others; empty: there are none."""


class DenialStore(Protocol):
    """Where denials are kept: new ones are appended, or all are replaced at once.

    Raises:
        Refused: INVALID for content that others may have written, or of another version; UNAVAILABLE when it cannot be read or written.
    """

    def load(self) -> Sequence[Denial]:
        """Those that were kept, perhaps some of them twice; damaged ones are left out and logged."""

    def append(self, piece: Piece) -> None:
        """Add these durably; `replace` must have been called before."""

    def replace(self, piece: Piece) -> None:
        """Keep only these from now on; durably, all or nothing."""
