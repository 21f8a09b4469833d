"""What flows of an issuer find around them, with a clock that the test moves."""

from collections.abc import Callable

from cognomen.daemon.troubles import Troubles
from issuer.metrics import Metrics
from issuer.surroundings import Surroundings
from svid.clock import Clock

__all__ = ["around"]


def around(
    clock: Clock,
    *,
    jitter: Callable[[], float] = lambda: 0.5,
    troubles: Troubles | None = None,
    metrics: Metrics | None = None,
) -> Surroundings:
    """Troubles and metrics of their own, unless the test looks at them."""
    return Surroundings(clock=clock, jitter=jitter, troubles=troubles or Troubles(clock), metrics=metrics or Metrics())
