"""Look at how the issuer is: one look for whoever shows it to operators and for whoever measures."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cognomen.daemon.troubles import Trouble, Troubles
from cognomen.protocol.feed import Cursor
from issuer.datastore.port import Datastore
from issuer.decisions.audit import NodeID
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState, is_valid
from issuer.decisions.restoration import forgotten
from issuer.flows.defer_writes import DeferWrites
from issuer.flows.feed_attestors import FeedAttestors
from issuer.flows.guard_clock import GuardClock
from issuer.flows.renew_issuer_svid import IssuerIdentity
from issuer.flows.rotate_authority import RotateAuthority
from issuer.flows.watch_enforcement import Standing
from issuer.metrics import Metrics
from svid.clock import Clock
from svid.spiffeid import TrustDomain

__all__ = ["Lag", "ObserveIssuer", "Observed"]

_ROOM = "room of the datastore"
_NOT_VALID = "validity"
_RESTORED = "restored backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a connected node is.

    Args:
        behind: how many changes were sent that its attestor has not acknowledged.
        acknowledged: the last change that it has.
        heard_ago: since its last acknowledgement.
        points: the enforcement points of its processes.
        points_enforcing: those of them that have everything that was acknowledged.
    """

    node_id: NodeID
    behind: int
    acknowledged: int
    heard_ago: timedelta
    points: int
    points_enforcing: int

    @property
    def is_behind(self) -> bool:
        """Whether its attestor or one of its points is."""
        return bool(self.behind) or self.points_enforcing < self.points


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """How it is.

    Args:
        head: the last change.
        feeds: open ones.
        behind: the connected nodes whose attestor or enforcement points have not taken all that was sent, the furthest behind first.
        oldest_truth: how long ago the connected attestor that was silent for longest was heard; None: nobody is connected.
        authorities: those that are not retired, oldest first, and what the next and the old ones wait for.
        has_room: whether anything can be issued: the disk is not full.
        doubt: why the clock is not trusted; empty: it is.
        svid_not_after: of the SVID that the doors present.
        invalid: what is needed to sign and to be reached, and is not valid by the clock as it is now.
    """

    trust_domain: TrustDomain
    started_at: datetime
    head: Cursor
    nodes: int
    nodes_connected: int
    feeds: int
    denials: int
    behind: Sequence[Lag]
    oldest_truth: timedelta | None
    authorities: Sequence[tuple[Authority, str]]
    doubt: str
    svid_not_after: datetime
    has_room: bool
    invalid: Sequence[str]
    troubles: Sequence[Trouble]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveIssuer:
    """Looks, and sets the gauges.

    Args:
        svid: tells the SVID that the doors present.
    """

    trust_domain: TrustDomain
    started_at: datetime
    clock: Clock
    datastore: Datastore
    feed: FeedAttestors
    rotate: RotateAuthority
    guard: GuardClock
    deferred: DeferWrites
    svid: Callable[[], IssuerIdentity]
    troubles: Troubles
    metrics: Metrics

    async def __call__(self) -> Observed:
        """Look now.

        Raises:
            Refused: UNAVAILABLE, as the store.
        """
        # 1. What the store knows.
        head, nodes, denials, restored = await self.datastore.read(
            lambda tx: (tx.changes.head(), tx.nodes.count(), tx.denials.count(), tx.changes.restored())
        )
        rows = await self.rotate.rows()
        if lost := forgotten(restored, [row for row, _ in rows]):
            self.troubles.note(_RESTORED, f"{lost.reason}; the log of the start says what to do")
        else:
            self.troubles.over(_RESTORED)
        lacking = await self.datastore.lacking_room()
        if lacking:
            self.troubles.note(
                _ROOM,
                f"{lacking}: nothing is issued until there is space, or disk_reserve_mib is lower; entries and nodes can be removed",
            )
        else:
            self.troubles.over(_ROOM)
        # 2. What only this process knows.
        lags = [self._lag(node_id, standing) for node_id, standing in self.feed.watch.standing.items()]
        svid, now = self.svid(), self.clock.now()
        invalid = [*_invalid(rows, svid, now)]
        observed = Observed(
            trust_domain=self.trust_domain,
            started_at=self.started_at,
            head=head,
            nodes=nodes,
            nodes_connected=len(self.feed.connected),
            feeds=self.feed.connected.total(),
            denials=denials,
            behind=sorted((lag for lag in lags if lag.is_behind), key=lambda lag: (-lag.behind, lag.node_id)),
            oldest_truth=max((lag.heard_ago for lag in lags), default=None),
            authorities=[(row, waits) for row, waits in rows if row.state is not AuthorityState.RETIRED],
            doubt=self.guard.doubt,
            svid_not_after=svid.not_after,
            has_room=not lacking,
            invalid=invalid,
            troubles=[
                *self.troubles.all(),
                *(Trouble(what=_NOT_VALID, reason=reason, since=now, last=now) for reason in invalid),
            ],
        )
        # 3. The same as numbers.
        self._measure(observed)
        return observed

    def _lag(self, node_id: NodeID, standing: Standing) -> Lag:
        return Lag(
            node_id=node_id,
            behind=standing.behind,
            acknowledged=standing.acknowledged,
            heard_ago=timedelta(seconds=self.clock.monotonic() - standing.heard_at),
            points=standing.enforcement.points,
            points_enforcing=standing.enforcement.reached,
        )

    def _measure(self, seen: Observed) -> None:
        metrics = self.metrics
        metrics.started_at.set(seen.started_at.timestamp())
        metrics.change_number.set(seen.head.number)
        metrics.nodes.set(seen.nodes)
        metrics.nodes_connected.set(seen.nodes_connected)
        metrics.feeds.set(seen.feeds)
        metrics.denials.set(seen.denials)
        metrics.most_behind.set(max((lag.behind for lag in seen.behind), default=0))
        metrics.points_behind.set(sum(lag.points - lag.points_enforcing for lag in seen.behind))
        metrics.heard_ago.set(0 if seen.oldest_truth is None else seen.oldest_truth.total_seconds())
        metrics.svid_not_after.set(seen.svid_not_after.timestamp())
        metrics.clock_trusted.set(not seen.doubt)
        metrics.store_has_room.set(seen.has_room)
        metrics.deferred_writes.set(self.deferred.waiting)
        metrics.troubles.set(len(seen.troubles))
        ends = defaultdict(list)
        for row, _ in seen.authorities:
            ends[row.kind, row.state].append(row.not_after)
        metrics.authority_not_after.clear()  # a state that nobody is in any more has no end
        for (kind, state), found in ends.items():
            metrics.authority_not_after.labels(kind, state).set(min(found).timestamp())


def _invalid(rows: Sequence[tuple[Authority, str]], svid: IssuerIdentity, now: datetime) -> Iterator[str]:
    for kind in AuthorityKind:
        signing = [row for row, _ in rows if row.kind is kind and row.state is AuthorityState.ACTIVE]
        if not any(is_valid(row, now=now) for row in signing):
            yield f"{kind.value} authority: none is active and valid"
    if not svid.is_valid(now):
        span = f"from {svid.not_before.isoformat()} to {svid.not_after.isoformat()}"
        yield f"issuer svid: valid {span}, and it is {now.isoformat(timespec='seconds')}"
