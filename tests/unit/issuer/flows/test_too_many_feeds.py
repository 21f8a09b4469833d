"""A node that opens feed after feed, or that does not answer any more: the oldest feed ends, and how many it opens is bounded."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

import pytest

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.names import NodeID
from cognomen.protocol.receipts import Enforcement
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node
from issuer.decisions.feedsteps import FeedStep
from issuer.flows.feed_attestors import FeedAttestors
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.metrics import Metrics
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import TRUST_DOMAIN, a_node
from tests.doubles.issuersurroundings import around
from tests.doubles.until import until

NODE, OTHER = a_node(), a_node("n2")
MOST = 4
WORD = 0.01


class House:
    """The flow, on a clock that the test moves, and feeds that stay open."""

    def __init__(self, store: SQLiteDatastore) -> None:
        self.clock, metrics = FakeClock(), Metrics()
        self.over: list[NodeID] = []
        self.feeds = FeedAttestors(
            datastore=store,
            deferred=DeferredWrites(around=around(self.clock, metrics=metrics), datastore=store),
            watch=EnforcementWatch(around=around(self.clock, metrics=metrics)),
            around=around(self.clock),
            trust_domain=TRUST_DOMAIN,
            over=self.over.append,
            word_seconds=WORD,
        )
        self.told = self.words = 0
        self.cursor = Cursor(incarnation="", number=0)

    async def open(self, node: Node = NODE) -> "asyncio.Task[None]":
        """Open a feed; it has its snapshot."""
        told = self.told
        task = asyncio.create_task(
            self.feeds.follow(node, not_after=self.clock.now() + timedelta(hours=1), cursor=None, send=self._take)
        )
        await until(lambda: self.told > told or task.done())
        return task

    async def let_pass(self, words: int) -> None:
        """Let as much time pass at once as so many words take; each open feed has looked then."""
        feeds = sum(map(len, self.feeds.connected.values()))
        self.clock.advance(words * WORD)
        target = self.words + 2 * feeds
        await until(lambda: self.words >= target or sum(map(len, self.feeds.connected.values())) < feeds)

    async def acknowledge(self) -> None:
        """Say that the node has everything."""
        await self.feeds.acknowledge(NODE, self.cursor, Enforcement(number=self.cursor.number))

    async def _take(self, step: FeedStep) -> None:
        self.cursor = step.cursor
        self.told += len(step.updates)
        self.words += not step.updates


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await SQLiteDatastore.open(None)
    for node in (NODE, OTHER):
        await store.write(partial(_put, node))
    yield House(store)
    await store.close()


def _put(node: Node, tx: Transaction) -> None:
    tx.nodes.put(node)


async def end(*feeds: "asyncio.Task[None]") -> None:
    for feed in feeds:
        feed.cancel()
    await asyncio.gather(*feeds, return_exceptions=True)


async def test_a_feed_that_is_one_too_many_is_served_and_ends_the_oldest(house: House) -> None:
    feeds = [await house.open() for _ in range(MOST + 1)]
    await until(feeds[0].done)
    refused = feeds[0].exception()
    assert isinstance(refused, Refused)
    assert (refused.kind, refused.detail) == (Kind.EXHAUSTED, "feed: ended by a newer one of this node")
    assert not any(feed.done() for feed in feeds[1:])
    assert len(house.feeds.connected[NODE.id]) == MOST
    await end(*feeds)
    assert not house.feeds.connected
    assert not house.feeds.watch.standing


async def test_the_end_of_the_last_feed_of_a_node_is_told_and_no_other(house: House) -> None:
    first, second, other = await house.open(), await house.open(), await house.open(OTHER)
    await end(first)
    assert house.over == []
    await end(second)
    assert house.over == [NODE.id]
    await end(other)
    assert house.over == [NODE.id, OTHER.id]


async def test_who_opens_feeds_without_rest_is_refused_until_it_rests_and_others_are_served(house: House) -> None:
    feeds = [await house.open() for _ in range(20)]
    with pytest.raises(Refused, match="expected at most 20 at once and one every 2 s") as refused:
        await (await house.open())
    assert refused.value.kind is Kind.EXHAUSTED
    assert not feeds[-1].done(), "what it has stays open"
    other = await house.open(OTHER)
    assert not other.done()
    house.clock.advance(2)
    again = await house.open()
    assert not again.done()
    await end(*feeds, other, again)


async def test_a_feed_whose_node_has_spoken_and_says_nothing_any_more_ends(house: House) -> None:
    feed = await house.open()
    await house.acknowledge()
    for _ in range(5):
        await house.let_pass(1)
        assert not feed.done()
    await house.let_pass(1)
    await until(feed.done)
    refused = feed.exception()
    assert isinstance(refused, Refused)
    assert refused.kind is Kind.UNAVAILABLE
    assert not house.feeds.watch.standing, "nobody waits for it"


async def test_a_node_that_speaks_or_has_never_spoken_is_fed_on(house: House) -> None:
    silent, speaks = await house.open(OTHER), await house.open()
    for _ in range(10):
        await house.acknowledge()
        for _ in range(4):
            await house.let_pass(1)
    assert not speaks.done()
    assert not silent.done(), "it may still be taking its snapshot"
    await end(silent, speaks)


async def test_after_a_stop_of_the_issuer_nodes_are_heard_before_they_are_given_up(house: House) -> None:
    feed = await house.open()
    for _ in range(3):
        await house.acknowledge()
        await house.let_pass(10_000)
        await house.let_pass(10_000)
    assert not feed.done()
    await end(feed)


async def test_feeds_that_all_end_together_leave_nothing_behind(house: House) -> None:
    feeds = [await house.open() for _ in range(MOST)]
    newest = asyncio.create_task(
        house.feeds.follow(
            NODE, not_after=house.clock.now() + timedelta(hours=1), cursor=None, send=lambda _: asyncio.sleep(0)
        )
    )
    await asyncio.sleep(0)  # it has ended the oldest, which does not know that yet
    await end(newest, *feeds[1:])
    await until(feeds[0].done)
    assert isinstance(feeds[0].exception(), Refused)
    assert not house.feeds.connected
    assert not house.feeds.watch.standing
