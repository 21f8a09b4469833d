"""Tell when this node's clock and the issuer's are too far apart; attestor/decisions/clocks says how far that is."""

import structlog

from attestor.decisions.clocks import apart
from attestor.decisions.node import SET_CLOCKS
from attestor.nodeclock import NodeClock
from cognomen.daemon.troubles import Troubles

__all__ = ["CompareClocks"]

log = structlog.get_logger(__name__)

_TROUBLE = "clock"
_EVERY_SECONDS = 15.0


class CompareClocks:
    """The flow; whoever looks at the attestor calls it, too."""

    def __init__(self, clock: NodeClock, troubles: Troubles) -> None:
        self._clock = clock
        self._troubles = troubles
        self._told = False

    async def run(self) -> None:
        """Compare, for ever."""
        while True:
            self()
            await self._clock.sleep(_EVERY_SECONDS)

    def __call__(self) -> str:
        """Compare now; what is wrong names both clocks, and is empty where nothing is."""
        wrong = apart(self._clock.read())
        if wrong:
            self._troubles.note(_TROUBLE, wrong)
        else:
            self._troubles.over(_TROUBLE)
        if bool(wrong) != self._told:
            self._told = bool(wrong)
            if wrong:
                log.error("clocks found apart", reason=wrong, hint=SET_CLOCKS)
            else:
                log.info("clocks found in step")
        return wrong
