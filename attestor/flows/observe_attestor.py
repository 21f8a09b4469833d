"""Observe the state of the attestor: one observation serves both the operators' pages and the metrics."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from attestor.cache import Cache, HeldX509
from attestor.decisions.clocks import Reading
from attestor.decisions.node import Node
from attestor.flows.compare_clocks import CompareClocks
from attestor.flows.follow_feed import FollowFeed
from attestor.flows.keep_node import KeepNode
from attestor.flows.mint_jwts import MintJWTs
from attestor.flows.renew_svids import RenewSVIDs
from attestor.receipts import Receipts
from attestor.surroundings import Surroundings
from cognomen.daemon.troubles import Trouble
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import Point

__all__ = ["ObserveAttestor", "Observed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The state of the attestor.

    Args:
        at: what the clocks showed.
        renew_at: when the node SVID is renewed next.
        synchronised: whether a complete snapshot has arrived since the start.
        connected: whether the feed is open and has sent something.
        entries, svids: live, not copied.
        due: when the SVID of each entry is renewed next.
        lag: how long the most overdue one has been waiting.
        callers: how many streams each process holds open, by uid and pid.
        ahead: how far this node's clock is ahead of the issuer's; None: not known yet.
        apart: names both clocks where they are too far apart.
        heard_ago: how long ago the issuer sent something on the feed; if nothing since the start, an upper bound.
        has_heard: whether it has sent something since the start.
        denials: how many credentials are refused because they were revoked.
        enforced: how far each enforcement point of local processes has come.
    """

    at: Reading
    started_at: datetime
    node: Node
    renew_at: datetime
    synchronised: bool
    connected: bool
    last_step_at: datetime | None
    cursor: Cursor | None
    entries: Mapping[EntryID, RegistrationEntry]
    svids: Mapping[EntryID, HeldX509]
    due: Mapping[EntryID, datetime]
    lag: timedelta
    subscribers: int
    callers: Counter[tuple[int, int]]
    ahead: timedelta | None
    apart: str
    heard_ago: timedelta
    has_heard: bool
    denials: int
    enforced: Sequence[tuple[Point, Cursor]]
    troubles: Sequence[Trouble]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveAttestor:
    """Observes the attestor and sets the gauges."""

    started_at: datetime
    around: Surroundings
    cache: Cache
    clocks: CompareClocks
    node: KeepNode
    feed: FollowFeed
    receipts: Receipts
    renewals: RenewSVIDs
    jwts: MintJWTs

    def __call__(self) -> Observed:
        """Observe it now."""
        clock, due = self.around.clock, self.renewals.due()
        at = clock.read()
        observed = Observed(
            at=at,
            started_at=self.started_at,
            node=self.node.node,
            renew_at=self.node.renew_at,
            synchronised=self.cache.synchronised,
            connected=self.feed.is_connected,
            last_step_at=self.feed.last_step_at,
            cursor=self.cache.cursor,
            entries=self.cache.entries,
            svids=self.cache.svids,
            due=due,
            lag=max(at.own - min(due.values(), default=at.own), timedelta()),
            subscribers=len(self.cache.streams),
            callers=self.cache.streams.callers,
            ahead=clock.ahead,
            apart=self.clocks(),
            heard_ago=self.feed.age(),
            has_heard=self.feed.has_heard,
            denials=len(self.cache.denials),
            enforced=self.receipts.all(),
            troubles=self.around.troubles.all(),
        )
        self._measure(observed)
        return observed

    def _measure(self, seen: Observed) -> None:
        metrics = self.around.metrics
        metrics.started_at.set(seen.started_at.timestamp())
        metrics.synchronised.set(seen.synchronised)
        metrics.feed_connected.set(seen.connected)
        metrics.feed_step_at.set(0 if seen.last_step_at is None else seen.last_step_at.timestamp())
        metrics.change_number.set(0 if seen.cursor is None else seen.cursor.number)
        metrics.node_svid_not_after.set(seen.node.svid.not_after.timestamp())
        metrics.node_svid_renew_at.set(seen.renew_at.timestamp())
        metrics.entries.set(len(seen.entries))
        metrics.svids.set(len(seen.svids))
        ends = (held.svid.not_after.timestamp() for held in seen.svids.values())
        metrics.svids_first_end.set(min(ends, default=0))
        metrics.renewal_lag.set(seen.lag.total_seconds())
        metrics.jwt_svids.set(self.jwts.kept)
        metrics.streams.set(seen.subscribers)
        metrics.denials.set(seen.denials)
        metrics.heard_ago.set(seen.heard_ago.total_seconds())
        metrics.clock_ahead.set(0 if seen.ahead is None else seen.ahead.total_seconds())
        metrics.troubles.set(len(seen.troubles))
