"""When an SVID is due to be renewed, and which are minted next."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from svid.entry import EntryID

__all__ = ["due_now", "renew_at"]

_SPREAD = 0.1


def renew_at(issued_at: datetime, not_after: datetime, jitter: float) -> datetime:
    """Half-life, give or take a tenth of it; `jitter` in [0, 1) says which."""
    return issued_at + (not_after - issued_at) / 2 * (1 + _SPREAD * (2 * jitter - 1))


def due_now(
    due: Mapping[EntryID, datetime], *, wanted: Collection[EntryID], now: datetime, limit: int
) -> Sequence[EntryID]:
    """Which entries are minted next: those whose time has come, the longest due first; as long as some have a subscriber, only those."""
    ready = [entry_id for entry_id, moment in due.items() if moment <= now]
    ready = [entry_id for entry_id in ready if entry_id in wanted] or ready
    return sorted(ready, key=lambda entry_id: (due[entry_id], entry_id))[:limit]
