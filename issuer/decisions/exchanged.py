"""How far a revocation does not reach: a provider that traded a JWT-SVID for a token of its own keeps that alive until its own end."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

__all__ = ["exchanged_until"]


def exchanged_until(
    audiences: Iterable[str], ends_at: datetime, longest_lives: Mapping[str, timedelta]
) -> datetime | None:
    """Until when a token may live that somebody got for a JWT-SVID with these audiences; None: none of them is a declared provider's.

    The JWT-SVID may have been traded in its last moment.

    Args:
        longest_lives: by audience, how long the tokens of declared providers live.
    """
    lives = [longest_lives[audience] for audience in audiences if audience in longest_lives]
    return ends_at + max(lives) if lives else None
