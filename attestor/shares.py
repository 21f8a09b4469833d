"""What all entries of a node share, so that one of them, however much it asks for, leaves room to the others.

Belongs to one event loop; no method awaits.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from svid.entry import EntryID

__all__ = ["Queue", "Room", "Shelf"]

Key = TypeVar("Key")
Item = TypeVar("Item")


class Room:
    """How many things are under way, by whose they are: nobody has more than are still free."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: Counter[EntryID] = Counter()
        self._all = 0

    def take(self, whose: EntryID) -> bool:
        """Take a place; False where there is none for this entry."""
        if self._taken[whose] >= self._most - self._all:
            return False
        self._taken[whose] += 1
        self._all += 1
        return True

    def give_back(self, whose: EntryID) -> None:
        """Give a place back."""
        self._taken[whose] -= 1
        if not self._taken[whose]:
            del self._taken[whose]
        self._all -= 1


class Queue(Generic[Item]):
    """Things that wait, taken in turns: one of each entry, the first that came first."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[EntryID, deque[Item]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, whose: EntryID, item: Item) -> None:
        """Let it wait."""
        self._waiting.setdefault(whose, deque()).append(item)

    def take(self, most: int) -> Sequence[Item]:
        """Take as many as that, or all."""
        taken: list[Item] = []
        while self._waiting and len(taken) < most:
            whose, items = self._waiting.popitem(last=False)
            taken.append(items.popleft())
            if items:
                self._waiting[whose] = items
        return taken


class Shelf(Generic[Key, Item]):
    """Things that are kept, the least used of whoever keeps most making room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[EntryID, OrderedDict[Key, Item]] = {}
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def get(self, whose: EntryID, key: Key) -> Item | None:
        """Look at what is kept."""
        return self._kept.get(whose, OrderedDict[Key, Item]()).get(key)

    def use(self, whose: EntryID, key: Key) -> None:
        """Have what is kept count as used last."""
        self._kept[whose].move_to_end(key)

    def put(self, whose: EntryID, key: Key, item: Item) -> None:
        """Keep it, instead of the one before."""
        mine = self._kept.setdefault(whose, OrderedDict())
        self._all += key not in mine
        mine[key] = item
        mine.move_to_end(key)
        if self._all > self._most:
            self._make_room(whose)

    def _make_room(self, newest: EntryID) -> None:
        most = newest
        if len(self._kept[newest]) * len(self._kept) <= self._all:  # else it has more than its share anyway
            most = max(self._kept, key=lambda whose: len(self._kept[whose]))
        self._kept[most].popitem(last=False)
        self._all -= 1
        if not self._kept[most]:
            del self._kept[most]
