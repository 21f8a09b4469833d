"""Threads of tests: a way to start them that counts them, and holds them back if the test says so; and work beside a test."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from attestor.workloadattestor.threads import DaemonThreads

__all__ = ["ThreadsDouble", "side_by_side"]


@contextmanager
def side_by_side(over: threading.Event, *work: Callable[[], None]) -> Iterator[None]:
    """Do each piece of work in a thread; set `over` at the end, and wait for them."""
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


class ThreadsDouble:
    """Starts what it is given, unless it is held.

    Args:
        hold: the name of threads that are not started before they are released.

    Attributes:
        count: how many were to be started so far, by name.
        held: those that have not been.
    """

    def __init__(self, *, hold: str = "") -> None:
        self.count: Counter[str] = Counter()
        self.held: list[Callable[[], None]] = []
        self._hold = hold
        self._start = DaemonThreads()

    def __call__(self, name: str, work: Callable[[], None]) -> None:
        self.count[name] += 1
        start = partial(self._start, name, work)
        if name == self._hold:
            self.held.append(start)
        else:
            start()

    def release(self) -> None:
        """Start all that are held now, and only those."""
        held, self.held = self.held, []
        for start in held:
            start()
