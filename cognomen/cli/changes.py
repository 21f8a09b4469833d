"""What became of the changes that a command asked a daemon for, so that a command that ends early can say it.

A change is *open* from the moment its request is sent until the daemon answers. If the command ends in between, only the issuer knows
whether it was carried out. How a failure is printed is decided in main.
"""

from datetime import datetime

import click

from cognomen.process.standardstreams import check_output
from svid.clock import SystemClock

__all__ = ["Changes", "changes_of_command"]


class Changes:
    """The changes that one command asked for."""

    def __init__(self) -> None:
        self._asked_at: datetime | None = None
        self._open = self._done = 0

    @property
    def is_open(self) -> bool:
        """Whether a change was asked for, and it is unknown whether it was carried out."""
        return self._open > 0

    @property
    def is_done(self) -> bool:
        """Whether a change was carried out."""
        return self._done > 0

    @property
    def hint(self) -> str:
        """How to see what was carried out; empty: nothing was asked for."""
        if self._asked_at is None:
            return ""
        return f"to see what was carried out: cognomen audit list --since {self._asked_at:%Y-%m-%dT%H:%M:%SZ}"

    def sent(self) -> None:
        """Note that a request for a change is about to be sent.

        Raises:
            LostOutputError: standard output is closed, so that nobody would see the answer: do not send it.
        """
        check_output()
        self._asked_at = self._asked_at or SystemClock().now()
        self._open += 1

    def not_done(self) -> None:
        """Note that it was not carried out: the daemon refused it, or was never reached."""
        self._open -= 1

    def done(self) -> None:
        """Note that the daemon carried it out."""
        self._open -= 1
        self._done += 1


def changes_of_command() -> Changes:
    """Those of the command that runs; outside of one, changes that nobody asks about."""
    context = click.get_current_context(silent=True)
    return (context and context.find_object(Changes)) or Changes()
