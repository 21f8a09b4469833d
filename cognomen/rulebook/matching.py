"""Which entries a caller is entitled to: those whose selectors it shows all of.

The workload attestors find what a caller shows; the issuer decides what an entry says.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.selector import Selector

__all__ = ["Index", "in_match_order"]

_LAST = datetime.max.replace(tzinfo=UTC)


def in_match_order(entries: Iterable[RegistrationEntry]) -> tuple[RegistrationEntry, ...]:
    """Sort the entries marked as default first, then oldest first, then by ID: the first is a caller's default identity.

    No newer entry takes its place, unless an operator marks one.

    Source: SPIFFE Workload API 8
    """
    return tuple(sorted(entries, key=lambda entry: (not entry.default, entry.created_at or _LAST, entry.id)))


class Index:
    """Finds the entries that match a caller, in time that depends on the caller and not on the number of entries.

    Each entry is filed under one of its selectors: the one with the fewest entries when it was added. Of `unix:uid:0` and
    `unix:path:/usr/bin/db`, that is the second if many entries have the first.
    """

    def __init__(self, entries: Iterable[RegistrationEntry] = ()) -> None:
        self._under: dict[Selector, dict[EntryID, RegistrationEntry]] = {}
        self._place: dict[EntryID, Selector] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: RegistrationEntry) -> None:
        """Add an entry; replace the one with its ID, if there is one."""
        self.remove(entry)
        place = min(entry.selectors, key=lambda selector: (len(self._under.get(selector, ())), selector))
        self._under.setdefault(place, {})[entry.id] = entry
        self._place[entry.id] = place

    def remove(self, entry: RegistrationEntry) -> None:
        """Forget the entry with this one's ID, if there is one."""
        place = self._place.pop(entry.id, None)
        if place is None:
            return
        del self._under[place][entry.id]
        if not self._under[place]:
            del self._under[place]

    def all(self) -> Iterator[RegistrationEntry]:
        """All entries, in no order."""
        for entries in self._under.values():
            yield from entries.values()

    def match(self, selectors: frozenset[Selector]) -> tuple[RegistrationEntry, ...]:
        """The entries whose selectors are among these, in match order."""
        return in_match_order(
            entry
            for selector in selectors
            for entry in self._under.get(selector, {}).values()
            if entry.selectors <= selectors
        )
