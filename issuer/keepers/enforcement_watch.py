"""Watch how far connected attestors and their enforcement points are, wake those who wait for them, and time revocations.

This is in memory only, because it is about what is connected now. cognomen/protocol/receipts decides who counts as enforcing a change.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

from prometheus_client import Histogram

from cognomen.protocol.feed import Cursor
from cognomen.protocol.names import NodeID
from cognomen.protocol.receipts import Enforcement, Point, in_turns
from issuer.decisions.changes import can_resume
from issuer.decisions.revocation import Revocation
from issuer.surroundings import Surroundings

__all__ = ["EnforcementWatch", "HowFar", "Silent", "Standing"]

_MOST_TIMED = 1000  # revocations that a slow node may still acknowledge


@dataclass(slots=True, kw_only=True)
class _Timed:
    """The last change for which each stage was timed, so that a repeated acknowledgement is not timed again."""

    pushed: int = 0
    acknowledged: int = 0
    enforced: int = 0


@dataclass(slots=True, kw_only=True)
class Standing:
    """How far a connected node is.

    Args:
        acknowledged: the last change number that its attestor has reported since it connected, or when it connected; 0: none.
        has_spoken: whether it has reported on its enforcement points since it connected.
        heard_at: when it last reported, by the monotonic clock; before the first report, when it connected.
        enforcement: how far its enforcement points are.
        sent: the change that the last message brought it to; None: nothing was sent since it connected.
        timed: the revocations that were timed for it, or were committed before its feed began.
    """

    acknowledged: int
    heard_at: float
    enforcement: Enforcement
    has_spoken: bool = False
    sent: Cursor | None = None
    timed: _Timed = field(default_factory=_Timed)

    def has(self, change: int) -> bool:
        """Whether its attestor enforces that change and has reported on its enforcement points."""
        return self.has_spoken and self.acknowledged >= change

    @property
    def behind(self) -> int:
        """How many of the changes that were sent are not yet acknowledged."""
        return 0 if self.sent is None else max(0, self.sent.number - self.acknowledged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """An attestor or enforcement point that has not confirmed a change, and the last change that it has.

    Args:
        point: None: the attestor itself.
    """

    node_id: NodeID
    point: Point | None
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HowFar:
    """How many have a change, and which do not.

    Args:
        silent: those known by name that do not have it: the slowest of each node, then the next of each; within a node likewise by uid.
    """

    attestors: int
    attestors_enforcing: int
    points: int
    points_enforcing: int
    silent: Sequence[Silent]

    @property
    def is_everywhere(self) -> bool:
        """Whether everybody who is connected has it."""
        return (self.attestors, self.points) == (self.attestors_enforcing, self.points_enforcing)


class EnforcementWatch:
    """Knows how far everybody who is connected is.

    Attributes:
        standing: the standing of each connected node.
        turn: a number that changes with each move.
    """

    def __init__(self, *, around: Surroundings) -> None:
        self.clock = around.clock
        self.metrics = around.metrics
        self.standing: dict[NodeID, Standing] = {}
        self.turn = 0
        self._listed = 0
        self._moved = asyncio.Event()
        self._committed: deque[tuple[int, float]] = deque(maxlen=_MOST_TIMED)

    def begin(self, node_id: NodeID) -> None:
        """A node connected. It counts as having nothing until it reports its cursor, because it may have lost what it had."""
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
        """A node resumes from a change; nothing is known yet about its enforcement points."""
        standing = self.standing[node_id]
        standing.acknowledged, standing.enforcement = number, Enforcement(number=number)
        standing.has_spoken = False
        self._move()

    def end(self, node_id: NodeID) -> None:
        """A node is no longer connected, and nobody waits for it."""
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
        """A message that brings a node to this cursor was handed to its feed."""
        standing = self.standing[node_id]
        timed = standing.timed
        timed.pushed = self._measure(self.metrics.revocation_pushed, timed.pushed, cursor.number)
        standing.sent = cursor

    def hear(self, node_id: NodeID, cursor: Cursor, enforcement: Enforcement) -> None:
        """Take an attestor's report; ignore it if we did not send that cursor."""
        standing = self.standing.get(node_id)
        if standing is None or standing.sent is None or not can_resume(cursor, standing.sent):
            return
        timed, measures = standing.timed, self.metrics
        timed.acknowledged = self._measure(measures.revocation_acknowledged, timed.acknowledged, cursor.number)
        if enforcement.points:
            timed.enforced = self._measure(measures.revocation_enforced, timed.enforced, enforcement.everywhere)
        else:  # a point that joins later is not timed for what was revoked before
            timed.enforced = max(enforcement.number, timed.enforced)
        standing.acknowledged = max(cursor.number, standing.acknowledged)
        standing.enforcement, standing.heard_at = enforcement, self.clock.monotonic()
        standing.has_spoken = True
        self._move()

    def slowest(self) -> int | None:
        """The last change that every connected attestor has; None: nobody is connected."""
        return min((standing.acknowledged for standing in self.standing.values()), default=None)

    def how_far(self, change: int) -> HowFar:
        """Who has that change, and who does not."""
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
        """Return once somebody has moved on or left since that turn."""
        while self.turn == turn:
            await self._moved.wait()

    def _measure(self, histogram: Histogram, before: int, after: int) -> int:
        """Observe the age of the revocations after one change and up to the other; returns the later change."""
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
    """Who on a node does not have that change; the attestor, if it names none of those points."""
    enforcement = standing.enforcement
    silent = [Silent(node_id=node_id, point=one.point, number=one.number) for one in enforcement.silent(change)]
    is_nameless = not silent and enforcement.enforcing(change) < enforcement.points
    if is_nameless or not standing.has(change):
        silent.append(Silent(node_id=node_id, point=None, number=standing.acknowledged))
    silent.sort(key=lambda one: (one.number, one.point or ()))
    return in_turns(silent, lambda one: one.point and one.point.uid)
