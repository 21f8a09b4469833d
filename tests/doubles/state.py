"""The node, and denials, in this process's memory: a restart forgets them."""

import threading
from collections.abc import Sequence
from datetime import datetime

from attestor.decisions.node import Joining, Node
from attestor.deniallog import Piece
from cognomen.protocol.auditlog import Checkpoint
from cognomen.protocol.errors import Refused
from cognomen.protocol.witness import Heard, contradiction, thinned
from svid.denials import Denial, unpack

__all__ = ["MemoryDenials", "MemoryState"]

SECONDS = 30


class MemoryState:
    """Keeps the node as long as this object lives.

    Attributes:
        refuses: what writing fails with, while it does.
    """

    def __init__(self) -> None:
        self.refuses: Refused | None = None
        self._kept: Joining | Node | None = None
        self.heard: list[Heard] = []
        self.apart: list[Checkpoint] = []

    def load(self) -> Joining | Node | None:
        """What was kept."""
        return self._kept

    def save(self, kept: Joining | Node) -> None:
        """Keep it instead of what was there."""
        if self.refuses is not None:
            raise self.refuses
        self._kept = kept

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Those that do not contradict each other, in the order in which they were heard."""
        return [one.checkpoint for one in self.heard]

    def keep_checkpoint(self, checkpoint: Checkpoint, *, now: datetime) -> str:
        """Keep a checkpoint behind those before it, or apart."""
        if self.refuses is not None:
            raise self.refuses
        if checkpoint in self.checkpoints:
            return ""
        why = contradiction(self.checkpoints, checkpoint)
        if why:
            self.apart = [*self.apart, checkpoint]
        else:
            heard = Heard(checkpoint=checkpoint, at=now)
            self.heard = thinned([*self.heard, heard], newest=100, now=now, per_hour=16)
        return why

    def contradicted(self) -> str:
        """Where those are that were kept apart."""
        return "memory" if self.apart else ""


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
