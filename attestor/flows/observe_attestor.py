"""Look at how the attestor is: one look for whoever shows it to operators and for whoever measures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from attestor.cache import Cache, HeldX509
from attestor.decisions.node import Node
from attestor.flows.compare_clocks import CompareClocks
from attestor.flows.follow_feed import FollowFeed
from attestor.flows.keep_denials import KeepDenials
from attestor.flows.keep_node import KeepNode
from attestor.flows.mint_jwts import MintJWTs
from attestor.flows.renew_svids import RenewSVIDs
from attestor.flows.serve_denials import ServeDenials
from attestor.metrics import Metrics
from attestor.nodeclock import NodeClock
from cognomen.daemon.troubles import Trouble, Troubles
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import Point
from svid.entry import EntryID, RegistrationEntry

__all__ = ["ObserveAttestor", "Observed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """How it is.

    Args:
        renew_at: when the node SVID is renewed next.
        synchronised: whether a complete snapshot has come since the start.
        connected: whether the feed is open and has said something.
        entries, svids: live, not copied.
        due: when the SVID of each entry is renewed next.
        lag: how long the one that is most overdue waits.
        callers: how many streams each process holds open, by uid and pid.
        ahead: how far this node's clock is ahead of the issuer's; None: not known yet.
        apart: names both clocks where they are too far apart.
        heard_ago: how long ago the issuer said something on the feed.
        denials: how many credentials are refused, because they were revoked.
        enforced: how far each enforcement point of local processes is.
    """

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
    denials: int
    enforced: Sequence[tuple[Point, Cursor]]
    troubles: Sequence[Trouble]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveAttestor:
    """Looks, and sets the gauges."""

    started_at: datetime
    clock: NodeClock
    compare: CompareClocks
    cache: Cache
    node: KeepNode
    feed: FollowFeed
    denials: KeepDenials
    followers: ServeDenials
    renewals: RenewSVIDs
    jwts: MintJWTs
    troubles: Troubles
    metrics: Metrics

    def __call__(self) -> Observed:
        """Look now."""
        now, due = self.clock.now(), self.renewals.due()
        observed = Observed(
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
            lag=max(now - min(due.values(), default=now), timedelta()),
            subscribers=self.cache.subscribers,
            callers=self.cache.callers,
            ahead=self.clock.ahead,
            apart=self.compare(),
            heard_ago=self.feed.age(),
            denials=len(self.cache.denials),
            enforced=self.followers.receipts.all(),
            troubles=self.troubles.all(),
        )
        self._measure(observed)
        return observed

    def _measure(self, seen: Observed) -> None:
        metrics = self.metrics
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
