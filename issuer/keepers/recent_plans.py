"""The newest plan of a rulebook, for a moment: whoever planned asks at once what it means on the nodes, and a large plan takes seconds.

Only what the question needs is kept, and it is given up once it was used, or after half a minute.
"""

import asyncio
from collections.abc import Sequence

from issuer.decisions.entrysteps import Step

__all__ = ["RecentPlans"]

_KEPT_SECONDS = 30.0


class RecentPlans:
    """Keeps one plan."""

    def __init__(self, kept_seconds: float = _KEPT_SECONDS) -> None:
        self._kept_seconds = kept_seconds
        self._kept: tuple[str, Sequence[Step]] | None = None
        self._end: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return self._kept is not None

    def keep(self, digest: str, steps: Sequence[Step]) -> None:
        """Keep the steps of a plan, in place of those of another one."""
        self._give_up()
        self._kept = digest, steps
        self._end = asyncio.get_running_loop().call_later(self._kept_seconds, self._give_up)

    def take(self, digest: str) -> Sequence[Step] | None:
        """The steps of the plan with that digest, which is kept no longer; None: it is not kept."""
        if self._kept is None or self._kept[0] != digest:
            return None
        steps = self._kept[1]
        self._give_up()
        return steps

    def _give_up(self) -> None:
        self._kept = None
        if self._end is not None:
            self._end.cancel()
            self._end = None
