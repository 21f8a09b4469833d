"""What the issuer asks of a place for checkpoints."""

from typing import Protocol

from cognomen.protocol.auditlog import Checkpoint

__all__ = ["CheckpointSink"]


class CheckpointSink(Protocol):
    """A place that keeps checkpoints; the further from the issuer's hands, the better.

    Raises:
        Refused: UNAVAILABLE when it cannot be reached or written.
    """

    async def write(self, checkpoint: Checkpoint) -> None:
        """Keep one, after the earlier ones."""
