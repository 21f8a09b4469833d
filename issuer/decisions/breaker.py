"""A breaker: it opens on a burst, lets a little through after a while, and closes again if that is all that comes.

keepers/limitedscopes decides what a burst is. Times are by the monotonic clock.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = ["CLOSED", "LONGEST_SECONDS", "Breaker", "BreakerState", "advanced", "probation", "tripped"]

LONGEST_SECONDS = 600.0
"""The longest time for which a breaker stays open, and how long it remembers that it tripped before."""

_SHARE = 10  # of a limit: as much passes at once when a breaker half-opens


class BreakerState(StrEnum):
    """What a breaker lets through."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """One breaker.

    Args:
        since: when it got into this state.
        until: when it leaves it if nothing happens: open → half-open → closed. A closed one then forgets that it tripped.
        trips: how often in a row it tripped.
    """

    state: BreakerState = BreakerState.CLOSED
    since: float = -math.inf
    until: float = math.inf
    trips: int = 0


CLOSED = Breaker()


def tripped(breaker: Breaker, *, first: float, now: float) -> Breaker:
    """The breaker after a burst: open, for twice as long as the last time.

    Args:
        first: how long it stays open at first.
    """
    trips = min(breaker.trips + 1, 64)
    wait = min(first * 2 ** (trips - 1), max(first, LONGEST_SECONDS))
    return Breaker(state=BreakerState.OPEN, since=now, until=now + wait, trips=trips)


def advanced(breaker: Breaker, *, first: float, now: float) -> Breaker:
    """The next state of a breaker if its time has come, else the same object: call it until nothing changes."""
    if now < breaker.until:
        return breaker
    match breaker.state:
        case BreakerState.OPEN:
            half = BreakerState.HALF_OPEN
            return replace(breaker, state=half, since=breaker.until, until=breaker.until + first)
        case BreakerState.HALF_OPEN:
            end = breaker.until + LONGEST_SECONDS
            return replace(breaker, state=BreakerState.CLOSED, since=breaker.until, until=end)
        case BreakerState.CLOSED:
            return CLOSED


def probation(most: int) -> int:
    """How much of a limit per minute passes at once when its breaker half-opens."""
    return max(1, most // _SHARE)
