"""A way to start threads that counts them, and holds them back if the test says so."""

from collections import Counter
from collections.abc import Callable
from functools import partial

from attestor.workloadattestor.threads import DaemonThreads

__all__ = ["ThreadsDouble"]


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
