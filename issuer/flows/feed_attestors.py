"""Feed one attestor: first what it must know now, then every change as it comes, for as long as its node SVID is valid.

issuer/decisions/changes decides what a change means to a node, issuer/decisions/feedsteps in which messages the node hears of it. The
change log is the only truth; a wake-up carries no data.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from cognomen.protocol.errors import Kind, Reason, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.names import NodeID
from cognomen.protocol.receipts import Enforcement
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import Node
from issuer.decisions.budget import Allowance
from issuer.decisions.changes import can_resume, has_gap, may_regroup, meaning, upserts_and_gone
from issuer.decisions.entitlement import group_ends, is_entitled, parents_of
from issuer.decisions.feedsteps import FeedStep, cut, in_order
from issuer.decisions.revocation import Blocks
from issuer.keepers.budgets import Budgets
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch, Standing
from issuer.keepers.open_questions import OpenQuestions, Post
from issuer.surroundings import Surroundings
from issuer.works.reads import active_node_in, blocks_in, bundle_in, crls_in, groups_in, tainted_in
from svid.denials import Denial
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["FeedAttestors", "Send"]

_PAGE = 1000  # change rows read at once; a node that is further behind gets a snapshot
_FEEDS_PER_NODE = 4  # one, and those that the network has not yet given up
_OPENINGS = Allowance(burst=20, per_second=0.5)  # for one node: each may cost us a snapshot
_QUIET_LOOKS = 5  # every word_seconds: an attestor speaks every 15 s, or every 20 s if no answer reaches it
_ACKNOWLEDGEMENTS = Allowance(burst=100, per_second=10)  # for one node: an attestor sends one at a time, the latest

Send = Callable[[FeedStep], Awaitable[None]]
"""Hands a message on; it returns when there is room for the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A follower's cursor, the parents that it had there, and when those change without a row in the log.

    Args:
        over: why its feed ends.
    """

    node_id: NodeID
    cursor: Cursor
    parents: frozenset[SpiffeID]
    regroups_at: datetime | None
    over: Refused | None = None


@dataclass(slots=True, kw_only=True)
class _Listening:
    """How long a node that has spoken once has been silent. Its kernel acknowledges everything, even while the attestor is stuck.

    This counts looks, not time: after this process was stopped, it first hears what the nodes said in the meantime.
    """

    looked_at: float
    heard_at: float = 0.0
    looks: int = 0

    def look(self, standing: Standing, *, now: float, every: float) -> bool:
        """Look, unless it is too soon; returns whether the node is stuck."""
        if now - self.looked_at < every:
            return False
        self.looked_at = now
        self.looks = self.looks + 1 if standing.has_spoken and standing.heard_at == self.heard_at else 0
        self.heard_at = standing.heard_at
        return self.looks >= _QUIET_LOOKS


class FeedAttestors:
    """Serves the feeds.

    Attributes:
        connected: the open feeds of each node, each as the timeout that ends it, oldest first.
        questions: what is asked on the feeds, besides the news.
        over: called when the last feed of a node ended.
        word_seconds: after that time without news, a feed says that it is alive, and checks whether the wall clock was set.
    """

    def __init__(
        self,
        *,
        datastore: Datastore,
        deferred: DeferredWrites,
        watch: EnforcementWatch,
        around: Surroundings,
        trust_domain: TrustDomain,
        over: Callable[[NodeID], None] = lambda _: None,
        word_seconds: float = 5.0,
    ) -> None:
        self.datastore = datastore
        self.deferred = deferred
        self.watch = watch
        self.clock = around.clock
        self.trust_domain = trust_domain
        self.over = over
        self.word_seconds = word_seconds
        self.connected: dict[NodeID, list[asyncio.Timeout]] = {}
        self.questions = OpenQuestions()
        self._told: tuple[tuple[int, ...], tuple[Denial, ...]] = ((), ())
        self._budgets = Budgets(_ACKNOWLEDGEMENTS, self.clock)
        self._openings = Budgets(_OPENINGS, self.clock)

    async def follow(
        self, node: Node, *, not_after: datetime, cursor: Cursor | None, send: Send, answers: bool = False
    ) -> None:
        """Feed a node until its SVID expires, or until it has opened so many newer feeds that this one must end.

        Args:
            not_after: when the SVID that this call was admitted with expires.
            answers: whether it answers questions.

        Raises:
            Refused: UNAUTHENTICATED at that moment; DENIED once the node is banned or gone; EXHAUSTED when it opens too many feeds;
                UNAVAILABLE when it falls silent.
        """
        if not self._openings.take(node.id):
            raise Refused(
                Kind.EXHAUSTED,
                f"feeds of this node: expected at most {_OPENINGS.burst:g} at once and one every"
                f" {1 / _OPENINGS.per_second:g} s after that, found more; try again later",
            )
        life = asyncio.timeout((not_after - self.clock.now()).total_seconds())
        try:
            async with life:
                self._begin_feed(node.id, life)
                with self.questions.following(node.id, answers=answers) as post:
                    await self._follow(node.id, cursor, send, not_after, post)
        except TimeoutError as e:
            if not life.expired():
                raise
            if life not in self.connected.get(node.id, ()):
                raise Refused(Kind.EXHAUSTED, "feed: ended by a newer one of this node") from e
            raise _over(not_after) from e
        finally:
            self._end_feed(node.id, life)

    def _begin_feed(self, node_id: NodeID, life: asyncio.Timeout) -> None:
        """Count the feed. If there are too many, end the oldest, which the network has most likely lost."""
        feeds = self.connected.setdefault(node_id, [])
        if len(feeds) >= _FEEDS_PER_NODE and not (oldest := feeds.pop(0)).expired():
            oldest.reschedule(asyncio.get_running_loop().time())
        feeds.append(life)
        self.watch.begin(node_id)

    def _end_feed(self, node_id: NodeID, life: asyncio.Timeout) -> None:
        feeds = self.connected.get(node_id, [])
        if life not in feeds:  # a newer feed ended it, or it never began
            return
        feeds.remove(life)
        if not feeds:
            del self.connected[node_id]
            self.watch.end(node_id)
            self.over(node_id)

    @property
    def open(self) -> int:
        """How many feeds are open."""
        return sum(map(len, self.connected.values()))

    async def acknowledge(self, node: Node, cursor: Cursor, enforcement: Enforcement) -> None:
        """Note how far an attestor and its enforcement points are. The attestor's place is written soon, and only when it is news.

        A node that acknowledges too often has to wait: each acknowledgement wakes everybody who waits for a revocation.
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

    async def _follow(
        self, node_id: NodeID, cursor: Cursor | None, send: Send, not_after: datetime, post: Post
    ) -> None:
        # 1. Send at once what came since the cursor, or everything; and the bundle with it.
        steps, place = await self.datastore.read(lambda tx: self._begin(tx, node_id, cursor))
        # It may have lost what it acknowledged on an earlier connection: only the cursor that it gives now counts.
        self.watch.stands(node_id, 0 if cursor is None or steps[0].snapshot else cursor.number)
        told, said_at = place.cursor, self.clock.monotonic()
        listening = _Listening(looked_at=said_at)
        while True:
            # 2. Send one message after the other. Changes gather while they go out.
            for step in steps:
                told = step.cursor
                self.watch.pushed(node_id, told)
                await send(step)
                said_at = self.clock.monotonic()
            if place.over is not None:
                raise place.over
            # 3. Then a part of a question, which leaves the node's cursor where it is; more news comes before the next part.
            if (part := post.take()) is not None:
                await send(FeedStep(cursor=told, updates=(part,)))
                said_at = self.clock.monotonic()
            # 4. Wait until the log grows or a group expires, then read what that means to this node.
            if await self._wait(place, not_after, said_at, post):
                steps, place = await self.datastore.read(partial(self._advance, place=place))
            # 5. No news for a while, and no question: say that we are alive, which also leaves the cursor where it is.
            else:
                steps = [] if post else [FeedStep(cursor=told)]
            # 6. A stuck node no longer counts as connected: nobody should wait for it.
            if listening.look(self.watch.standing[node_id], now=self.clock.monotonic(), every=self.word_seconds):
                raise Refused(
                    Kind.UNAVAILABLE,
                    "feed: expected an acknowledgement every 15 s, but the attestor was silent for longer",
                )

    async def _wait(self, place: _Place, not_after: datetime, said_at: float, post: Post) -> bool:
        """Wait; returns whether there may be news. False: there is a question, or it is time to say that we are alive."""
        next_end = min(place.regroups_at or not_after, not_after)
        if (left := (next_end - self.clock.now()).total_seconds()) > 0:
            rest = said_at + self.word_seconds - self.clock.monotonic()
            if rest <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0 if post else min(left, rest)) as wait:
                    with post.ending(wait):
                        await self.datastore.wait_for_change(place.cursor.number)
                        return True
            return left <= rest and not post
        if self.clock.now() >= not_after:
            raise _over(not_after)
        return True

    def _begin(self, tx: Transaction, node_id: NodeID, cursor: Cursor | None) -> tuple[list[FeedStep], _Place]:
        place, has_lapsed = self._stand(tx, node_id, tx.changes.head())
        # If a group may have come or gone since, we no longer know which parents the node had at the cursor.
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
        """A node's place now, and whether one of its own groups has expired but is still stored."""
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
        """Return the messages since that place. A node that returns gets bundle and checkpoint again, and always some message."""
        changes = tx.changes.after(place.cursor.number, limit=_PAGE)
        before, now = place, self.clock.now()
        has_lapsed = place.regroups_at is not None and place.regroups_at <= now
        if has_lapsed or may_regroup(changes, place.node_id):
            try:
                place, _ = self._stand(tx, place.node_id, place.cursor)
            except Refused as refused:  # sent away: the last it hears is why, and what ended with its entries
                place = replace(place, parents=frozenset(), cursor=tx.changes.head(), over=refused)
                return self._snapshot(tx, place, sent_away=refused.reason), place
        what = meaning(changes, had=before.parents, has=place.parents)
        if what.snapshot or has_gap(changes, before.cursor, tx.changes.head()):
            place = replace(place, cursor=tx.changes.head())
            return self._snapshot(tx, place), place
        if changes:
            place = replace(place, cursor=replace(place.cursor, number=changes[-1].number))
        found = tx.entries.get(what.entry_ids)
        blocks = (
            blocks_in(tx) if what.entry_ids else Blocks()
        )  # most news is not about entries, and every feed reads it
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
        # A wait for a revocation waits for every attestor to acknowledge it, even if it changes nothing for that attestor.
        is_told = bool(updates or what.denials_of)
        return cut(updates, before=before.cursor, after=place.cursor) if is_told else [], place

    def _denials_of(self, tx: Transaction, revocations: tuple[int, ...]) -> tuple[Denial, ...]:
        """Read once what all feeds have to send at the same time; the denials of a revocation never change."""
        told_of, denials = self._told
        if told_of != revocations:
            denials = tuple(tx.denials.of(revocations))
            self._told = (revocations, denials)
        return denials

    def _snapshot(self, tx: Transaction, place: _Place, *, sent_away: Reason | None = None) -> list[FeedStep]:
        now, blocks = self.clock.now(), blocks_in(tx)
        below = tx.entries.below(place.parents)
        updates = in_order(
            denials=tx.denials.all(),
            bundle=bundle_in(tx, self.trust_domain),
            tainted=tainted_in(tx) or None,
            crls=crls_in(tx),
            entries=(entry for entry in below if is_entitled(entry, place.parents, blocks=blocks, now=now)),
            checkpoint=tx.checkpoints.latest(),
            sent_away=sent_away,
        )
        return cut(updates, before=None, after=place.cursor)


def _over(not_after: datetime) -> Refused:
    return Refused(Kind.UNAUTHENTICATED, f"node SVID: expired at {moment_in_words(not_after)}")
