"""What every flow of an issuer shares: the clock, randomness, and where to report troubles and metrics."""

from collections.abc import Callable
from dataclasses import dataclass

from cognomen.daemon.troubles import Troubles
from issuer.metrics import Metrics
from svid.clock import Clock

__all__ = ["Surroundings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The surroundings of one issuer's flows.

    Args:
        jitter: returns a number in [0, 1).
    """

    clock: Clock
    jitter: Callable[[], float]
    troubles: Troubles
    metrics: Metrics
