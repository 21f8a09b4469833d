"""The feed as a flow, on a store in memory: what ends it, and how its messages are cut."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from cognomen.daemon.auditlog import Checkpoint
from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.troubles import Troubles
from cognomen.protocol.feed import Cursor
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import NodeState
from issuer.decisions.audit import NodeID
from issuer.decisions.changes import Change, ChangeKind, entry_changes
from issuer.decisions.feedsteps import FeedStep
from issuer.decisions.names import issuer_id
from issuer.flows.defer_writes import DeferWrites
from issuer.flows.feed_attestors import FeedAttestors, Send
from issuer.metrics import Metrics
from svid.clock import SystemClock
from svid.entry import RegistrationEntry
from svid.selector import Selector
from tests.doubles.clock import FakeClock
from tests.doubles.feed import bundle_told, checkpoint_told, entries_put
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, an_entry
from tests.doubles.refusingstore import RefusingStore

HOUR = timedelta(hours=1)
NODE = a_node()


@pytest.fixture
async def store() -> AsyncIterator[SQLiteDatastore]:
    opened = await SQLiteDatastore.open(None)
    await opened.write(lambda tx: tx.nodes.put(NODE))
    yield opened
    await opened.close()


@pytest.fixture
def feeds(store: SQLiteDatastore) -> FeedAttestors:
    clock = SystemClock()
    return FeedAttestors(
        datastore=store,
        deferred=DeferWrites(metrics=Metrics(), datastore=store, clock=clock, troubles=Troubles(clock)),
        clock=clock,
        trust_domain=TRUST_DOMAIN,
    )


async def follow(feeds: FeedAttestors, send: Send, *, life: timedelta = HOUR, cursor: Cursor | None = None) -> None:
    async with asyncio.timeout(10):
        await feeds.follow(NODE, not_after=SystemClock().now() + life, cursor=cursor, send=send)


class Ban:
    """Bans the node once its feed has begun."""

    def __init__(self, store: SQLiteDatastore) -> None:
        self._store = store

    async def __call__(self, step: FeedStep) -> None:
        assert step.snapshot
        await self._store.write(self._ban)

    def _ban(self, tx: Transaction) -> None:
        tx.nodes.put(replace(NODE, state=NodeState.BANNED))
        tx.changes.append([Change(kind=ChangeKind.NODE, subject=NODE.id)])


async def test_a_ban_ends_an_open_feed_at_once(store: SQLiteDatastore, feeds: FeedAttestors) -> None:
    with pytest.raises(Refused, match="banned or gone") as refused:
        await follow(feeds, Ban(store))
    assert refused.value.kind is Kind.DENIED
    assert not feeds.connected


async def test_a_consumer_that_takes_nothing_is_let_go_when_its_svid_ends(feeds: FeedAttestors) -> None:
    async def stuck(step: FeedStep) -> None:
        del step
        await asyncio.Event().wait()

    with pytest.raises(Refused, match="node SVID: expired") as refused:
        await follow(feeds, stuck, life=timedelta(seconds=0.1))
    assert refused.value.kind is Kind.UNAUTHENTICATED
    assert not feeds.connected


async def test_an_svid_that_is_over_gets_nothing(feeds: FeedAttestors) -> None:
    sent: list[FeedStep] = []

    async def send(step: FeedStep) -> None:
        sent.append(step)

    with pytest.raises(Refused, match="node SVID: expired"):
        await follow(feeds, send, life=timedelta(seconds=-1))
    assert not sent


async def test_a_stop_of_the_store_ends_the_feed(store: SQLiteDatastore, feeds: FeedAttestors) -> None:
    async def send(step: FeedStep) -> None:
        del step
        await store.close()

    with pytest.raises(Refused, match="datastore: closed"):
        await follow(feeds, send)


def heavy(count: int) -> Sequence[RegistrationEntry]:
    """Entries whose selectors are long."""
    return [
        replace(
            an_entry(f"/w{number}", entry_id=f"e{number:04}"),
            selectors=frozenset({Selector("unix", "path:/" + "x" * 4000), Selector("unix", f"uid:{number}")}),
        )
        for number in range(count)
    ]


async def test_heavy_entries_are_cut_by_their_bytes_and_only_the_last_message_moves_the_cursor(
    store: SQLiteDatastore, feeds: FeedAttestors
) -> None:
    start = (await store.read(lambda tx: tx.changes.head())).number
    entries = heavy(125)

    def work(tx: Transaction) -> None:
        tx.entries.insert(entries)
        tx.changes.append([change for entry in entries for change in entry_changes(None, entry)])

    await store.write(work)
    head = await store.read(lambda tx: tx.changes.head())
    steps: list[FeedStep] = []

    class Enough(Exception):  # noqa: N818 - ends the feed
        pass

    async def send(step: FeedStep) -> None:
        steps.append(step)
        if step.cursor.number == head.number:
            raise Enough

    with pytest.raises(Enough):
        await follow(feeds, send, cursor=Cursor(incarnation=head.incarnation, number=start))
    assert len(steps) == 3
    assert [step.cursor.number for step in steps] == [start, start, head.number]
    assert not any(step.snapshot for step in steps)
    assert len({entry.id for step in steps for entry in entries_put(step.updates)}) == 125
    assert [bundle_told(step.updates) is None for step in steps] == [False, True, True]


class EnoughError(Exception):
    """The test has seen what it waits for."""


def _checkpoint(count: int) -> Checkpoint:
    return Checkpoint(
        trust_domain=TRUST_DOMAIN, incarnation="i", count=count, head=bytes(32), at=NOW, public_key=b"k", signature=b"s"
    )


def _add_checkpoint(count: int, tx: Transaction) -> None:
    tx.checkpoints.add(_checkpoint(count))
    tx.changes.append([Change(kind=ChangeKind.CHECKPOINT)])


async def test_the_latest_checkpoint_comes_at_once_and_each_later_one_by_itself(
    store: SQLiteDatastore, feeds: FeedAttestors
) -> None:
    await store.write(partial(_add_checkpoint, 1))
    await store.write(partial(_add_checkpoint, 2))
    steps: list[FeedStep] = []

    async def send(step: FeedStep) -> None:
        steps.append(step)
        if len(steps) == 2:
            raise EnoughError
        await store.write(partial(_add_checkpoint, 3))

    with pytest.raises(EnoughError):
        await follow(feeds, send)
    assert [(step.snapshot, checkpoint_told(step.updates)) for step in steps] == [
        (True, _checkpoint(2).to_json()),
        (False, _checkpoint(3).to_json()),
    ]
    assert steps[1].cursor.number == 3


async def test_whoever_goes_on_from_a_cursor_gets_the_latest_checkpoint_again(
    store: SQLiteDatastore, feeds: FeedAttestors
) -> None:
    await store.write(partial(_add_checkpoint, 1))
    head = await store.read(lambda tx: tx.changes.head())

    async def send(step: FeedStep) -> None:
        assert (step.snapshot, checkpoint_told(step.updates)) == (False, _checkpoint(1).to_json())
        raise EnoughError

    with pytest.raises(EnoughError):
        await follow(feeds, send, cursor=head)


async def test_a_feed_without_news_says_that_it_is_alive_and_moves_nobody(store: SQLiteDatastore) -> None:
    feeds = feeds_that_speak_often(store, FakeClock(NOW))
    steps: list[FeedStep] = []

    def change_what_is_not_its_own(tx: Transaction) -> None:
        tx.changes.append([Change(kind=ChangeKind.NODE, subject=NodeID("another"))])

    async def send(step: FeedStep) -> None:
        steps.append(step)
        if len(steps) == 2:
            await store.write(change_what_is_not_its_own)
        if len(steps) == 4:
            raise EnoughError

    with pytest.raises(EnoughError):
        async with asyncio.timeout(10):
            await feeds.follow(NODE, not_after=NOW + HOUR, cursor=None, send=send)
    snapshot, *words = steps
    assert snapshot.snapshot
    assert words == [FeedStep(cursor=snapshot.cursor)] * 3


class RestlessStore(RefusingStore):
    """A store in which something changes each time that somebody waits for it: a second later, and nothing that is the node's."""

    def __init__(self, store: SQLiteDatastore, clock: FakeClock) -> None:
        super().__init__(store)
        self._clock = clock

    async def wait_for_change(self, after: int) -> int:
        self._clock.advance(1)
        await self.write(lambda tx: tx.changes.append([Change(kind=ChangeKind.NODE, subject=NodeID("another"))]))
        return await super().wait_for_change(after)


async def test_a_feed_says_that_it_is_alive_however_much_happens_that_does_not_concern_it(
    store: SQLiteDatastore,
) -> None:
    clock = FakeClock(NOW)
    restless = RestlessStore(store, clock)
    feeds = replace(feeds_that_speak_often(store, clock), datastore=restless, word_seconds=5.0)
    said: list[tuple[timedelta, FeedStep]] = []

    async def send(step: FeedStep) -> None:
        said.append((clock.now() - NOW, step))
        if len(said) == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        async with asyncio.timeout(10):
            await feeds.follow(NODE, not_after=NOW + HOUR, cursor=None, send=send)
    (_, snapshot), *words = said
    word = FeedStep(cursor=snapshot.cursor)
    assert words == [(timedelta(seconds=5), word), (timedelta(seconds=10), word)]


async def test_a_word_leaves_the_node_where_the_last_news_left_it(store: SQLiteDatastore) -> None:
    feeds = feeds_that_speak_often(store, FakeClock(NOW))
    steps: list[FeedStep] = []

    async def send(step: FeedStep) -> None:
        steps.append(step)
        if len(steps) == 1:
            await store.write(partial(_add_checkpoint, 1))
        if len(steps) == 3:
            raise EnoughError

    with pytest.raises(EnoughError):
        async with asyncio.timeout(10):
            await feeds.follow(NODE, not_after=NOW + HOUR, cursor=None, send=send)
    snapshot, news, word = steps
    assert news.cursor.number == snapshot.cursor.number + 1
    assert word == FeedStep(cursor=news.cursor)


def feeds_that_speak_often(store: SQLiteDatastore, clock: FakeClock) -> FeedAttestors:
    return FeedAttestors(
        datastore=store,
        deferred=DeferWrites(metrics=Metrics(), datastore=store, clock=clock, troubles=Troubles(clock)),
        clock=clock,
        trust_domain=TRUST_DOMAIN,
        word_seconds=0.01,
    )


@pytest.mark.parametrize("end", ["of its SVID", "of its group"])
async def test_a_clock_that_is_set_forward_during_a_feed_is_noticed_at_the_next_look(
    store: SQLiteDatastore, end: str
) -> None:
    clock = FakeClock(NOW)
    feeds = feeds_that_speak_often(store, clock)
    group = replace(
        an_entry("/group", entry_id="g", of="join_token:label:team:travel"),
        parent_id=issuer_id(TRUST_DOMAIN),
        expires_at=NOW + 2 * HOUR,
    )
    await store.write(lambda tx: tx.entries.insert([group]))
    steps: list[FeedStep] = []

    async def send(step: FeedStep) -> None:
        steps.append(step)
        if len(steps) == 2:
            raise EnoughError
        clock.jump(3 * HOUR)

    life, expected = (HOUR, Refused) if end == "of its SVID" else (4 * HOUR, EnoughError)
    with pytest.raises(expected):
        async with asyncio.timeout(10):
            await feeds.follow(NODE, not_after=NOW + life, cursor=None, send=send)
    assert [step.snapshot for step in steps] == ([True] if end == "of its SVID" else [True, True])
