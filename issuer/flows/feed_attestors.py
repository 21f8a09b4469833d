"""Feed one attestor: what it must know now, then every change as it comes, for as long as its node SVID lives.

What a change means to a node is decided in issuer/decisions/changes, in which messages it is told in issuer/decisions/feedsteps; the change
log is the only truth, a wake-up carries no data.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from cognomen.daemon.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import Enforcement
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import Node
from issuer.decisions.audit import NodeID
from issuer.decisions.budget import Allowance
from issuer.decisions.changes import can_resume, has_gap, may_regroup, meaning, upserts_and_gone
from issuer.decisions.entitlement import group_ends, is_entitled, parents_of
from issuer.decisions.feedsteps import FeedStep, cut, in_order
from issuer.decisions.revocation import Blocks
from issuer.flows.defer_writes import DeferWrites
from issuer.flows.keep_budgets import KeepBudgets
from issuer.flows.watch_enforcement import WatchEnforcement
from issuer.queries import active_node_in, blocks_in, bundle_in, crls_in, groups_in, tainted_in
from svid.clock import Clock
from svid.denials import Denial
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["FeedAttestors", "Send"]

_PAGE = 1000  # change rows read at once; who is further behind gets a snapshot
_FEEDS_PER_NODE = 4  # one, and those that the network has not given up yet
_ACKNOWLEDGEMENTS = Allowance(burst=100, per_second=10)  # of one node: an attestor sends one at a time, the latest

Send = Callable[[FeedStep], Awaitable[None]]
"""Hand a message on; it returns when there is room for the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a follower stands, the parents it had there, and when those change without a word in the log.

    Args:
        over: why it is told no more.
    """

    node_id: NodeID
    cursor: Cursor
    parents: frozenset[SpiffeID]
    regroups_at: datetime | None
    over: Refused | None = None


@dataclass(slots=True, kw_only=True)
class FeedAttestors:
    """Serves the feeds.

    Args:
        connected: how many feeds each node has open now.
        word_seconds: without news, a feed says after that time that it is alive, and looks whether the wall clock was set.
    """

    datastore: Datastore
    deferred: DeferWrites
    watch: WatchEnforcement
    clock: Clock
    trust_domain: TrustDomain
    word_seconds: float = 5.0
    connected: Counter[NodeID] = field(default_factory=Counter)
    _told: tuple[tuple[int, ...], tuple[Denial, ...]] = ((), ())
    _budgets: KeepBudgets = field(init=False)

    def __post_init__(self) -> None:
        self._budgets = KeepBudgets(_ACKNOWLEDGEMENTS, self.clock)

    async def follow(self, node: Node, *, not_after: datetime, cursor: Cursor | None, send: Send) -> None:
        """Feed a node until its SVID is over.

        Args:
            not_after: the end of the SVID with which this call was admitted.

        Raises:
            Refused: UNAUTHENTICATED at that end; DENIED once the node is banned or gone; EXHAUSTED when it has too many feeds.
        """
        if self.connected[node.id] >= _FEEDS_PER_NODE:
            raise Refused(Kind.EXHAUSTED, f"feeds of this node: expected at most {_FEEDS_PER_NODE}, found one more")
        self.connected[node.id] += 1
        self.watch.begin(node.id)
        try:
            async with asyncio.timeout((not_after - self.clock.now()).total_seconds()) as life:
                await self._follow(node.id, cursor, send, not_after)
        except TimeoutError as e:
            if not life.expired():
                raise
            raise _over(not_after) from e
        finally:
            self.connected[node.id] -= 1
            if not self.connected[node.id]:
                del self.connected[node.id]
                self.watch.end(node.id)

    def slowest(self) -> int | None:
        """The last change that every connected attestor has; None: nobody is connected."""
        return min((standing.acknowledged for standing in self.watch.standing.values()), default=None)

    async def acknowledge(self, node: Node, cursor: Cursor, enforcement: Enforcement) -> None:
        """Note how far an attestor and its enforcement points have come; the former is written soon, and only when it is news.

        A node that says so too often waits: each word wakes everybody who waits for a revocation.
        """
        while not self._budgets.take(node.id):
            await self.clock.sleep(1 / _ACKNOWLEDGEMENTS.per_second)

        def work(tx: Transaction) -> None:
            row = tx.nodes.get(node.id)
            if row is not None and can_resume(cursor, tx.changes.head()) and cursor.number > row.acknowledged:
                tx.nodes.put(replace(row, acknowledged=cursor.number))

        if cursor.number > node.acknowledged:
            self.deferred.put(work)
        self.watch.hear(node.id, cursor, enforcement)

    async def _follow(self, node_id: NodeID, cursor: Cursor | None, send: Send, not_after: datetime) -> None:
        # 1. At once: what came since the cursor, or everything; the bundle comes along.
        steps, place = await self.datastore.read(lambda tx: self._begin(tx, node_id, cursor))
        # What it acknowledged in a former life it may have lost since: what counts is where it says that it stands.
        self.watch.stands(node_id, 0 if cursor is None or steps[0].snapshot else cursor.number)
        told, said_at = place.cursor, self.clock.monotonic()
        while True:
            # 2. One message after the other: while they go out, changes gather.
            for step in steps:
                told = step.cursor
                self.watch.pushed(node_id, told)
                await send(step)
                said_at = self.clock.monotonic()
            if place.over is not None:
                raise place.over
            # 3. Wait for the log to grow or a group to end, then read what that means to this node.
            if await self._wait(place, not_after, said_at):
                steps, place = await self.datastore.read(partial(self._advance, place=place))
            # 4. Nothing to tell for a while: say that we are alive, which moves the node nowhere.
            else:
                steps = [FeedStep(cursor=told)]

    async def _wait(self, place: _Place, not_after: datetime, said_at: float) -> bool:
        """Whether there may be news; False: it is time to say a word without any."""
        next_end = min(place.regroups_at or not_after, not_after)
        if (left := (next_end - self.clock.now()).total_seconds()) > 0:
            rest = said_at + self.word_seconds - self.clock.monotonic()
            if rest <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, rest)):
                    await self.datastore.wait_for_change(place.cursor.number)
                    return True
            return left <= rest
        if self.clock.now() >= not_after:
            raise _over(not_after)
        return True

    def _begin(self, tx: Transaction, node_id: NodeID, cursor: Cursor | None) -> tuple[list[FeedStep], _Place]:
        place, has_lapsed = self._stand(tx, node_id, tx.changes.head())
        # Which parents it had at the cursor is not known any more where a group may have come or gone since.
        if (
            cursor is None
            or has_lapsed
            or not can_resume(cursor, place.cursor)
            or place.cursor.number - cursor.number > _PAGE
            or has_gap(rows := tx.changes.after(cursor.number, limit=_PAGE), cursor, place.cursor)
            or may_regroup(rows, node_id)
        ):
            return self._snapshot(tx, place), place
        return self._advance(tx, replace(place, cursor=cursor), returns=True)

    def _stand(self, tx: Transaction, node_id: NodeID, cursor: Cursor) -> tuple[_Place, bool]:
        """Where a node stands now, and whether a group of its own has ended that is still on the books."""
        node, now = active_node_in(tx, node_id), self.clock.now()
        groups = groups_in(tx, self.trust_domain)
        ends = group_ends(node, groups)
        place = _Place(
            node_id=node_id,
            cursor=cursor,
            parents=parents_of(node, groups, blocks=blocks_in(tx), now=now),
            regroups_at=next((end for end in ends if end > now), None),
        )
        return place, any(end <= now for end in ends)

    def _advance(self, tx: Transaction, place: _Place, *, returns: bool = False) -> tuple[list[FeedStep], _Place]:
        """Tell what came since that place; whoever returns hears of bundle and checkpoint again, and always something."""
        changes = tx.changes.after(place.cursor.number, limit=_PAGE)
        before, now = place, self.clock.now()
        has_lapsed = place.regroups_at is not None and place.regroups_at <= now
        if has_lapsed or may_regroup(changes, place.node_id):
            try:
                place, _ = self._stand(tx, place.node_id, place.cursor)
            except Refused as refused:  # sent away: that it has no entries any more, and what ended by that, is the last that it hears
                place = replace(place, parents=frozenset(), cursor=tx.changes.head(), over=refused)
                return self._snapshot(tx, place), place
        what = meaning(changes, had=before.parents, has=place.parents)
        if what.snapshot or has_gap(changes, before.cursor, tx.changes.head()):
            place = replace(place, cursor=tx.changes.head())
            return self._snapshot(tx, place), place
        if changes:
            place = replace(place, cursor=replace(place.cursor, number=changes[-1].number))
        found = tx.entries.get(what.entry_ids)
        blocks = blocks_in(tx) if what.entry_ids else Blocks()  # most news is not of entries, and every feed reads it
        entries, gone = upserts_and_gone(what.entry_ids, found, parents=place.parents, blocks=blocks, now=now)
        updates = tuple(
            in_order(
                denials=self._denials_of(tx, what.denials_of) if what.denials_of else (),
                bundle=bundle_in(tx, self.trust_domain) if what.bundle or returns else None,
                tainted=tainted_in(tx) if what.tainted else None,
                crls=crls_in(tx, what.crls_of) if what.crls_of else (),
                gone=gone,
                entries=entries,
                checkpoint=tx.checkpoints.latest() if what.checkpoint or returns else None,
            )
        )
        # Whoever waits for a revocation waits for each attestor's word, also where nothing follows from it.
        is_told = bool(updates or what.denials_of)
        return cut(updates, before=before.cursor, after=place.cursor) if is_told else [], place

    def _denials_of(self, tx: Transaction, revocations: tuple[int, ...]) -> tuple[Denial, ...]:
        """Read once what every feed has to tell at the same time; what follows from a revocation never changes."""
        told_of, denials = self._told
        if told_of != revocations:
            denials = tuple(tx.denials.of(revocations))
            self._told = (revocations, denials)
        return denials

    def _snapshot(self, tx: Transaction, place: _Place) -> list[FeedStep]:
        now, blocks = self.clock.now(), blocks_in(tx)
        below = tx.entries.below(place.parents)
        updates = in_order(
            denials=tx.denials.all(),
            bundle=bundle_in(tx, self.trust_domain),
            tainted=tainted_in(tx) or None,
            crls=crls_in(tx),
            entries=(entry for entry in below if is_entitled(entry, place.parents, blocks=blocks, now=now)),
            checkpoint=tx.checkpoints.latest(),
        )
        return cut(updates, before=None, after=place.cursor)


def _over(not_after: datetime) -> Refused:
    return Refused(Kind.UNAUTHENTICATED, f"node SVID: expired at {not_after.isoformat()}")
