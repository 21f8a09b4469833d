"""Observe the state of the issuer, once, both for the operators' status and for the metrics."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cognomen.daemon.troubles import Trouble
from cognomen.protocol.feed import Cursor
from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.names import NodeID
from cognomen.rulebook.tables import LimitsMode
from issuer.datastore.port import Datastore
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState, is_valid
from issuer.decisions.exports import ExportStanding, what_is_behind
from issuer.decisions.identity import IssuerIdentity
from issuer.decisions.limits import Standing as LimitStanding
from issuer.decisions.restoration import forgotten
from issuer.decisions.rulebooks import HeldAgent
from issuer.keepers.authority_outlook import AuthorityOutlook
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch, Standing
from issuer.keepers.issuance_limits import IssuanceLimits
from issuer.keepers.review_dates import OverdueAgent, ReviewDates
from issuer.surroundings import Surroundings
from svid.spiffeid import TrustDomain

__all__ = ["Lag", "ObserveIssuer", "Observed"]

_ROOM = "room of the datastore"
_NOT_VALID = "validity"
_RESTORED = "restored backup"
_EXPORT = "export of the bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far behind a connected node is.

    Args:
        behind: how many of the changes sent to it its attestor has not acknowledged.
        acknowledged: the last change that it has.
        heard_ago: the time since its last acknowledgement.
        points: the enforcement points of its processes.
        points_enforcing: how many of them have everything that was acknowledged.
    """

    node_id: NodeID
    behind: int
    acknowledged: int
    heard_ago: timedelta
    points: int
    points_enforcing: int

    @property
    def is_behind(self) -> bool:
        """Whether its attestor or one of its enforcement points is behind."""
        return bool(self.behind) or self.points_enforcing < self.points


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The state of the issuer.

    Args:
        head: the last change.
        feeds: how many feeds are open.
        behind: the connected nodes whose attestor or enforcement points lack something that was sent, the furthest behind first.
        oldest_truth: how long ago we last heard the connected attestor that has been silent for longest; None: nobody is connected.
        authorities: those that are not retired, oldest first, and what the next and the old ones wait for.
        exports: copies of the bundle that relying parties have.
        has_room: whether anything can be issued, because the disk is not full.
        damage: what the last check of the whole store found damaged; empty: nothing.
        doubt: why the clock is not trusted; empty: it is trusted.
        svid_not_after: when the SVID that the doors present expires.
        over_limits: limits on issuance that refused something, or would have, or whose breaker is not closed; the newest first.
        invalid: what we need in order to sign and to be reached, and is not valid at the current time.
        overdue: the agents whose review is overdue.
        suspended: the agents and components that are suspended, whatever the rulebook says, by name.
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
    exports: Sequence[ExportStanding]
    doubt: str
    svid_not_after: datetime
    has_room: bool
    damage: str
    invalid: Sequence[str]
    over_limits: Sequence[LimitStanding]
    troubles: Sequence[Trouble]
    overdue: Sequence[OverdueAgent] = ()
    suspended: Sequence[HeldAgent] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserveIssuer:
    """Observes the issuer, and sets the gauges.

    Args:
        feeds: returns how many feeds are open.
        svid: returns the SVID that the doors present.
        damage: returns what is damaged in the store.
    """

    trust_domain: TrustDomain
    started_at: datetime
    around: Surroundings
    datastore: Datastore
    watch: EnforcementWatch
    outlook: AuthorityOutlook
    guard: ClockGuard
    deferred: DeferredWrites
    limits: IssuanceLimits
    feeds: Callable[[], int]
    svid: Callable[[], IssuerIdentity]
    damage: Callable[[], str]
    reviews: ReviewDates

    async def __call__(self) -> Observed:
        """Observe the issuer now.

        Raises:
            Refused: UNAVAILABLE, from the store.
        """
        # 1. Read what the store knows.
        head, nodes, denials, restored, held = await self.datastore.read(
            lambda tx: (
                tx.changes.head(),
                tx.nodes.count(),
                tx.denials.count(),
                tx.changes.restored(),
                tx.agents.held(),
            )
        )
        rows, exports = await self.outlook.rows(), await self.outlook.exports()
        overdue = await self.reviews.overdue()
        if lost := forgotten(restored, [row for row, _ in rows]):
            remedy = "; ".join(lost.remedy)
            self.around.troubles.note_lasting(
                _RESTORED, lost.reason, hint=f"repeat them, or, once every node is connected, in this order: {remedy}"
            )
        else:
            self.around.troubles.over(_RESTORED)
        lacking = await self.datastore.lacking_room()
        if lacking:
            self.around.troubles.note_lasting(
                _ROOM,
                f"{lacking}: nothing is issued until there is space, or disk_reserve_mib is lower; entries and nodes can be removed,"
                " and credentials revoked",
            )
        else:
            self.around.troubles.over(_ROOM)
        # 2. Add what only this process knows.
        lags = [self._lag(node_id, standing) for node_id, standing in self.watch.standing.items()]
        svid, now = self.svid(), self.around.clock.now()
        invalid = [*_invalid(rows, svid, now)]
        observed = Observed(
            trust_domain=self.trust_domain,
            started_at=self.started_at,
            head=head,
            nodes=nodes,
            nodes_connected=len(self.watch.standing),
            feeds=self.feeds(),
            denials=denials,
            behind=sorted((lag for lag in lags if lag.is_behind), key=lambda lag: (-lag.behind, lag.node_id)),
            oldest_truth=max((lag.heard_ago for lag in lags), default=None),
            authorities=[(row, waits) for row, waits in rows if row.state is not AuthorityState.RETIRED],
            exports=exports,
            doubt=self.guard.doubt,
            svid_not_after=svid.not_after,
            has_room=not lacking,
            damage=self.damage(),
            invalid=invalid,
            over_limits=self.limits.over_limits(),
            troubles=[
                *self.around.troubles.all(),
                *(Trouble(what=_NOT_VALID, reason=reason, since=now, last=now) for reason in invalid),
                *(_behind(one, now) for one in exports if one.is_behind),
            ],
            overdue=overdue,
            suspended=[held[name] for name in sorted(held)],
        )
        # 3. Set the gauges.
        self._measure(observed)
        return observed

    def _lag(self, node_id: NodeID, standing: Standing) -> Lag:
        return Lag(
            node_id=node_id,
            behind=standing.behind,
            acknowledged=standing.acknowledged,
            heard_ago=timedelta(seconds=self.around.clock.monotonic() - standing.heard_at),
            points=standing.enforcement.points,
            points_enforcing=standing.enforcement.reached,
        )

    def _measure(self, seen: Observed) -> None:
        metrics = self.around.metrics
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
        metrics.store_is_sound.set(not seen.damage)
        metrics.deferred_writes.set(self.deferred.waiting)
        for mode in LimitsMode:
            metrics.breakers_open.labels(mode).set(
                sum(one.is_tripped for one in seen.over_limits if one.scope.mode is mode)
            )
        metrics.troubles.set(len(seen.troubles))
        metrics.reviews_overdue.set(len(seen.overdue))
        metrics.agents_suspended_for_review.set(sum(one.is_for_review for one in seen.overdue))
        for gauge in (metrics.export_behind, metrics.export_breaks_at, metrics.export_revoked):
            gauge.clear()  # an export that was forgotten must not keep its last state
        for one in seen.exports:
            name = one.export.name
            metrics.export_behind.labels(name).set(one.is_behind)
            metrics.export_revoked.labels(name).set(len(one.revoked))
            if one.breaks_at is not None:
                metrics.export_breaks_at.labels(name).set(one.breaks_at.timestamp())
        ends = defaultdict(list)
        for row, _ in seen.authorities:
            ends[row.kind, row.state].append(row.not_after)
        metrics.authority_not_after.clear()  # a state without an authority must not keep its old end
        for (kind, state), found in ends.items():
            metrics.authority_not_after.labels(kind, state).set(min(found).timestamp())


def _behind(found: ExportStanding, now: datetime) -> Trouble:
    what = f"{_EXPORT} {found.export.name}"
    return Trouble(what=what, reason=what_is_behind(found, now=now), since=found.since or now, last=now)


def _invalid(rows: Sequence[tuple[Authority, str]], svid: IssuerIdentity, now: datetime) -> Iterator[str]:
    for kind in AuthorityKind:
        signing = [row for row, _ in rows if row.kind is kind and row.state is AuthorityState.ACTIVE]
        if not any(is_valid(row, now=now) for row in signing):
            yield f"{kind.value} authority: none is active and valid"
    if not svid.is_valid(now):
        span = f"from {moment_in_words(svid.not_before)} to {moment_in_words(svid.not_after)}"
        yield f"issuer svid: valid {span}, and it is {moment_in_words(now)}"
