"""How long and how often a run measures."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of all rows.

    Attributes:
        load_seconds: of each row that calls as fast as it can.
        idle_seconds: how long an idle daemon is watched.
        rounds: changes that a row waits for, one after the other.
        scale: of the numbers of entries and streams; the promises hold for 1.
        endpoint: somebody else's Workload API; None: our own daemons.
    """

    directory: Path
    load_seconds: float = 5
    idle_seconds: float = 20
    rounds: int = 30
    kills: int = 3
    scale: float = 1
    outage_seconds: float = 20
    endpoint: Path | None = None

    def count(self, full: int) -> int:
        """That many, scaled."""
        return max(1, round(full * self.scale))
