"""What local processes say that they enforce: the receipts of this node, gathered for whoever asks how far its enforcement points are.

Decided here: which receipts are taken, and when a point is gone. What a receipt must look like: svid/wire/denials. What is denied:
deniallog. Who is told of the points: flows/follow_feed. Belongs to one event loop; no method awaits.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from attestor.deniallog import DenialLog
from cognomen.daemon.caller import Caller
from cognomen.daemon.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import MOST_BEHIND, Behind, Enforcement, Point, in_turns

__all__ = ["Follower", "Receipts"]

_MOST_POINTS = 1000  # of one uid
_MOST_STREAMS = 2  # of one connection: our library has one, and another while that ends
_MOST_HURRIES = 10  # of one uid, for each news of denials: its points may take it at different times


@dataclass(slots=True, eq=False)
class Follower:
    """One connection of a process; the sources of our library share one, so that their points of one name are one.

    Args:
        streams: how many it follows the denials on.
        points: how far those are of which it gave receipts.
    """

    caller: Caller
    streams: int = 0
    points: dict[str, Cursor] = field(default_factory=dict)


class Receipts:
    """How far each enforcement point is that belongs to somebody who follows the denials.

    Attributes:
        caught_up: set when a point took what it lacked, which somebody may wait for; whoever has seen to it clears it.
        changed: set when a point came or is gone, which may be told later; cleared likewise.
    """

    def __init__(self, denials: DenialLog) -> None:
        self.caught_up, self.changed = asyncio.Event(), asyncio.Event()
        self._denials = denials
        self._followers: set[Follower] = set()
        self._turn = denials.turn
        self._hurries = Counter[int]()

    @contextmanager
    def follows(self, follower: Follower) -> Iterator[None]:
        """Count a stream; with the last of a connection, which ends with its process, its enforcement points are forgotten.

        Raises:
            Refused: EXHAUSTED when the connection has too many.
        """
        if follower.streams >= _MOST_STREAMS:
            detail = f"streams of denials on this connection: expected at most {_MOST_STREAMS}, found one more"
            raise Refused(Kind.EXHAUSTED, detail)
        self._followers.add(follower)
        follower.streams += 1
        try:
            yield
        finally:
            follower.streams -= 1
            if not follower.streams:
                self._followers.discard(follower)
                if follower.points:
                    follower.points.clear()
                    self.changed.set()

    def take(self, follower: Follower, name: str, epoch: Cursor) -> None:
        """Note that one of its enforcement points enforces all denials up to that epoch.

        Raises:
            Refused: INVALID for an epoch that was never told; CONFLICT unless it follows; EXHAUSTED when its uid has too many points.
        """
        now = self._denials.cursor
        if now is None or epoch.incarnation != now.incarnation or epoch.number > now.number:
            raise Refused(Kind.INVALID, "epoch: expected one that was told, found another")
        if follower not in self._followers:
            raise Refused(
                Kind.CONFLICT, "caller: expected a connection that follows the denials, found one that does not"
            )
        known = follower.points.get(name)
        if known is None and self._count(follower.caller.uid) >= _MOST_POINTS:
            raise Refused(Kind.EXHAUSTED, f"point: expected at most {_MOST_POINTS} of one uid, found one more")
        if known is None or known.incarnation != epoch.incarnation or known.number < epoch.number:
            follower.points[name] = epoch
            if known is None:
                self.changed.set()
            elif self._lacks(known, now):
                self._hurry(follower.caller.uid)

    def leave(self, follower: Follower, name: str) -> None:
        """Note that one of its enforcement points is gone; one that is not known is fine."""
        if follower.points.pop(name, None) is not None:
            self.changed.set()

    def all(self) -> list[tuple[Point, Cursor]]:
        """Every point, and its epoch."""
        return [
            (Point(follower.caller.uid, follower.caller.pid, name), epoch)
            for follower in self._followers
            for name, epoch in follower.points.items()
        ]

    def up_to(self, cursor: Cursor) -> Enforcement:
        """How far the points are, as seen by whoever stands at that cursor."""
        points = self.all()
        lagging = [
            Behind(point=point, number=epoch.number if epoch.incarnation == cursor.incarnation else 0)
            for point, epoch in points
            if self._lacks(epoch, cursor)
        ]
        return Enforcement(
            number=cursor.number,
            points=len(points),
            reached=len(points) - len(lagging),
            behind=tuple(sorted(_named(lagging), key=_slowest_first)),
        )

    def _hurry(self, uid: int) -> None:
        """Have it told at once that a point caught up; of a uid that does so again and again without any news, later."""
        if self._turn != self._denials.turn:
            self._turn = self._denials.turn
            self._hurries.clear()
        if self.caught_up.is_set():
            return
        self._hurries[uid] += 1
        (self.caught_up if self._hurries[uid] <= _MOST_HURRIES else self.changed).set()

    def _count(self, uid: int) -> int:
        return sum(len(one.points) for one in self._followers if one.caller.uid == uid)

    def _lacks(self, epoch: Cursor, cursor: Cursor) -> bool:
        """Whether a point there may lack a denial up to the cursor; a change without any, nobody needs to take."""
        if epoch.incarnation != cursor.incarnation:
            return True
        news = self._denials.news_at
        is_before = news is not None and news.incarnation == cursor.incarnation and news.number < cursor.number
        return epoch.number < (news.number if news is not None and is_before else cursor.number)


def _named(lagging: Iterable[Behind]) -> Sequence[Behind]:
    """Those that are told by name: the slowest, but one of each uid first."""
    return in_turns(sorted(lagging, key=_slowest_first), lambda one: one.point.uid)[:MOST_BEHIND]


def _slowest_first(one: Behind) -> tuple[int, Point]:
    return one.number, one.point
