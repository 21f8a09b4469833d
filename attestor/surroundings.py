"""What every flow of an attestor needs: the time, randomness, and the places where it reports troubles and metrics."""

from collections.abc import Callable
from dataclasses import dataclass

from attestor.metrics import Metrics
from attestor.nodeclock import NodeClock
from cognomen.daemon.troubles import Troubles

__all__ = ["Surroundings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The surroundings of one attestor's flows.

    Args:
        jitter: returns a number in [0, 1).
    """

    clock: NodeClock
    jitter: Callable[[], float]
    troubles: Troubles
    metrics: Metrics
