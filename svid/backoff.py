"""Retry delays as a pure sequence: the caller does the waiting."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delays that grow by a factor up to a maximum, each shortened by jitter of up to half."""

    initial: timedelta = timedelta(milliseconds=100)
    maximum: timedelta = timedelta(seconds=5)
    factor: float = 2.0

    def delays(self, jitter: Callable[[], float]) -> Iterator[timedelta]:
        """Yield delays without end; `jitter` returns a number in [0, 1) for each.

        Units: each delay is in (base / 2, base], where base = initial × factorⁿ, at most `maximum`.
        """
        base = self.initial
        while True:
            yield base * (1 - jitter() / 2)
            base = min(base * self.factor, self.maximum)
