"""Limits the log lines of one name: a burst, then so many a second; the next line says how many were left out.

A line's name is its constant text, or the library that logs it. So nobody can fill the disk by making a daemon repeat itself.
"""

import math
from collections.abc import MutableMapping
from dataclasses import dataclass

import structlog

from svid.clock import Clock

__all__ = ["ShareLines"]

_BURST = 50
_PER_SECOND = 10.0
_MOST_NAMES = 256
_OTHERS = "(others)"


@dataclass(slots=True)
class _Lines:
    full_at: float = -math.inf
    left_out: int = 0


class ShareLines:
    """A processor of structlog. It has no lock: two threads at once may miscount a line, but neither waits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._names: dict[str, _Lines] = {}

    def __call__(self, logger: object, method: str, event: MutableMapping[str, object]) -> MutableMapping[str, object]:
        """Let the line through, or drop it."""
        del logger, method
        now = self._clock.monotonic()
        lines = self._lines_of(str(event.get("logger") or event.get("event")), now)
        full_at = max(lines.full_at, now) + 1 / _PER_SECOND
        if full_at - now > _BURST / _PER_SECOND:
            lines.left_out += 1
            raise structlog.DropEvent
        lines.full_at = full_at
        if lines.left_out:
            event["left_out"], lines.left_out = lines.left_out, 0
        return event

    def _lines_of(self, name: str, now: float) -> _Lines:
        if name not in self._names and len(self._names) >= _MOST_NAMES:
            self._names = {kept: each for kept, each in self._names.items() if each.full_at > now or each.left_out}
            if len(self._names) >= _MOST_NAMES:
                name = _OTHERS
        return self._names.setdefault(name, _Lines())
