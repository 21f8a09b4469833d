"""The receipts of this node: how far each enforcement point of its processes says it has come.

Decided here: which receipts are accepted, and when a point is gone. What a receipt must look like: svid/wire/denials. What is denied:
deniallog. Who is sent the points: flows/follow_feed. The receipts belong to one event loop; no method awaits.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from attestor.deniallog import DenialLog
from cognomen.gate.accounts import AccountID
from cognomen.gate.caller import Caller
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import MOST_BEHIND, Behind, Enforcement, Point, in_turns

__all__ = ["Follower", "Receipts"]

_MOST_POINTS = 1000  # per account
_MOST_STREAMS = 2  # per connection: our library has one, and a second while the first one ends
_MOST_HURRIES = 10  # per account for each piece of news: its points may take it at different times


@dataclass(slots=True, eq=False)
class Follower:
    """One connection of a process. The sources of our library share a connection, so points with the same name are the same point.

    Args:
        streams: how many streams of denials it has open.
        points: the epoch of each point that it has sent receipts for.
    """

    caller: Caller
    streams: int = 0
    points: dict[str, Cursor] = field(default_factory=dict)


class Receipts:
    """How far each enforcement point of the processes that follow the denials has come.

    Attributes:
        caught_up: set when a point has caught up, which somebody may be waiting for; the flow that reports it clears it.
        changed: set when a point is new or gone, which may be reported later; cleared in the same way.
    """

    def __init__(self, denials: DenialLog) -> None:
        self.caught_up, self.changed = asyncio.Event(), asyncio.Event()
        self._denials = denials
        self._followers: set[Follower] = set()
        self._turn = denials.turn
        self._hurries = Counter[AccountID]()

    @contextmanager
    def follows(self, follower: Follower) -> Iterator[None]:
        """Count a stream. When a connection's last stream ends, as it does with its process, its enforcement points are forgotten.

        Raises:
            Refused: EXHAUSTED when the connection has too many.
        """
        if follower.streams >= _MOST_STREAMS:
            detail = f"too many streams of denials on this connection: at most {_MOST_STREAMS} are allowed"
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
            Refused: INVALID for an epoch that was never sent; CONFLICT unless it follows; EXHAUSTED when its uid has too many points.
        """
        now = self._denials.cursor
        if now is None or epoch.incarnation != now.incarnation or epoch.number > now.number:
            raise Refused(Kind.INVALID, "epoch: unknown")
        if follower not in self._followers:
            raise Refused(Kind.CONFLICT, "caller: this connection does not follow the denials")
        known = follower.points.get(name)
        if known is None and self._count(follower.caller.account) >= _MOST_POINTS:
            raise Refused(Kind.EXHAUSTED, f"point: too many of this uid: at most {_MOST_POINTS} are allowed")
        if known is None or known.incarnation != epoch.incarnation or known.number < epoch.number:
            follower.points[name] = epoch
            if known is None:
                self.changed.set()
            elif self._lacks(known, now):
                self._hurry(follower.caller.account)

    def leave(self, follower: Follower, name: str) -> None:
        """Note that one of its enforcement points is gone; it need not be known."""
        if follower.points.pop(name, None) is not None:
            self.changed.set()

    def all(self) -> list[tuple[Point, Cursor]]:
        """Every point with its epoch."""
        return [
            (Point(follower.caller.uid, follower.caller.pid, name), epoch)
            for follower in self._followers
            for name, epoch in follower.points.items()
        ]

    def up_to(self, cursor: Cursor) -> Enforcement:
        """How far the points have come, as seen from that cursor."""
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

    def _hurry(self, whose: AccountID) -> None:
        """Have it reported at once that a point caught up; for an account that does so repeatedly without any news, later."""
        if self._turn != self._denials.turn:
            self._turn = self._denials.turn
            self._hurries.clear()
        if self.caught_up.is_set():
            return
        self._hurries[whose] += 1
        (self.caught_up if self._hurries[whose] <= _MOST_HURRIES else self.changed).set()

    def _count(self, whose: AccountID) -> int:
        return sum(len(one.points) for one in self._followers if one.caller.account == whose)

    def _lacks(self, epoch: Cursor, cursor: Cursor) -> bool:
        """Whether a point at that epoch may lack a denial up to the cursor; no point needs to take a change without denials."""
        if epoch.incarnation != cursor.incarnation:
            return True
        news = self._denials.news_at
        is_before = news is not None and news.incarnation == cursor.incarnation and news.number < cursor.number
        return epoch.number < (news.number if news is not None and is_before else cursor.number)


def _named(lagging: Iterable[Behind]) -> Sequence[Behind]:
    """The points that are reported by name: the slowest, but one of each uid first."""
    return in_turns(sorted(lagging, key=_slowest_first), lambda one: one.point.uid)[:MOST_BEHIND]


def _slowest_first(one: Behind) -> tuple[int, Point]:
    return one.number, one.point
