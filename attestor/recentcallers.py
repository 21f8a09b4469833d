"""Which programs asked for an identity lately, and what they showed: also those that were refused, or whose calls have ended.

In memory only, for questions about what a plan would change (flows/answer_questions). The rows belong to one event loop; no method awaits.
A row holds no handle of its process: whoever uses it checks by `seen_at` that the pid still means that process.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from cognomen.gate.caller import Caller
from cognomen.gate.shares import Share, Shelf
from cognomen.protocol.selector import Selector

__all__ = ["REMEMBERED_SECONDS", "RecentCaller", "RecentCallers", "since_boot"]

REMEMBERED_SECONDS = 600.0
"""For how long a program counts as one that uses the socket: clients that are refused ask again within half a minute."""

_MOST = 4096


class RecentCaller(NamedTuple):
    """A program, as the gate saw it when it called.

    Args:
        facts: the keys of selectors that were looked for.
        seen_at: in seconds since boot.
    """

    pid: int
    uid: int
    selectors: frozenset[Selector]
    facts: frozenset[str]
    seen_at: float


class RecentCallers:
    """Remembers them: each process once.

    Args:
        now: in seconds since boot.
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self._now = now or since_boot
        self._kept: Shelf[int, RecentCaller] = Shelf(Share.RECENT_CALLERS, _MOST)

    def note(self, caller: Caller, selectors: frozenset[Selector], facts: frozenset[str]) -> None:
        """Note that a caller showed these selectors now."""
        row = RecentCaller(caller.pid, caller.uid, selectors, facts, self._now())
        self._kept.put(caller.account, caller.pid, row)

    def lately(self) -> Iterator[RecentCaller]:
        """Those that called within REMEMBERED_SECONDS."""
        since = self._now() - REMEMBERED_SECONDS
        return (row for row in tuple(self._kept.values()) if row.seen_at >= since)


def since_boot() -> float:
    """Seconds since the machine started, as the kernel counts the starts of processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
