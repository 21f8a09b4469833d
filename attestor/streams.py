"""The streams that wait for what this attestor holds to change; which of them wake is decided here and in `cache`.

A stream wakes when an entry was touched that demands nothing but what the stream's caller has. All of them wake when comparing each would
cost more than waking it.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.selector import Selector

__all__ = ["Streams", "Subscription"]

_WAKE_COMPARISONS = 10_000  # above this, wake every stream instead of comparing each
_LEAST_AT_ONCE, _MOST_TURNS = 8, 50  # for the streams that a revocation list wakes
_TURN_SECONDS = 0.01


class Subscription:
    """A wait for changes that may concern these selectors; changes between two waits count as one."""

    def __init__(self, selectors: frozenset[Selector], who: tuple[int, int]) -> None:
        self.selectors = selectors
        self.who = who
        self._woken = asyncio.Event()

    async def changed(self) -> None:
        """Return when something has changed since the last return; at once if it already has."""
        await self._woken.wait()
        self._woken.clear()

    def wake(self) -> None:
        """Note that something changed."""
        self._woken.set()


class Streams:
    """The subscriptions that are open; they belong to one event loop."""

    def __init__(self) -> None:
        self._open: set[Subscription] = set()

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def __iter__(self) -> Iterator[Subscription]:
        """Those that are open now."""
        return iter(tuple(self._open))

    @contextmanager
    def open(self, selectors: frozenset[Selector], *, who: tuple[int, int]) -> Iterator[Subscription]:
        """While the block runs, wake at changes.

        Args:
            who: the uid and pid of the process, for `callers`.
        """
        subscription = Subscription(selectors, who)
        self._open.add(subscription)
        try:
            yield subscription
        finally:
            self._open.discard(subscription)

    @property
    def callers(self) -> Counter[tuple[int, int]]:
        """How many each process holds open, by uid and pid."""
        return Counter(one.who for one in self._open)

    @property
    def wanted(self) -> set[frozenset[Selector]]:
        """The different selectors of their callers."""
        return {one.selectors for one in self._open}

    def wake(self, touched: Iterable[RegistrationEntry] | None) -> None:
        """Wake those that these entries may concern; None: all of them."""
        wants = None if touched is None else {entry.selectors for entry in touched}
        if wants is not None and len(wants) * len(self._open) > _WAKE_COMPARISONS:
            wants = None
        for subscription in self._open:
            if wants is None or any(selectors <= subscription.selectors for selectors in wants):
                subscription.wake()

    def wake_in_turns(self) -> None:
        """Wake all of them, a few at a time: a list follows each revocation, and must not delay callers that wait for an identity."""
        _wake_in_turns(tuple(self._open), max(_LEAST_AT_ONCE, len(self._open) // _MOST_TURNS))


def _wake_in_turns(waiting: Sequence[Subscription], at_once: int) -> None:
    for subscription in waiting[:at_once]:
        subscription.wake()
    if left := waiting[at_once:]:
        asyncio.get_running_loop().call_later(_TURN_SECONDS, _wake_in_turns, left, at_once)
