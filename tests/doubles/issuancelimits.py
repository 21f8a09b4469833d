"""Limits on issuance for tests of other things: none, unless the test loads some."""

from datetime import timedelta

from issuer.keepers.issuance_limits import IssuanceLimits
from issuer.surroundings import Surroundings
from svid.clock import Clock
from tests.doubles.issuersurroundings import around

__all__ = ["issuance_limits"]


def issuance_limits(clock: Clock, *, own: Surroundings | None = None, open_seconds: float = 30) -> IssuanceLimits:
    """The keeper as the issuer makes it, with its defaults."""
    return IssuanceLimits(
        around=own or around(clock), breaker_open=timedelta(seconds=open_seconds), grace=timedelta(days=5)
    )
