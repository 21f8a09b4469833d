"""This node's clock, and what the node knows about the issuer's clock.

What follows from the two is decided in attestor/decisions/clocks.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from attestor.decisions.clocks import MOST_APART, Reading
from svid.clock import Clock

__all__ = ["NodeClock"]

_SLOW_SECONDS = 5.0  # an answer that took longer is ignored if we have one from the last _RECENT_SECONDS
_RECENT_SECONDS = 60.0
_OUTDATED = timedelta(minutes=10)  # of silence, after which an answer from before our clock was set no longer counts
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)  # safe to calculate with


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the issuer's clock said, and what ours said then."""

    issuer: datetime
    own: datetime
    monotonic: float


class NodeClock:
    """A svid.clock.Clock that learns the issuer's time from each of its answers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard: _Heard | None = None
        self._silent_since: float | None = None

    def now(self) -> datetime:
        """This node's wall clock."""
        return self._clock.now()

    def monotonic(self) -> float:
        """A clock that nobody sets."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep for that time by the monotonic clock."""
        await self._clock.sleep(seconds)

    def hear(self, issuer: datetime, *, asked_at: float) -> None:
        """Note what the issuer's clock said in its answer to a call.

        Args:
            asked_at: when the call began, by `monotonic`; the answer is about half as old as the call is long.
        """
        if not _EARLIEST <= issuer < _LATEST:
            return
        now = self.monotonic()
        self._silent_since = None
        took = max(now - asked_at, 0.0)
        if took <= _SLOW_SECONDS or self._heard is None or now - self._heard.monotonic > _RECENT_SECONDS:
            self._heard = _Heard(issuer + timedelta(seconds=took / 2), self.now(), now)

    def hear_nothing(self) -> None:
        """Note that a call to the issuer failed."""
        if self._silent_since is None:
            self._silent_since = self.monotonic()

    @property
    def ahead(self) -> timedelta | None:
        """How far it is ahead of the issuer's clock; None: the issuer has never answered."""
        return None if self._heard is None else self.read().ahead

    def read(self) -> Reading:
        """Read both clocks."""
        own, monotonic = self.now(), self.monotonic()
        silent = timedelta(seconds=0.0 if self._silent_since is None else monotonic - self._silent_since)
        issuer = own
        if (heard := self._heard) is not None:
            since = timedelta(seconds=monotonic - heard.monotonic)
            was_set = abs(own - heard.own - since) > MOST_APART
            if not (was_set and silent >= _OUTDATED):  # otherwise both clocks may have been set together
                issuer = heard.issuer + since
        return Reading(own=own, issuer=issuer, monotonic=monotonic, silent=silent)
