"""How messages write a moment: in one form everywhere, to the second, as options take it."""

from datetime import UTC, datetime

__all__ = ["moment_in_words"]


def moment_in_words(moment: datetime) -> str:
    """Write an aware moment in UTC, without fractions of a second: 2026-11-23T08:00:00Z."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
