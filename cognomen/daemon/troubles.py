"""What failed and is being retried, for the status of a daemon: it decides nothing, and forgets what works again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cognomen.protocol.errors import Refused
from cognomen.protocol.printable import printable
from svid.clock import Clock

__all__ = ["Trouble", "Troubles"]

_MOST = 100  # of those with a subject: many of one kind must not hide the others
_LONGEST_HINT = 1024  # in characters: a hint names commands, and half a command is none; a reason may come from outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing that fails.

    Args:
        what: a constant text such as `node svid renewal`, and which of many if there are many.
        reason: why it failed the last time, and what to do about it.
        kept_for: how long after the last failure it is shown; None: until it is over.
    """

    what: str
    reason: str
    since: datetime
    last: datetime
    times: int = 1
    kept_for: timedelta | None = None


class Troubles:
    """The troubles of one daemon, by what fails; how long one is kept is measured by the monotonic clock, which nobody sets."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now: dict[tuple[str, str], Trouble] = {}
        self._ends: dict[tuple[str, str], float] = {}

    def note_refused(self, what: str, refused: Refused, *, hint: str = "") -> None:
        """Note that it was refused, with what to do about it.

        Args:
            hint: replaces the hint of the refusal.
        """
        hint = hint or refused.hint
        self.note(what, refused.detail, hint=hint)

    def note(
        self, what: str, reason: str, *, hint: str = "", subject: str = "", kept_for: timedelta | None = None
    ) -> None:
        """Note that it failed.

        Args:
            hint: what to do about it; shown after the reason.
            subject: which of many it is, such as `entry 1f…`; beyond a hundred of them, new ones are left out.
            kept_for: how long it is shown, if nothing will report that it is over.
        """
        reason = printable(reason)
        if hint:
            reason = f"{reason}: {printable(hint, most=_LONGEST_HINT)}"
        now, known = self._clock.now(), self._now.get((what, subject))
        if known is not None:
            self._now[what, subject] = replace(known, reason=reason, last=now, times=known.times + 1)
        elif not subject or len(self._now) < _MOST:
            named = f"{what} of {subject}" if subject else what
            self._now[what, subject] = Trouble(what=named, reason=reason, since=now, last=now, kept_for=kept_for)
        if kept_for is not None and (what, subject) in self._now:
            self._ends[what, subject] = self._clock.monotonic() + kept_for.total_seconds()

    def note_lasting(self, what: str, reason: str, *, hint: str = "", subject: str = "") -> None:
        """Note what was found in a look, and lasts until it is over: looking again does not make it another failure."""
        known = self._now.get((what, subject))
        self.note(what, reason, hint=hint, subject=subject)
        if known is not None:
            self._now[what, subject] = replace(self._now[what, subject], times=known.times)

    def over(self, what: str, *, subject: str = "") -> None:
        """Note that it works again; a second call changes nothing."""
        self._now.pop((what, subject), None)
        self._ends.pop((what, subject), None)

    def all(self) -> Sequence[Trouble]:
        """The current troubles, oldest first."""
        now = self._clock.monotonic()
        for what, subject in [key for key, end in self._ends.items() if end <= now]:
            self.over(what, subject=subject)
        return sorted(self._now.values(), key=lambda one: one.since)
