"""How far a revocation does not reach: a provider that traded a JWT-SVID for a token of its own keeps that alive until its own end."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

__all__ = ["Exchanged", "exchanged_of", "exchanged_until"]


class Exchanged(NamedTuple):
    """Tokens that may still live at a declared provider.

    Args:
        audience: the provider's.
        until: when the last of them ends.
    """

    audience: str
    until: datetime


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


def exchanged_of(
    last_ends: Mapping[str, datetime], longest_lives: Mapping[str, timedelta], *, now: datetime
) -> Sequence[Exchanged]:
    """What may still live of what was had for JWT-SVIDs, by audience.

    Args:
        last_ends: by audience, when the last of the JWT-SVIDs expires or expired.
        longest_lives: as in `exchanged_until`; it has each of these audiences.
    """
    found = (Exchanged(audience, end + longest_lives[audience]) for audience, end in sorted(last_ends.items()))
    return [one for one in found if one.until > now]
