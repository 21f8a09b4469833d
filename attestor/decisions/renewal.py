"""When an SVID is due to be renewed, again after a failure too, and which are minted next."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from svid.entry import EntryID

__all__ = ["due_now", "renew_at", "retry_at"]

_SPREAD = 0.1
_SHORTEST_RETRY = timedelta(seconds=1)


def renew_at(issued_at: datetime, not_after: datetime, jitter: float) -> datetime:
    """Half-life, give or take a tenth of it; `jitter` in [0, 1) says which."""
    return issued_at + (not_after - issued_at) / 2 * (1 + _SPREAD * (2 * jitter - 1))


def retry_at(now: datetime, delay: timedelta, *, not_after: datetime | None) -> datetime:
    """After the delay, sooner if the SVID that is held would end meanwhile: half of what is left of it, and a second at least.

    Args:
        not_after: of the SVID that is held; None: none is.
    """
    if not_after is None:
        return now + delay
    return now + min(delay, max((not_after - now) / 2, _SHORTEST_RETRY))


def due_now(
    due: Mapping[EntryID, datetime], *, wanted: Collection[EntryID], now: datetime, limit: int
) -> Sequence[EntryID]:
    """Which entries are minted next: those whose time has come, the longest due first; as long as some have a subscriber, only those."""
    ready = [entry_id for entry_id, moment in due.items() if moment <= now]
    ready = [entry_id for entry_id in ready if entry_id in wanted] or ready
    return sorted(ready, key=lambda entry_id: (due[entry_id], entry_id))[:limit]
