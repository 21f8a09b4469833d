"""The node in this process's memory: a restart forgets it."""

from attestor.decisions.node import Joining, Node
from cognomen.daemon.auditlog import Checkpoint

__all__ = ["MemoryState"]


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
