"""The newest value of a kind, for a moment: whoever asked for it asks at once for what follows from it, and it took seconds to find.

It is given up after half a minute.
"""

import asyncio
from typing import Generic, TypeVar

__all__ = ["Recent"]

T = TypeVar("T")

_KEPT_SECONDS = 30.0


class Recent(Generic[T]):
    """Keeps one value, by its digest."""

    def __init__(self, kept_seconds: float = _KEPT_SECONDS) -> None:
        self._kept_seconds = kept_seconds
        self._kept: tuple[str, T] | None = None
        self._end: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return self._kept is not None

    def keep(self, digest: str, value: T) -> None:
        """Keep a value, in place of another one."""
        self.give_up()
        self._kept = digest, value
        self._end = asyncio.get_running_loop().call_later(self._kept_seconds, self.give_up)

    def get(self, digest: str) -> T | None:
        """The value with that digest; None: it is not kept."""
        return self._kept[1] if self._kept is not None and self._kept[0] == digest else None

    def take(self, digest: str) -> T | None:
        """The value with that digest, which is kept no longer; None: it is not kept."""
        value = self.get(digest)
        if value is not None:
            self.give_up()
        return value

    def give_up(self) -> None:
        """Keep nothing."""
        self._kept = None
        if self._end is not None:
            self._end.cancel()
            self._end = None
