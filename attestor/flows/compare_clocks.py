"""Report when this node's clock and the issuer's are too far apart; attestor/decisions/clocks says how far that is."""

import structlog

from attestor.decisions.clocks import apart
from attestor.decisions.node import SET_CLOCKS
from attestor.surroundings import Surroundings

__all__ = ["CompareClocks"]

log = structlog.get_logger(__name__)

_TROUBLE = "clock"
_EVERY_SECONDS = 15.0


class CompareClocks:
    """The flow; observers of the attestor also call it."""

    def __init__(self, around: Surroundings) -> None:
        self._clock, self._troubles = around.clock, around.troubles
        self._told = False

    async def run(self) -> None:
        """Compare forever."""
        while True:
            self()
            await self._clock.sleep(_EVERY_SECONDS)

    def __call__(self) -> str:
        """Compare now; return a text that names both clocks, or an empty one if they agree."""
        wrong = apart(self._clock.read())
        if wrong:
            self._troubles.note_lasting(_TROUBLE, wrong)
        else:
            self._troubles.over(_TROUBLE)
        if bool(wrong) != self._told:
            self._told = bool(wrong)
            if wrong:
                log.error("clocks found apart", reason=wrong, hint=SET_CLOCKS)
            else:
                log.info("clocks found in step")
        return wrong
