"""The log lines of a loop that retries: each reason at once, then once a minute with a count, and one line when it works again.

When it retries: cognomen/daemon/attempts.
"""

from typing import Protocol

from svid.linelimit import LineLimit

__all__ = ["RetryLines", "Tell"]

_REASONS = 16  # that get their own lines; most loops fail for one reason


class Tell(Protocol):
    """A logger's method of one level."""

    def __call__(self, event: str, **fields: object) -> object:
        """Write a line."""


class RetryLines:
    """The lines of one loop.

    Args:
        over: the log event once it works again.
    """

    def __init__(self, over: str) -> None:
        self._over = over
        self._lines = LineLimit(_REASONS)
        self._failures = 0

    def failed(self, tell: Tell, event: str, now: float, *, reason: str, of: str = "", **fields: object) -> None:
        """Log a failure, if a line is due.

        Args:
            of: which of many failed, if each has its own lines.

        Units: `now` is seconds of a clock that nobody sets.
        """
        self._failures += 1
        left_out = self._lines.left_out(f"{of} {reason}", now)
        if left_out is not None:
            tell(event, reason=reason, left_out=left_out, **fields)

    def over(self, tell: Tell) -> None:
        """Log that it works again, if it had failed."""
        if self._failures:
            tell(self._over, failures=self._failures)
            self._failures, self._lines = 0, LineLimit(_REASONS)
