"""What local processes say that they enforce: the receipts of this node, gathered for whoever asks how far its enforcement points are.

Decided here: which receipts are taken, and when a point is gone. What is denied: deniallog. Who is told of the points: flows/follow_feed.
Belongs to one event loop; no method awaits.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from attestor.deniallog import DenialLog
from cognomen.daemon.caller import Caller
from cognomen.daemon.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import MOST_BEHIND, Behind, Enforcement, Point

__all__ = ["Receipts"]

_MOST_POINTS = 1000  # of one uid
_POINT_BYTES = 256


class Receipts:
    """How far each enforcement point is whose process follows the denials.

    Attributes:
        news: set when a point came, caught up or is gone; whoever has seen to it clears it.
    """

    def __init__(self, denials: DenialLog) -> None:
        self.news = asyncio.Event()
        self._denials = denials
        self._following: Counter[tuple[int, int]] = Counter()
        self._enforced: dict[Point, Cursor] = {}

    @property
    def enforced(self) -> Mapping[Point, Cursor]:
        """The epoch of each point, live."""
        return MappingProxyType(self._enforced)

    @contextmanager
    def follows(self, caller: Caller) -> Iterator[None]:
        """Count a stream; with the last of a process, which ends with the process, its enforcement points are forgotten."""
        process = (caller.uid, caller.pid)
        self._following[process] += 1
        try:
            yield
        finally:
            self._following -= Counter((process,))  # `-=` forgets what falls to zero
            if process not in self._following:
                left = {point: epoch for point, epoch in self._enforced.items() if (point.uid, point.pid) != process}
                if len(left) < len(self._enforced):
                    self._enforced = left
                    self.news.set()

    def take(self, caller: Caller, name: str, epoch: Cursor) -> None:
        """Note that an enforcement point of the caller enforces all denials up to that epoch.

        Raises:
            Refused: INVALID for a name that is empty or too long, and for an epoch that was never told; CONFLICT unless the caller follows;
                EXHAUSTED when its uid has too many points.
        """
        if not 1 <= len(name.encode()) <= _POINT_BYTES:
            raise Refused(Kind.INVALID, f"point: expected 1 to {_POINT_BYTES} bytes, found {len(name.encode())}")
        now = self._denials.cursor
        if now is None or epoch.incarnation != now.incarnation or epoch.number > now.number:
            raise Refused(Kind.INVALID, "epoch: expected one that was told, found another")
        if not self._following[caller.uid, caller.pid]:
            raise Refused(Kind.CONFLICT, "caller: expected a process that follows the denials, found one that does not")
        point = Point(caller.uid, caller.pid, name)
        known = self._enforced.get(point)
        if known is None and sum(other.uid == caller.uid for other in self._enforced) >= _MOST_POINTS:
            raise Refused(Kind.EXHAUSTED, f"point: expected at most {_MOST_POINTS} of one uid, found one more")
        if known is None or known.incarnation != epoch.incarnation or known.number < epoch.number:
            self._enforced[point] = epoch
            if known is None or self._lacks(known, now):
                self.news.set()

    def leave(self, caller: Caller, name: str) -> None:
        """Note that an enforcement point of the caller is gone; one that is not known is fine."""
        if self._enforced.pop(Point(caller.uid, caller.pid, name), None) is not None:
            self.news.set()

    def up_to(self, cursor: Cursor) -> Enforcement:
        """How far the points are, as seen by whoever stands at that cursor."""
        lagging = [
            Behind(point=point, number=epoch.number if epoch.incarnation == cursor.incarnation else 0)
            for point, epoch in self._enforced.items()
            if self._lacks(epoch, cursor)
        ]
        return Enforcement(
            number=cursor.number,
            points=len(self._enforced),
            reached=len(self._enforced) - len(lagging),
            behind=tuple(sorted(lagging, key=lambda one: (one.number, one.point))[:MOST_BEHIND]),
        )

    def _lacks(self, epoch: Cursor, cursor: Cursor) -> bool:
        """Whether a point there may lack a denial up to the cursor; a change without any, nobody needs to take."""
        if epoch.incarnation != cursor.incarnation:
            return True
        news = self._denials.news_at
        is_before = news is not None and news.incarnation == cursor.incarnation and news.number < cursor.number
        return epoch.number < (news.number if news is not None and is_before else cursor.number)
