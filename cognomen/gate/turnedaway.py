"""Reports who was turned away at a Unix socket: a warning for each uid and reason at once, then one a minute; and a count.

The gate decides who is turned away.
"""

from collections.abc import Callable

import structlog

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.printable import printable
from svid.linelimit import LineLimit

__all__ = ["TurnedAway"]

log = structlog.get_logger(__name__)


class TurnedAway:
    """Reports those who were turned away at one socket.

    Args:
        count: called with a kind and how many more there were, for a metric.
    """

    def __init__(self, count: Callable[[Kind, int], None] = lambda _kind, _times: None) -> None:
        self._count = count
        self._lines = {kind: LineLimit() for kind in Kind}

    def tell(self, uid: int, refused: Refused, now: float, *, times: int = 1) -> None:
        """Report one, or several alike.

        Units: `now` is seconds of a clock that nobody sets.
        """
        self._count(refused.kind, times)
        left_out = self._lines[refused.kind].left_out(str(uid), now, times=times)
        if left_out is not None:
            log.warning(
                "connection refused", uid=uid, reason=printable(refused.detail), hint=refused.hint, left_out=left_out
            )
