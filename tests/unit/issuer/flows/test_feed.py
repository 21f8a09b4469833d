"""The feed as a flow, on a store in memory: what ends it, and how its messages are cut."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from attestor.decisions.crls import documents_of
from cognomen.protocol.auditlog import Checkpoint
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import BundleIs, CheckpointIs, Cursor, DenialsPut, EntryGone, EntryPut, TaintedIs
from cognomen.protocol.names import NodeID, issuer_id
from cognomen.protocol.receipts import Enforcement
from cognomen.protocol.selector import Selector
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions import authority as authorities
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.authority import Authority, replaced, retired, tainted
from issuer.decisions.changes import Change, ChangeKind, entry_changes
from issuer.decisions.crl import SignedCRL
from issuer.decisions.feedsteps import FeedStep, weight
from issuer.decisions.ledger import Credential, CredentialKind
from issuer.decisions.revocation import Reason, RevocationKind, Target
from issuer.flows.feed_attestors import FeedAttestors, Send
from issuer.flows.revoke import Revoke, Revoked
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch
from svid.clock import SystemClock
from svid.denials import OPEN_FOR, Denial
from svid.keys import KeyID
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.feed import bundle_told, checkpoint_told, denials_told, entries_put
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, an_entry, jwt_authority, x509_authority
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore
from tests.doubles.until import until

HOUR = timedelta(hours=1)
NODE = a_node()
WEB = an_entry(entry_id="web")


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
        deferred=DeferredWrites(around=around(clock), datastore=store),
        watch=EnforcementWatch(around=around(clock)),
        around=around(clock),
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


async def test_a_node_is_waited_for_until_the_last_of_its_feeds_has_ended(feeds: FeedAttestors) -> None:
    leave = [asyncio.Event(), asyncio.Event()]

    async def stay(end: asyncio.Event) -> None:
        async def send(step: FeedStep) -> None:
            del step
            await end.wait()
            raise EnoughError

        with pytest.raises(EnoughError):
            await follow(feeds, send)

    staying = [asyncio.ensure_future(stay(end)) for end in leave]
    await until(lambda: len(feeds.connected.get(NODE.id, ())) == len(leave))
    leave[0].set()
    await staying[0]
    assert feeds.watch.how_far(1).attestors == 1
    leave[1].set()
    await staying[1]
    assert feeds.watch.how_far(1).attestors == 0


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


async def test_the_tainted_authorities_come_with_a_snapshot_and_whenever_they_change(
    store: SQLiteDatastore, feeds: FeedAttestors
) -> None:
    first, second = (replace(jwt_authority().authority, key_id=KeyID(name)) for name in ("first", "second"))

    def taint(row: Authority, tx: Transaction) -> None:
        change = tx.changes.append([Change(kind=ChangeKind.AUTHORITY)])
        tx.authorities.put(tainted(replaced(row), change=change, now=NOW))

    def revoke(tx: Transaction) -> None:
        tx.authorities.put(retired(first))
        tx.changes.append([Change(kind=ChangeKind.BUNDLE)])

    await store.write(partial(taint, first))
    told: list[list[frozenset[str]]] = []
    later: list[Callable[[Transaction], None]] = [partial(taint, second), revoke]

    async def send(step: FeedStep) -> None:
        told.append([update.authority_ids for update in step.updates if isinstance(update, TaintedIs)])
        if not later:
            raise EnoughError
        await store.write(later.pop(0))

    with pytest.raises(EnoughError):
        await follow(feeds, send)
    assert told == [[{"first"}], [{"first", "second"}], [{"second"}]]


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
    feeds = feeds_that_speak_often(store, clock)
    feeds.datastore, feeds.word_seconds = restless, 5.0
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
        elif step.cursor != steps[0].cursor and not step.updates:
            raise EnoughError

    with pytest.raises(EnoughError):
        async with asyncio.timeout(10):
            await feeds.follow(NODE, not_after=NOW + HOUR, cursor=None, send=send)
    snapshot, *early, news, word = steps  # on a busy machine a word may be due before the news is read
    assert all(one == FeedStep(cursor=snapshot.cursor) for one in early)
    assert news.cursor.number == snapshot.cursor.number + 1
    assert word == FeedStep(cursor=news.cursor)


def feeds_that_speak_often(store: SQLiteDatastore, clock: FakeClock) -> FeedAttestors:
    return FeedAttestors(
        datastore=store,
        deferred=DeferredWrites(around=around(clock), datastore=store),
        watch=EnforcementWatch(around=around(clock)),
        around=around(clock),
        trust_domain=TRUST_DOMAIN,
        word_seconds=0.01,
    )


def credentials(count: int) -> list[Credential]:
    """Of NODE's entry /web."""
    end = SystemClock().now().replace(microsecond=0) + HOUR
    return [
        Credential(
            kind=CredentialKind.X509,
            serial=f"{2**127 + number:x}",
            spiffe_id=WEB.spiffe_id,
            authority_id=KeyID("x509-1"),
            issued_at=NOW,
            not_after=end,
            entry_id=WEB.id,
            node_id=NODE.id,
        )
        for number in range(count)
    ]


async def hear(
    feeds: FeedAttestors, store: SQLiteDatastore, *acts: Callable[[], Awaitable[object]], cursor: Cursor | None = None
) -> list[tuple[FeedStep, ...]]:
    """Follow from that cursor, and act each time when everything was told; what was told before and after each act."""
    told: list[tuple[FeedStep, ...]] = []
    steps: list[FeedStep] = []
    left = iter(acts)

    async def send(step: FeedStep) -> None:
        steps.append(step)
        if step.more or step.cursor != await store.read(lambda tx: tx.changes.head()):
            return
        told.append(tuple(steps))
        steps.clear()
        if (act := next(left, None)) is None:
            raise EnoughError
        await act()

    with pytest.raises(EnoughError):
        await follow(feeds, send, cursor=cursor)
    return told


@pytest.mark.parametrize(
    ("returns", "is_forgotten", "acknowledged"),
    [(False, False, 0), (True, False, 1), (True, True, 0)],
    ids=["anew", "goes on", "goes on where the log does not"],
)
async def test_what_an_attestor_acknowledged_in_a_former_life_counts_only_if_it_still_has_it(
    store: SQLiteDatastore, feeds: FeedAttestors, *, returns: bool, is_forgotten: bool, acknowledged: int
) -> None:
    await store.write(partial(_add_checkpoint, 1))
    cursor = await store.read(lambda tx: tx.changes.head())
    await store.write(partial(_add_checkpoint, 2))
    if is_forgotten:
        await store.write(lambda tx: tx.changes.prune(before=3))
    known = replace(NODE, acknowledged=2)

    async def send(step: FeedStep) -> None:
        assert feeds.watch.slowest() == acknowledged
        await feeds.acknowledge(known, step.cursor, Enforcement(number=step.cursor.number))
        assert feeds.watch.slowest() == 2
        raise EnoughError

    end = SystemClock().now() + HOUR
    with pytest.raises(EnoughError):
        await feeds.follow(known, not_after=end, cursor=cursor if returns else None, send=send)


async def test_a_node_that_acknowledges_without_end_waits_and_keeps_no_other_waiting(store: SQLiteDatastore) -> None:
    clock = FakeClock(NOW)
    feeds = feeds_that_speak_often(store, clock)

    async def say(node: Node, times: int) -> None:
        for _ in range(times):
            await feeds.acknowledge(node, Cursor(incarnation="1", number=0), Enforcement(number=0))

    await say(NODE, 100)
    too_often = asyncio.ensure_future(say(NODE, 2))
    await until(lambda: clock.sleepers == 1)
    await say(a_node("another"), 100)
    for _ in range(2):
        assert not too_often.done()
        await until(lambda: clock.sleepers == 1)
        clock.advance(0.1)
    await too_often


class TestRevocation:
    @pytest.fixture
    async def revoke(self, store: SQLiteDatastore, feeds: FeedAttestors) -> Revoke:
        await store.write(lambda tx: tx.entries.insert([WEB]))
        return Revoke(datastore=store, around=around(feeds.clock), watch=feeds.watch)

    @pytest.mark.parametrize("returns", [True, False], ids=["delta", "snapshot"])
    async def test_who_was_away_hears_first_what_is_denied_in_messages_of_bounded_size(
        self, store: SQLiteDatastore, feeds: FeedAttestors, revoke: Revoke, *, returns: bool
    ) -> None:
        rows = credentials(10_000)
        await store.write(lambda tx: tx.ledger.record(rows))
        before = await store.read(lambda tx: tx.changes.head())
        await end(revoke, Target(kind=RevocationKind.SVID, serials=tuple(row.serial for row in rows)))
        await store.write(partial(_add_checkpoint, 1))
        (steps,) = await hear(feeds, store, cursor=before if returns else None)
        assert not any(step.snapshot is returns for step in steps)
        assert all(sum(map(weight, step.updates)) <= 256 * 1024 for step in steps)
        updates = [update for step in steps for update in step.updates]
        assert [denial.number for denial in denials_told(updates)] == [2**127 + number for number in range(10_000)]
        assert {denial.ends_at for denial in denials_told(updates)} == {rows[0].not_after + OPEN_FOR}
        kinds = [type(update) for update in updates]
        rest = [BundleIs, CheckpointIs] if returns else [BundleIs, EntryPut, CheckpointIs]
        assert kinds == [DenialsPut] * (len(kinds) - len(rest)) + rest

    @pytest.mark.parametrize(
        "target",
        [
            Target(kind=RevocationKind.ENTRY, entry_ids=(EntryID("web"),)),
            Target(kind=RevocationKind.SPIFFE_ID, spiffe_id=SpiffeID(trust_domain=TRUST_DOMAIN, path=""), below=True),
            Target(kind=RevocationKind.SELECTOR, selector=Selector("unix", "uid:1000")),
        ],
        ids=lambda target: target.kind,
    )
    async def test_a_blocked_entry_is_gone_after_its_denials_and_a_lift_puts_it_again(
        self, store: SQLiteDatastore, feeds: FeedAttestors, revoke: Revoke, target: Target
    ) -> None:
        (row,) = credentials(1)
        await store.write(lambda tx: tx.ledger.record([row]))
        first, ended, lifted = await hear(
            feeds, store, lambda: end(revoke, target), lambda: revoke.lift(1, actor="uid:0")
        )
        assert entries_put(first[-1].updates) == (WEB,)
        denied = DenialsPut(denials=(Denial(2**127, row.not_after + OPEN_FOR),))
        assert [step.updates for step in ended] == [(denied, EntryGone(entry_id=WEB.id))]
        assert [step.updates for step in lifted] == [(EntryPut(entry=WEB),)]
        assert not any(step.snapshot for step in (*ended, *lifted))

    async def test_who_comes_during_a_block_is_not_told_of_the_entry_nor_of_one_that_comes_later(
        self, store: SQLiteDatastore, feeds: FeedAttestors, revoke: Revoke
    ) -> None:
        later = an_entry("/web/later", entry_id="later", of="unix:uid:7")
        await end(revoke, Target(kind=RevocationKind.SPIFFE_ID, spiffe_id=WEB.spiffe_id, below=True))
        first, created, lifted = await hear(
            feeds, store, lambda: store.write(partial(_insert, later)), lambda: revoke.lift(1, actor="uid:0")
        )
        assert [entries_put(step.updates) for step in (*first, *created)] == [(), ()]
        assert entries_put(lifted[-1].updates) == (later, WEB)

    async def test_a_blocked_node_holds_nothing_and_gets_all_again_after_the_lift(
        self, store: SQLiteDatastore, feeds: FeedAttestors, revoke: Revoke
    ) -> None:
        (row,) = credentials(1)
        await store.write(lambda tx: tx.ledger.record([row]))
        (selector,) = NODE.selectors
        target = Target(kind=RevocationKind.SELECTOR, selector=selector)
        first, ended, lifted = await hear(
            feeds, store, lambda: end(revoke, target), lambda: revoke.lift(1, actor="uid:0")
        )
        assert [entries_put(steps[-1].updates) for steps in (first, ended, lifted)] == [(WEB,), (), (WEB,)]
        assert [steps[-1].snapshot for steps in (first, ended, lifted)] == [True] * 3
        assert [len(denials_told(steps[-1].updates)) for steps in (first, ended, lifted)] == [0, 1, 1]
        assert isinstance(ended[0].updates[0], DenialsPut)

    async def test_a_revoked_nodes_feed_ends_with_what_ended(
        self, store: SQLiteDatastore, feeds: FeedAttestors, revoke: Revoke
    ) -> None:
        row = credentials(1)[0]
        await store.write(lambda tx: tx.ledger.record([row]))
        steps: list[FeedStep] = []

        async def send(step: FeedStep) -> None:
            steps.append(step)
            if len(steps) == 1:
                await end(revoke, Target(kind=RevocationKind.NODE, node_ids=(NODE.id,)))

        with pytest.raises(Refused, match="banned or gone"):
            await follow(feeds, send)
        _, last = steps
        assert last.snapshot
        assert DenialsPut(denials=(Denial(2**127, row.not_after + OPEN_FOR),)) in last.updates
        assert not any(isinstance(update, EntryPut) for update in last.updates)

    async def test_everybody_hears_what_was_denied_to_another_node(
        self, store: SQLiteDatastore, feeds: FeedAttestors, revoke: Revoke
    ) -> None:
        row = replace(credentials(1)[0], node_id=NodeID("n2"), entry_id=EntryID("theirs"))
        await store.write(lambda tx: tx.ledger.record([row]))
        target = Target(kind=RevocationKind.SVID, serials=(row.serial,))
        _, ended = await hear(feeds, store, lambda: end(revoke, target))
        assert [step.updates for step in ended] == [(DenialsPut(denials=(Denial(2**127, row.not_after + OPEN_FOR),)),)]

    async def test_each_feed_hears_of_each_revocation_what_follows_from_it(
        self, store: SQLiteDatastore, feeds: FeedAttestors, revoke: Revoke
    ) -> None:
        rows = credentials(3)
        await store.write(lambda tx: tx.ledger.record(rows))
        before = await store.read(lambda tx: tx.changes.head())
        first, second, third = (Target(kind=RevocationKind.SVID, serials=(row.serial,)) for row in rows)
        told = await hear(
            feeds, store, lambda: end(revoke, first), lambda: end(revoke, second), lambda: end(revoke, third)
        )
        heard = [[denial.number - 2**127 for step in steps for denial in denials_told(step.updates)] for steps in told]
        assert heard == [[], [0], [1], [2]]
        (later,) = await hear(feeds, store, cursor=before)
        assert [denial.number - 2**127 for denial in denials_told(later[0].updates)] == [0, 1, 2]

    async def test_a_revocation_that_ended_nothing_still_moves_who_follows(
        self, store: SQLiteDatastore, feeds: FeedAttestors, revoke: Revoke
    ) -> None:
        target = Target(kind=RevocationKind.ENTRY, entry_ids=(WEB.id,))
        _, ended, again = await hear(feeds, store, lambda: end(revoke, target), lambda: end(revoke, target))
        assert [step.updates for step in (*ended, *again)] == [(EntryGone(entry_id=WEB.id),)] * 2

    @pytest.mark.parametrize(
        "target",
        [
            Target(kind=RevocationKind.SVID, serials=(f"{2**127:x}",)),
            Target(kind=RevocationKind.SELECTOR, selector=Selector("unix", "uid:88888")),
            Target(kind=RevocationKind.NODE, node_ids=(NodeID("another"),)),
        ],
        ids=["of what is revoked already", "a block of nobody", "a node that holds nothing"],
    )
    async def test_who_follows_is_moved_by_a_revocation_without_any_consequence(
        self, store: SQLiteDatastore, feeds: FeedAttestors, revoke: Revoke, target: Target
    ) -> None:
        await store.write(lambda tx: tx.ledger.record(credentials(1)))
        await store.write(lambda tx: tx.nodes.put(a_node("another")))
        await end(revoke, Target(kind=RevocationKind.SVID, serials=(f"{2**127:x}",)))
        _, ended = await hear(feeds, store, lambda: end(revoke, target))
        head = await store.read(lambda tx: tx.changes.head())
        assert ended == (FeedStep(cursor=head),)


async def end(revoke: Revoke, target: Target) -> Revoked:
    return await revoke(target, reason=Reason.UNSPECIFIED, comment="", dry_run=False, actor="uid:0")


def _insert(entry: RegistrationEntry, tx: Transaction) -> None:
    tx.entries.insert([entry])
    tx.changes.append(entry_changes(None, entry))


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


async def test_the_lists_of_the_bundles_authorities_come_at_once_and_each_newer_one_by_itself(
    store: SQLiteDatastore, feeds: FeedAttestors
) -> None:
    rows = [(await x509_authority(key_id=f"x509-{number}")).authority for number in range(3)]
    rows[2] = authorities.retired(rows[2])

    def begin(tx: Transaction) -> None:
        for number, row in enumerate(rows):
            tx.authorities.put(row)
            tx.crls.put(SignedCRL(authority_id=row.key_id, number=1, this_update=NOW, der=b"old %d" % number))
        tx.crls.put(SignedCRL(authority_id=rows[0].key_id, number=1))  # its number is given away, and no more

    def go_on(tx: Transaction) -> None:
        tx.crls.put(SignedCRL(authority_id=rows[0].key_id, number=2, this_update=NOW, der=b"new"))
        tx.changes.append([Change(kind=ChangeKind.CRL, subject=row.key_id) for row in (rows[0], rows[2])])

    await store.write(begin)
    steps: list[FeedStep] = []

    async def take(step: FeedStep) -> None:
        steps.append(step)
        if len(steps) == 2:
            raise EnoughError
        await store.write(go_on)

    with pytest.raises(EnoughError):
        await follow(feeds, take)
    assert [list(documents_of(step.updates)) for step in steps] == [[b"old 1"], [b"new"]]
    assert bundle_told(steps[1].updates) is None
