"""The node, and denials, in this process's memory: a restart forgets them."""

import threading
from collections.abc import Sequence

from attestor.decisions.node import Joining, Node
from attestor.deniallog import Piece
from cognomen.daemon.auditlog import Checkpoint
from cognomen.daemon.errors import Refused
from svid.denials import Denial, unpack

__all__ = ["MemoryDenials", "MemoryState"]

SECONDS = 30


class MemoryState:
    """Keeps the node as long as this object lives."""

    def __init__(self) -> None:
        self._kept: Joining | Node | None = None
        self.checkpoints: list[Checkpoint] = []

    def load(self) -> Joining | Node | None:
        """What was kept."""
        return self._kept

    def save(self, kept: Joining | Node) -> None:
        """Keep it instead of what was there."""
        self._kept = kept

    def keep_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint behind those before it."""
        if self.checkpoints[-1:] != [checkpoint]:
            self.checkpoints = [*self.checkpoints, checkpoint][-100:]


class MemoryDenials:
    """Keeps denials as long as this object lives.

    Attributes:
        refuses: what writing fails with, while it does.
        gate: writing waits while it is not set.
    """

    def __init__(self) -> None:
        self.refuses: Refused | None = None
        self.gate = threading.Event()
        self.gate.set()
        self._kept: list[Denial] = []

    def load(self) -> Sequence[Denial]:
        """Those that were kept."""
        return tuple(self._kept)

    def append(self, piece: Piece) -> None:
        """Keep these, too."""
        self._check()
        self._kept += unpack(piece.numbers, piece.ends)

    def replace(self, piece: Piece) -> None:
        """Keep these instead."""
        self._check()
        self._kept = [*unpack(piece.numbers, piece.ends)]

    def _check(self) -> None:
        assert self.gate.wait(SECONDS)
        if self.refuses is not None:
            raise self.refuses
