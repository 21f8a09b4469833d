"""When an SVID is due to be renewed, again after a failure too, and which are minted next.

All of it by a monotonic clock, from when the SVID was received: a wall clock that is wrong, or is set, neither hurries nor delays it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from svid.entry import EntryID

__all__ = ["due_now", "next_limit", "renew_in", "retry_in"]

_SPREAD = 0.1
_SHORTEST_RETRY = timedelta(seconds=1)
_SHORTEST_SHARE = 20  # of a life, between two renewals, whatever the clocks say


def renew_in(life: timedelta, *, left: timedelta, jitter: float) -> timedelta:
    """How long after it was received: half of its life, give or take a tenth of that; sooner where this node's clock sees less left.

    Args:
        life: from its issue to its end, by the issuer's clock.
        left: until its end, by this node's clock; as long as its life where the two are in step.
        jitter: in [0, 1), says which.
    """
    half = min(life, max(left, timedelta())) / 2 * (1 + _SPREAD * (2 * jitter - 1))
    return max(half, life / _SHORTEST_SHARE, timedelta())


def retry_in(delay: timedelta, *, left: timedelta | None) -> timedelta:
    """After the delay, sooner if the SVID that is held would end meanwhile: half of what is left of it, and a second at least.

    Args:
        left: until the end of the SVID that is held; None: none is.
    """
    if left is None:
        return delay
    return min(delay, max(left / 2, _SHORTEST_RETRY))


def due_now(due: Mapping[EntryID, float], *, wanted: Collection[EntryID], now: float, limit: int) -> Sequence[EntryID]:
    """Which entries are minted next: those whose time has come, the longest due first; as long as some have a subscriber, only those."""
    ready = [entry_id for entry_id, moment in due.items() if moment <= now]
    ready = [entry_id for entry_id in ready if entry_id in wanted] or ready
    return sorted(ready, key=lambda entry_id: (due[entry_id], entry_id))[:limit]


def next_limit(limit: int, *, most: int, failed: int = 0) -> int:
    """How many the next call may ask for: half of what did not get through, for the way may be thin; else twice as many as before.

    Args:
        failed: how many the last call asked for, if it failed.
    """
    return max(1, failed // 2) if failed else min(most, limit * 2)
