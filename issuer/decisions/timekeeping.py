"""Whether the wall clock can be trusted, and when an SVID of our own is due: nothing here waits, the flows look again and again.

Only what destroys because its time has come (retiring, pruning) rests while the clock is doubted. The clock is compared with the monotonic
clock, which nobody sets, and with the latest moment that the store remembers. A doubt ends when the clocks agree again, when an operator
confirms the clock, or once it went on evenly for so long that nothing signed before can still be valid, whatever the time really is.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from issuer.decisions.authority import BACKDATE
from svid.entry import MAX_TTL

__all__ = ["Doubt", "Reading", "doubted", "ends_at", "renew_at"]

_MAX_JUMP = timedelta(seconds=60)
_MAX_GAP = timedelta(days=1)
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
    """Why the wall clock is not trusted, and since which reading it has gone on evenly all the same."""

    reason: str
    since: Reading


def doubted(
    now: Reading, *, trusted: Reading | None, high_water: datetime | None, before: Doubt | None = None
) -> Doubt | None:
    """Say why the wall clock is not trusted; None: it is.

    Args:
        trusted: the last reading that was trusted since this process started; None: none was.
        high_water: the latest moment that the store remembers, for as long as none was; None: it remembers none.
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
    """When a doubt ends if the clock goes on evenly."""
    return now.wall + _PROBATION - timedelta(seconds=now.monotonic - doubt.since.monotonic)


def renew_at(issued_at: datetime, not_after: datetime, *, now: datetime) -> datetime:
    """When the issuer's own SVID is due: at half-life, and now when the clock was set back to before it is valid."""
    return now if now < issued_at - BACKDATE else issued_at + (not_after - issued_at) / 2


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
