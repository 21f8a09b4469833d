"""A thread that notices when a stream which speaks all the time has fallen silent.

A stopped process and a host that vanished end no stream. What is done about it is decided by whoever made it.
"""

import threading
from collections.abc import Callable
from datetime import timedelta

__all__ = ["Silence"]

_LOOKS = 3


class Silence:
    """Acts once a stream has said nothing for that long, or a third longer; and again each time that it does.

    Args:
        longest: how long a stream may say nothing that has spoken before.
        act: called in this thread.

    Attributes:
        thread: which looks three times in that while; over soon after `end`.
    """

    def __init__(self, longest: timedelta, act: Callable[[], None]) -> None:
        self.thread = threading.Thread(target=self._run, name="svid-silence", daemon=True)
        self._seconds = longest.total_seconds() / _LOOKS
        self._act = act
        self._signs = 0  # of life; only the stream's thread counts them
        self._speaks = False
        self._seen = self._quiet = 0
        self._ended = threading.Event()

    def heard(self) -> None:
        """A message came."""
        self._signs += 1
        self._speaks = True

    def broke(self, *, for_long: bool) -> None:
        """The stream ended, and another follows: at once, or only for a try now and then."""
        self._signs += 1
        if for_long:
            self._speaks = False

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    def look(self) -> bool:
        """Look once more; whether nothing came for as many looks as it takes."""
        self._quiet = self._quiet + 1 if self._speaks and self._signs == self._seen else 0
        self._seen = self._signs
        return self._quiet > 0 and self._quiet % _LOOKS == 0

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            if self.look():
                self._act()
