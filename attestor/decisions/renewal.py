"""When an SVID is due for renewal, when to retry after a failure, and which entries are minted next.

Everything counts by a monotonic clock from the receipt of the SVID: a wall clock that is wrong or is set neither hurries nor delays it.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from cognomen.protocol.entry import EntryID

__all__ = ["due_now", "next_limit", "renew_in", "retry_in"]

_SPREAD = 0.1
_SHORTEST_RETRY = timedelta(seconds=1)
_SHORTEST_SHARE = 20  # at least 1/20 of a life lies between two renewals, whatever the clocks say


def renew_in(life: timedelta, *, left: timedelta, jitter: float) -> timedelta:
    """How long after receipt to renew: half of its life, plus or minus a tenth of that; sooner if this node's clock sees less time left.

    Args:
        life: from its issue to its end, by the issuer's clock.
        left: until its end, by this node's clock; equal to its life if the two clocks agree.
        jitter: in [0, 1), chooses the point in that range.
    """
    half = min(life, max(left, timedelta())) / 2 * (1 + _SPREAD * (2 * jitter - 1))
    return max(half, life / _SHORTEST_SHARE, timedelta())


def retry_in(delay: timedelta, *, left: timedelta | None) -> timedelta:
    """When to retry: after the delay, or sooner if the current SVID would expire first: after half of its remaining life, at least 1 s.

    Args:
        left: until the end of the current SVID; None: there is none.
    """
    if left is None:
        return delay
    return min(delay, max(left / 2, _SHORTEST_RETRY))


def due_now(due: Mapping[EntryID, float], *, wanted: Collection[EntryID], now: float, limit: int) -> Sequence[EntryID]:
    """Which entries to mint next: those that are due, longest due first; as long as some of them have a subscriber, only those."""
    ready = [entry_id for entry_id, moment in due.items() if moment <= now]
    ready = [entry_id for entry_id in ready if entry_id in wanted] or ready
    return sorted(ready, key=lambda entry_id: (due[entry_id], entry_id))[:limit]


def next_limit(limit: int, *, most: int, failed: int = 0) -> int:
    """How many the next call may ask for: after a failure half of what failed, because the link may be slow; otherwise twice as many.

    Args:
        failed: how many the last call asked for, if it failed.
    """
    return max(1, failed // 2) if failed else min(most, limit * 2)
