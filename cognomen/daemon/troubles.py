"""What failed and is tried again, for whoever asks how a daemon is: it decides nothing, and what went well again is forgotten."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from svid.clock import Clock

__all__ = ["Trouble", "Troubles"]

_MOST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that fails.

    Args:
        what: constant text: `node svid renewal`.
        reason: of the last time.
    """

    what: str
    reason: str
    since: datetime
    last: datetime
    times: int = 1


class Troubles:
    """The troubles of one daemon, by what fails."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now: dict[str, Trouble] = {}

    def note(self, what: str, reason: str) -> None:
        """It failed."""
        now, known = self._clock.now(), self._now.get(what)
        if known is not None:
            self._now[what] = replace(known, reason=reason, last=now, times=known.times + 1)
        elif len(self._now) < _MOST:
            self._now[what] = Trouble(what=what, reason=reason, since=now, last=now)

    def over(self, what: str) -> None:
        """It went well again; doing it again changes nothing."""
        self._now.pop(what, None)

    def all(self) -> Sequence[Trouble]:
        """Those of now, the oldest first."""
        return sorted(self._now.values(), key=lambda one: one.since)
