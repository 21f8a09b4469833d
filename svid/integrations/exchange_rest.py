"""The rest after a failed exchange: its error is given to everybody who comes meanwhile, and no further JWT-SVID is signed and sent.

Decided here: how long. What failed: svid/integrations/exchange.
"""

import copy

from svid.clock import Clock
from svid.errors import ExchangeError

__all__ = ["Rest"]

_SHORT_SECONDS = 0.5  # many threads that try again at once make a few exchanges, and a person notices nothing


class Rest:
    """For one TokenExchange, which makes one exchange at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0
        self._error: ExchangeError | None = None

    def check(self) -> None:
        """Raise the error of the last exchange until the rest after it is over, each time with a traceback of its own."""
        if self._error is not None and self._clock.monotonic() < self._until:
            raise copy.copy(self._error)
        self._error = None

    def begin(self, error: ExchangeError) -> None:
        """Rest after this error, as long as the provider wants; one that `check` raised does not make it longer."""
        now = self._clock.monotonic()
        if self._error is not None and now < self._until:
            return
        wants = error.retry_at
        seconds = _SHORT_SECONDS if wants is None else (wants - self._clock.now()).total_seconds()
        self._until, self._error = now + seconds, copy.copy(error)
