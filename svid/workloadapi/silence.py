"""A thread that notices when a stream with regular messages falls silent.

A stopped process or a vanished host does not end a stream. The caller decides what to do about it.
"""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

__all__ = ["Silence"]

_LOOKS = 3

_log = logging.getLogger(__name__)
_log.addHandler(logging.NullHandler())


class Silence:
    """Acts when a stream has been silent for `longest` to a third longer, and again after each further such period.

    Args:
        longest: how long a stream that has sent something before may be silent.
        act: called in this object's thread.

    Attributes:
        thread: looks three times per period; it finishes soon after `end`.
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
        """Note that a message came."""
        self._signs += 1
        self._speaks = True

    def broke(self, *, for_long: bool) -> None:
        """Note that the stream ended; the next one follows soon, or, if `for_long`, is only tried now and then."""
        self._signs += 1
        if for_long:
            self._speaks = False

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()

    def look(self) -> bool:
        """Look once more; return whether the stream has now been silent for a full period."""
        self._quiet = self._quiet + 1 if self._speaks and self._signs == self._seen else 0
        self._seen = self._signs
        return self._quiet > 0 and self._quiet % _LOOKS == 0

    def _run(self) -> None:
        self._look_on()
        del self._act  # otherwise it would be a reference cycle with the owner

    def _look_on(self) -> None:
        while not self._ended.wait(self._seconds):
            if self.look():
                try:
                    self._act()
                except Exception:  # noqa: BLE001 - nothing else looks, and the action may succeed the next time
                    _log.exception("action on silence failed")
