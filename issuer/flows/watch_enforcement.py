"""Watch how far connected attestors and their enforcement points are, wake who waits for them, and measure how long a revocation takes.

In memory alone: it is about what is connected now. Who counts as enforcing a change is decided in cognomen/protocol/receipts.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from prometheus_client import Histogram

from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import Enforcement, Point, in_turns
from issuer.decisions.audit import NodeID
from issuer.decisions.changes import can_resume
from issuer.decisions.revocation import Revocation
from issuer.metrics import Metrics
from svid.clock import Clock

__all__ = ["HowFar", "Silent", "Standing", "WatchEnforcement"]

_MOST_TIMED = 1000  # revocations that somebody who is slow may yet acknowledge


@dataclass(slots=True, kw_only=True)
class _Timed:
    """Up to which change it was measured how long each station took: a node that says a thing again is not measured again."""

    pushed: int = 0
    acknowledged: int = 0
    enforced: int = 0


@dataclass(slots=True, kw_only=True)
class Standing:
    """How far a connected node is.

    Args:
        acknowledged: the last change number that its attestor said it has, since it connected or in connecting; 0: none.
        has_spoken: whether it said how far its enforcement points are, since it connected.
        heard_at: when it said so, by the monotonic clock; until then, when it connected.
        enforcement: how far its enforcement points are.
        sent: where the last message left it; None: none was sent since it connected.
        timed: the revocations that are measured of it, or were committed before its feed began.
    """

    acknowledged: int
    heard_at: float
    enforcement: Enforcement
    has_spoken: bool = False
    sent: Cursor | None = None
    timed: _Timed = field(default_factory=_Timed)

    def has(self, change: int) -> bool:
        """Whether its attestor enforces that change, and has said what is known of its points."""
        return self.has_spoken and self.acknowledged >= change

    @property
    def behind(self) -> int:
        """How many changes were sent that are not acknowledged yet."""
        return 0 if self.sent is None else max(0, self.sent.number - self.acknowledged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """Who has not said that it took a change, and the last that it has.

    Args:
        point: None: it is the attestor itself.
    """

    node_id: NodeID
    point: Point | None
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HowFar:
    """Who has taken a change.

    Args:
        silent: those that are known by name and have not: the slowest of each node, then the next of each; of a node likewise by uid.
    """

    attestors: int
    attestors_enforcing: int
    points: int
    points_enforcing: int
    silent: Sequence[Silent]

    @property
    def is_everywhere(self) -> bool:
        """Whether everybody has who is connected."""
        return (self.attestors, self.points) == (self.attestors_enforcing, self.points_enforcing)


@dataclass(slots=True, kw_only=True)
class WatchEnforcement:
    """Knows it.

    Attributes:
        standing: of each connected node.
        turn: another number after each move.
    """

    clock: Clock
    metrics: Metrics
    standing: dict[NodeID, Standing] = field(default_factory=dict)
    turn: int = 0
    _listed: int = 0
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _committed: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_MOST_TIMED))

    def begin(self, node_id: NodeID) -> None:
        """A node connected: it has nothing until it says where it stands, for it may have lost what it had."""
        if node_id in self.standing:
            return
        newest = self._committed[-1][0] if self._committed else 0
        self.standing[node_id] = Standing(
            acknowledged=0,
            heard_at=self.clock.monotonic(),
            enforcement=Enforcement(number=0),
            timed=_Timed(pushed=newest, acknowledged=newest, enforced=newest),
        )

    def stands(self, node_id: NodeID, number: int) -> None:
        """A node goes on from a change; of its enforcement points nothing is known yet."""
        standing = self.standing[node_id]
        standing.acknowledged, standing.enforcement = number, Enforcement(number=number)
        standing.has_spoken = False
        self._move()

    def end(self, node_id: NodeID) -> None:
        """A node is not connected any more, and nobody waits for it."""
        del self.standing[node_id]
        self._move()

    def committed(self, revocation: Revocation) -> None:
        """A revocation is in force at the issuer as of now."""
        self._committed.append((revocation.change, self.clock.monotonic()))
        self.metrics.revocation_committed.observe(max(0.0, (self.clock.now() - revocation.at).total_seconds()))

    def listed(self, number: int) -> None:
        """The revocation list of every authority holds what was revoked up to that change."""
        self._listed = self._measure(self.metrics.revocation_listed, self._listed, number)

    def pushed(self, node_id: NodeID, cursor: Cursor) -> None:
        """A message was handed to a node's feed that leaves it there."""
        standing = self.standing[node_id]
        timed = standing.timed
        timed.pushed = self._measure(self.metrics.revocation_pushed, timed.pushed, cursor.number)
        standing.sent = cursor

    def hear(self, node_id: NodeID, cursor: Cursor, enforcement: Enforcement) -> None:
        """Take what an attestor says; of a cursor that we did not send, nothing."""
        standing = self.standing.get(node_id)
        if standing is None or standing.sent is None or not can_resume(cursor, standing.sent):
            return
        timed, measures = standing.timed, self.metrics
        timed.acknowledged = self._measure(measures.revocation_acknowledged, timed.acknowledged, cursor.number)
        if enforcement.points:
            timed.enforced = self._measure(measures.revocation_enforced, timed.enforced, enforcement.everywhere)
        else:  # a point that comes later takes nothing of what was revoked before
            timed.enforced = max(enforcement.number, timed.enforced)
        standing.acknowledged = max(cursor.number, standing.acknowledged)
        standing.enforcement, standing.heard_at = enforcement, self.clock.monotonic()
        standing.has_spoken = True
        self._move()

    def how_far(self, change: int) -> HowFar:
        """Who has taken that change."""
        standings = self.standing.values()
        return HowFar(
            attestors=len(standings),
            attestors_enforcing=sum(standing.has(change) for standing in standings),
            points=sum(standing.enforcement.points for standing in standings),
            points_enforcing=sum(standing.enforcement.enforcing(change) for standing in standings),
            silent=self._silent(change),
        )

    def _silent(self, change: int) -> list[Silent]:
        each = (_silent_of(node_id, standing, change) for node_id, standing in self.standing.items())
        slowest_first = sorted((some for some in each if some), key=lambda some: (some[0].number, some[0].node_id))
        return in_turns(chain.from_iterable(slowest_first), lambda one: one.node_id)

    async def moved(self, turn: int) -> None:
        """Return once somebody is further, or gone, since that turn."""
        while self.turn == turn:
            await self._moved.wait()

    def _measure(self, histogram: Histogram, before: int, after: int) -> int:
        """Observe how long ago the revocations were committed that lie after the one change and up to the other; the later one."""
        now = self.clock.monotonic()
        for change, at in reversed(self._committed):
            if change <= before:
                break
            if change <= after:
                histogram.observe(now - at)
        return max(before, after)

    def _move(self) -> None:
        self.turn += 1
        self._moved.set()
        self._moved = asyncio.Event()


def _silent_of(node_id: NodeID, standing: Standing, change: int) -> list[Silent]:
    """Who of a node has not taken that change; its attestor, where it names none of those points."""
    enforcement = standing.enforcement
    silent = [Silent(node_id=node_id, point=one.point, number=one.number) for one in enforcement.silent(change)]
    is_nameless = not silent and enforcement.enforcing(change) < enforcement.points
    if is_nameless or not standing.has(change):
        silent.append(Silent(node_id=node_id, point=None, number=standing.acknowledged))
    silent.sort(key=lambda one: (one.number, one.point or ()))
    return in_turns(silent, lambda one: one.point and one.point.uid)
