"""What all accounts share, so that one account leaves room for the others, however much it asks for.

Decided here: how a limited thing is divided, and the list of all such things (`Share`). Each instance says which one it is;
tests/flow/test_one_against_the_others.py drills each. An instance belongs to one event loop; no method awaits.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Generic, TypeVar

from cognomen.gate.accounts import AccountID

__all__ = ["Places", "Queue", "Room", "Share", "Shelf"]

Key = TypeVar("Key")
Item = TypeVar("Item")


class Share(StrEnum):
    """Everything behind a gate that several accounts use, and that can run out or make callers wait."""

    ARRIVALS = "connections that wait to be admitted"
    CONNECTIONS = "connections"
    CALLS = "calls in flight"
    FRAMES = "turns of the connections"
    LOOKS = "threads that look at executables"
    DIGESTS = "threads that read executables"
    USER_NAMES = "threads that look up user names"
    GROUP_NAMES = "threads that look up group names"
    KNOWN_DIGESTS = "digests that are remembered"
    KNOWN_USERS = "user names that are remembered"
    KNOWN_GROUPS = "group names that are remembered"
    MINTS = "JWT-SVIDs that wait or are being minted"
    TOKENS = "JWT-SVIDs that are kept"
    EXPLANATIONS = "turns of explanations"
    DENIALS = "turns of followers of denials"
    RECENT_CALLERS = "callers that are remembered"
    CALLERS = "turns of services that ask who may call them"
    USES = "uses of identities that the issuer may not have been told of"


class Room:
    """How many things are in progress, by account: no account has more than are still free."""

    def __init__(self, share: Share, most: int) -> None:
        self.share = share
        self._most = most
        self._taken: Counter[AccountID] = Counter()
        self._all = 0

    def take(self, whose: AccountID) -> bool:
        """Take a place; False if there is none for this account."""
        if self._taken[whose] >= self._most - self._all:
            return False
        self._taken[whose] += 1
        self._all += 1
        return True

    def give_back(self, whose: AccountID) -> None:
        """Give a place back."""
        self._taken[whose] -= 1
        if not self._taken[whose]:
            del self._taken[whose]
        self._all -= 1


class Places(Generic[Key]):
    """Things in progress that can be ended: if there are too many, the account that has most loses its newest.

    Args:
        most: the limit for all accounts together.
        each: the limit for one account.
    """

    def __init__(self, share: Share, most: int, *, each: int) -> None:
        self.share = share
        self._most = most
        self._each = each
        self._taken: dict[AccountID, dict[Key, Callable[[], None]]] = {}
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def take(self, whose: AccountID, key: Key, end: Callable[[], None]) -> bool:
        """Take a place; False if there is none for this account.

        Args:
            end: called when the place goes to another account.
        """
        mine = len(self._taken.get(whose, ()))
        if mine >= self._each or (self._all >= self._most and not self._make_room(mine + 1)):
            return False
        self._taken.setdefault(whose, {})[key] = end
        self._all += 1
        return True

    def give_back(self, whose: AccountID, key: Key) -> None:
        """Give a place back; a second call, or one after it went to another account, changes nothing."""
        places = self._taken.get(whose, {})
        if places.pop(key, None) is not None:
            self._all -= 1
            if not places:
                del self._taken[whose]

    def _make_room(self, wanted: int) -> bool:
        """Make room for an account that would then have that many."""
        if wanted * len(self._taken) > self._all:  # more than its share, so we do not even search
            return False
        most = max(self._taken, key=lambda whose: len(self._taken[whose]))
        if len(self._taken[most]) <= wanted:  # otherwise two accounts would take one place from each other for ever
            return False
        key, end = next(reversed(self._taken[most].items()))
        self.give_back(most, key)
        end()
        return True


class Queue(Generic[Item]):
    """Things that wait, taken in turns: one of each account, oldest first."""

    def __init__(self, share: Share) -> None:
        self.share = share
        self._waiting: OrderedDict[AccountID, deque[Item]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def put(self, whose: AccountID, item: Item) -> None:
        """Add an item at the end."""
        self._waiting.setdefault(whose, deque()).append(item)

    def take(self, most: int, *, each: int | None = None) -> Sequence[Item]:
        """Take up to `most` items, and at most `each` of each account."""
        taken: list[Item] = []
        for _ in range(most if each is None else each):
            for whose in tuple(self._waiting):
                if len(taken) == most:
                    return taken
                items = self._waiting[whose]
                taken.append(items.popleft())
                self._waiting.move_to_end(whose)
                if not items:
                    del self._waiting[whose]
            if not self._waiting:
                break
        return taken


class Shelf(Generic[Key, Item]):
    """Things that are kept for everybody; to make room, the account that keeps most loses its least recently used one."""

    def __init__(self, share: Share, most: int) -> None:
        self.share = share
        self._most = most
        self._kept: dict[Key, tuple[AccountID, Item]] = {}
        self._keys: dict[AccountID, OrderedDict[Key, None]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Item | None:
        """What is kept under the key, for whatever account."""
        found = self._kept.get(key)
        return None if found is None else found[1]

    def use(self, key: Key) -> None:
        """Mark what is kept as most recently used."""
        self._keys[self._kept[key][0]].move_to_end(key)

    def values(self) -> Iterator[Item]:
        """All that is kept, of whatever account."""
        return (item for _, item in self._kept.values())

    def put(self, whose: AccountID, key: Key, item: Item) -> Item | None:
        """Keep an item on this account's share, in place of an earlier one under the key.

        Returns:
            What was dropped to make room; None: nothing.
        """
        self.drop(key)
        self._kept[key] = whose, item
        self._keys.setdefault(whose, OrderedDict())[key] = None
        return self._make_room(whose) if len(self._kept) > self._most else None

    def drop(self, key: Key) -> Item | None:
        """Forget what is kept under the key, and return it; None: nothing is."""
        if (found := self._kept.pop(key, None)) is None:
            return None
        keys = self._keys[found[0]]
        del keys[key]
        if not keys:
            del self._keys[found[0]]
        return found[1]

    def _make_room(self, newest: AccountID) -> Item | None:
        most = newest
        if len(self._keys[newest]) * len(self._keys) <= len(
            self._kept
        ):  # otherwise the newest has more than its share anyway
            most = max(self._keys, key=lambda whose: len(self._keys[whose]))
        return self.drop(next(iter(self._keys[most])))
