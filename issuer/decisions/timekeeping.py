"""Decide whether to trust the wall clock, and when one of our own SVIDs is due. Nothing here waits: the flows look again and again.

While the clock is in doubt, only steps that destroy something by time (retiring, pruning) stop. We compare the clock with the monotonic
clock, which nobody sets, and with the latest time that the store remembers. A doubt ends when the clocks agree again, when an operator
confirms the clock, or when the clock has run evenly for so long that nothing signed before can still be valid, whatever the real time is.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cognomen.protocol.entry import MAX_TTL
from cognomen.protocol.validity import BACKDATE

__all__ = ["Doubt", "Reading", "doubted", "ends_at", "renew_at", "retry_in"]

_MAX_JUMP = timedelta(seconds=60)
_MAX_GAP = timedelta(days=1)
_URGENT = timedelta(seconds=1)
_PROBATION = MAX_TTL + 2 * _MAX_JUMP


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Both clocks at one moment.

    Units: monotonic in seconds from an arbitrary start
    """

    wall: datetime
    monotonic: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why the wall clock is not trusted, and since which reading it has nevertheless run evenly."""

    reason: str
    since: Reading


def doubted(
    now: Reading, *, trusted: Reading | None, high_water: datetime | None, before: Doubt | None = None
) -> Doubt | None:
    """Return why the wall clock is not trusted; None: it is trusted.

    Args:
        trusted: the last trusted reading since this process started; None: there was none.
        high_water: the latest time that the store remembers, needed while there is no trusted reading; None: it remembers none.
        before: the doubt at the last look.
    """
    reason = _jump_in_words(trusted, now) if trusted is not None else _gap_in_words(high_water, now)
    if not reason:
        return None
    since = before.since if before is not None and abs(_jump(before.since, now)) <= _MAX_JUMP else now
    if now.monotonic - since.monotonic >= _PROBATION.total_seconds():
        return None
    return Doubt(reason=reason, since=since)


def ends_at(doubt: Doubt, now: Reading) -> datetime:
    """When a doubt ends if the clock keeps running evenly."""
    return now.wall + _PROBATION - timedelta(seconds=now.monotonic - doubt.since.monotonic)


def renew_at(issued_at: datetime, not_after: datetime, *, now: datetime) -> datetime:
    """When the issuer's own SVID is due: at half-life, or now if the clock was set back to before it is valid."""
    return now if now < issued_at - BACKDATE else issued_at + (not_after - issued_at) / 2


def retry_in(delay: timedelta, *, left: timedelta) -> timedelta:
    """The delay, but at most until the SVID to be replaced expires; a second if it is not valid, because then nobody can reach us.

    Args:
        left: the time until it expires; zero: it is not valid now.
    """
    return min(delay, max(left, _URGENT))


def _jump(before: Reading, now: Reading) -> timedelta:
    return (now.wall - before.wall) - timedelta(seconds=now.monotonic - before.monotonic)


def _jump_in_words(before: Reading, now: Reading) -> str:
    jump = _jump(before, now)
    if abs(jump) <= _MAX_JUMP:
        return ""
    way = "forward" if jump > timedelta() else "back"
    return f"it went {way} by {_rounded(jump)} while {now.monotonic - before.monotonic:.0f} s passed"


def _gap_in_words(high_water: datetime | None, now: Reading) -> str:
    if high_water is None or abs(now.wall - high_water) <= _MAX_GAP:
        return ""
    gap = now.wall - high_water
    return f"it is {_rounded(gap)} {'after' if gap > timedelta() else 'before'} the last moment on record"


def _rounded(span: timedelta) -> timedelta:
    return timedelta(seconds=round(abs(span).total_seconds()))
