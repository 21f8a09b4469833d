"""Decide what the issuer believes of the uses that a node reports: only times that its own clock and its ledger allow.

A node can report what it likes about its own processes, and only about entries that it has or had (issuer/flows/record_uses).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from cognomen.protocol.uses import EntryUse

__all__ = ["NotedUse", "Reported", "Times", "UseFilter", "dated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedUse:
    """A use as the store has it.

    Args:
        number: in the order of the first reports.
    """

    number: int
    node_id: NodeID
    use: EntryUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """The time of which a node has reported every use.

    Args:
        until: None: until its attestor ended, and there was none until it started again.
    """

    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UseFilter:
    """Which uses to read; a field that is None or empty does not filter.

    Args:
        since: those that lasted until then or later.
        until: those that had begun by then.
    """

    entry_ids: frozenset[EntryID] = frozenset()
    node_id: NodeID | None = None
    since: datetime | None = None
    until: datetime | None = None


class Times(NamedTuple):
    """When a node can have used an entry at all: from the first moment to the last, both included.

    Args:
        begin: both the node and the entry existed.
        end: what it had of the entry ended; `now` bounds it.
    """

    begin: datetime
    end: datetime


def dated(
    uses: Iterable[EntryUse], *, times: Mapping[EntryID, Times], now: datetime, kept: timedelta
) -> list[EntryUse]:
    """The uses of these entries with times that are possible: nothing is older than what is kept, or than the node and the entry.

    Args:
        times: when the node can have used each entry; others are left out.
    """
    oldest = now - kept
    found = []
    for use in uses:
        possible = times.get(use.entry_id)
        if possible is not None:
            end = min(possible.end, now)
            last_at = min(max(use.last_at, possible.begin), end)
            if last_at >= oldest:
                first_at = min(max(use.first_at, oldest, possible.begin), end)
                found.append(replace(use, first_at=first_at, last_at=last_at))
    return found
