"""Compare two wall clocks that should agree: this node's, and the issuer's, by which every SVID is dated.

We do not know which one is right. So an SVID stays in service while either clock finds it valid, its renewal counts by a clock that nobody
sets (attestor/decisions/renewal), and the difference between the two is reported. Who reads the clocks: attestor/nodeclock.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cognomen.protocol.validity import BACKDATE

__all__ = ["MOST_APART", "Reading", "apart", "is_valid"]

MOST_APART = BACKDATE
"""If the clocks differ by more than the issuer back-dates, somebody uses an SVID outside its life."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the clocks show at one moment.

    Args:
        own: this node's wall clock.
        issuer: the issuer's, estimated from its last answer; `own` if it has never answered.
        monotonic: seconds, by a clock that nobody sets.
        silent: for how long every call to the issuer has failed; zero: the last one succeeded.
    """

    own: datetime
    issuer: datetime
    monotonic: float
    silent: timedelta

    @property
    def ahead(self) -> timedelta:
        """How far this node's clock is ahead of the issuer's; negative: behind."""
        return self.own - self.issuer


def is_valid(not_before: datetime, not_after: datetime, at: Reading) -> bool:
    """Whether a credential is valid by at least one of the clocks."""
    return not_before <= at.own < not_after or not_before <= at.issuer < not_after


def apart(at: Reading) -> str:
    """Name both clocks if they are too far apart; empty: they are not."""
    if abs(at.ahead) <= MOST_APART:
        return ""
    direction = "ahead of" if at.ahead > timedelta() else "behind"
    says = "as last heard, now" if at.silent else "which says"
    length = _span(abs(at.ahead))
    return f"this node's clock says {_text(at.own)}, {length} {direction} the issuer's, {says} {_text(at.issuer)}"


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _span(length: timedelta) -> str:
    """Shape: `2 d 1 h`, `40 min`, `75 s`: the two largest units; below ten minutes, seconds."""
    seconds = round(length.total_seconds())
    if seconds < 600:  # noqa: PLR2004 - ten minutes
        return f"{seconds} s"
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    parts = [f"{number} {unit}" for number, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if number]
    return " ".join(parts[:2])
