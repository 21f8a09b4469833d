"""What failed and is tried again, for whoever asks how a daemon is: it decides nothing, and what went well again is forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cognomen.daemon.printable import printable
from svid.clock import Clock

__all__ = ["Trouble", "Troubles"]

_MOST = 100  # of those with a subject: whoever makes many of them must not hide the others


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that fails.

    Args:
        what: constant text: `node svid renewal`; and which of many, where there are many.
        reason: of the last time.
        kept_for: how long after the last time it is told; None: until it is over.
    """

    what: str
    reason: str
    since: datetime
    last: datetime
    times: int = 1
    kept_for: timedelta | None = None

    def is_past(self, now: datetime) -> bool:
        """Whether it is not told any more."""
        return self.kept_for is not None and now - self.last >= self.kept_for


class Troubles:
    """The troubles of one daemon, by what fails."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now: dict[tuple[str, str], Trouble] = {}

    def note(self, what: str, reason: str, *, subject: str = "", kept_for: timedelta | None = None) -> None:
        """It failed.

        Args:
            subject: which of many it is: `entry 1f…`; beyond a hundred of them they are not told apart, but left out.
            kept_for: how long it is told, where nothing will say that it is over.
        """
        reason = printable(reason)
        now, known = self._clock.now(), self._now.get((what, subject))
        if known is not None:
            self._now[what, subject] = replace(known, reason=reason, last=now, times=known.times + 1)
        elif not subject or len(self._now) < _MOST:
            named = f"{what} of {subject}" if subject else what
            self._now[what, subject] = Trouble(what=named, reason=reason, since=now, last=now, kept_for=kept_for)

    def over(self, what: str, *, subject: str = "") -> None:
        """It went well again; doing it again changes nothing."""
        self._now.pop((what, subject), None)

    def all(self) -> Sequence[Trouble]:
        """Those of now, the oldest first."""
        now = self._clock.now()
        self._now = {key: one for key, one in self._now.items() if not one.is_past(now)}
        return sorted(self._now.values(), key=lambda one: one.since)
