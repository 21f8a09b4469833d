"""The surroundings of the attestor's flows in a test or a bench: without randomness, and with their own troubles and metrics."""

from attestor.metrics import Metrics
from attestor.nodeclock import NodeClock
from attestor.surroundings import Surroundings
from cognomen.daemon.troubles import Troubles
from svid.clock import Clock

__all__ = ["surroundings"]


def surroundings(clock: Clock, troubles: Troubles | None = None, *, jitter: float = 0.5) -> Surroundings:
    """The surroundings of one attestor with this clock.

    Args:
        troubles: None: those of nobody else.
        jitter: what chance always says.
    """
    own = clock if isinstance(clock, NodeClock) else NodeClock(clock)
    return Surroundings(clock=own, jitter=lambda: jitter, troubles=troubles or Troubles(own), metrics=Metrics())
