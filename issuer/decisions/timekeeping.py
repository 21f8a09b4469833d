"""Whether the wall clock can be trusted: what destroys because its time has come (retiring, pruning) rests while it cannot.

Compared with the monotonic clock, which nobody sets, and with the latest moment that the store remembers.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = ["Reading", "doubt"]

_MAX_JUMP = timedelta(seconds=60)
_MAX_GAP = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Both clocks at one moment.

    Units: monotonic in seconds from an arbitrary start
    """

    wall: datetime
    monotonic: float


def doubt(before: Reading, now: Reading, high_water: datetime | None) -> str:
    """Say why the wall clock is not trusted; empty: it is.

    Args:
        before: the last reading that was trusted.
        high_water: the latest moment that the store remembers, where this is the first reading; None: none.
    """
    jump = (now.wall - before.wall) - timedelta(seconds=now.monotonic - before.monotonic)
    if abs(jump) > _MAX_JUMP:
        return f"it went {_way(jump)} by {_rounded(jump)} while {now.monotonic - before.monotonic:.0f} s passed"
    if high_water is not None and abs(now.wall - high_water) > _MAX_GAP:
        gap = now.wall - high_water
        return f"it is {_rounded(gap)} {'after' if gap > timedelta() else 'before'} the last moment on record"
    return ""


def _way(jump: timedelta) -> str:
    return "forward" if jump > timedelta() else "back"


def _rounded(span: timedelta) -> timedelta:
    return timedelta(seconds=round(abs(span).total_seconds()))
