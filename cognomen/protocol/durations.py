"""Durations as people write them: 90s, 30m, 1h30m, 14d."""

import re
from datetime import timedelta

from cognomen.protocol.printable import printable

__all__ = ["format_duration", "parse_duration"]

_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}
_DURATION = re.compile(r"(?:[0-9]+[dhms])+")


def parse_duration(text: str) -> timedelta:
    """Parse a duration such as 90s, 30m, 1h, 1h30m or 14d.

    Raises:
        ValueError: the text is not a duration, or exceeds what a timedelta holds.
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"expected a duration such as 90s, 30m, 1h or 1d, found {printable(text)!r}")
    try:
        return sum((int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([dhms])", text)), timedelta())
    except (ValueError, OverflowError) as e:  # a ValueError for more digits than Python reads
        raise ValueError(f"expected a duration of at most 999999999 days, found {printable(text)!r}") from e


def format_duration(duration: timedelta) -> str:
    """Write a duration for `parse_duration`, in the largest unit that divides it: 90s, 1h, 14d."""
    for unit, size in _UNITS.items():
        if duration and not duration % size:
            return f"{duration // size}{unit}"
    return f"{duration.total_seconds():g}s"
