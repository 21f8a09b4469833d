"""Checkpoints as a flow: signed when the log grew, stored, told on the feed, and sent to the places configured."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import TypeVar

import pytest
from structlog.testing import capture_logs

from cognomen.daemon.troubles import Troubles
from cognomen.protocol.auditlog import Checkpoint
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import ChangeKind
from issuer.flows.write_checkpoints import WriteCheckpoints
from issuer.keymanager.memory import MemoryKeyManager
from svid.keys import KeyID, KeyKind
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore
from tests.doubles.until import until

T = TypeVar("T")
INTERVAL = timedelta(minutes=5)


class Sink:
    def __init__(self) -> None:
        self.received: list[Checkpoint] = []
        self.works = True

    async def write(self, checkpoint: Checkpoint) -> None:
        if not self.works:
            raise Refused(Kind.UNAVAILABLE, "not now")
        self.received.append(checkpoint)


class Harness:
    def __init__(self, store: SQLiteDatastore) -> None:
        self.store = store
        self.keys = MemoryKeyManager()
        self.clock = FakeClock()
        self.sink = Sink()
        self.troubles = Troubles(self.clock)
        self.flow = WriteCheckpoints(
            datastore=store,
            keys=self.keys,
            around=around(self.clock, troubles=self.troubles),
            trust_domain=TRUST_DOMAIN,
            every=INTERVAL,
            sinks=[self.sink],
        )

    async def decide(self) -> None:
        event = AuditEvent(at=NOW, actor="uid:0", action="entry created")
        await self.store.write(lambda tx: tx.audit.append([event]))

    async def stored(self) -> list[Checkpoint]:
        return list(await self.store.read(lambda tx: tx.checkpoints.newest(100)))


@pytest.fixture
async def harness() -> AsyncIterator[Harness]:
    store = await SQLiteDatastore.open(None)
    yield Harness(store)
    await store.close()


async def test_a_checkpoint_covers_every_row_and_is_signed(harness: Harness) -> None:
    await harness.decide()
    await harness.flow()
    (found,) = await harness.stored()
    count, head = await harness.store.read(lambda tx: tx.audit.head())
    cursor = await harness.store.read(lambda tx: tx.changes.head())
    found.check_signature()
    assert (found.count, found.head, found.incarnation) == (count, head, cursor.incarnation)
    assert harness.sink.received == [found]


async def test_the_key_is_made_once_and_that_is_on_record(harness: Harness) -> None:
    for _ in range(2):
        await harness.decide()
        await harness.flow()
    assert len(await harness.keys.list()) == 1
    rows = await harness.store.read(lambda tx: tx.audit.rows(after=0, limit=10))
    assert sum(b'"action":"checkpoint key made"' in row.body for row in rows) == 1


async def test_stored_checkpoints_that_are_gone_are_told(harness: Harness) -> None:
    await harness.decide()
    await harness.keys.generate(KeyID("audit-1"), KeyKind.EC_P256)  # another process made it, and its first checkpoint
    with capture_logs() as lines:
        assert await harness.flow.attempt()
        await harness.decide()
        assert await harness.flow.attempt()
    (told,) = [line for line in lines if line["log_level"] == "error"]
    assert told["event"] == "no checkpoint is stored, though there were some"
    (trouble,) = harness.troubles.all()
    assert (trouble.what, "--checkpoint" in trouble.reason) == ("stored checkpoints", True)


async def test_stored_checkpoints_that_go_while_the_issuer_runs_are_told_too(harness: Harness) -> None:
    await harness.decide()
    await harness.flow()
    await harness.store.close()
    harness.flow.datastore = harness.store = await SQLiteDatastore.open(None)
    await harness.decide()
    await harness.flow()
    assert [trouble.what for trouble in harness.troubles.all()] == ["stored checkpoints"]


async def test_a_first_checkpoint_of_this_process_is_told_to_nobody_though_the_store_failed_before(
    harness: Harness,
) -> None:
    store = RefusingStore(harness.store)
    harness.flow.datastore = store
    store.refuses = True
    assert not await harness.flow.attempt()
    assert len(await harness.keys.list()) == 1
    store.refuses = False
    await harness.decide()
    assert await harness.flow.attempt()
    assert not harness.troubles.all()


async def test_a_log_that_did_not_grow_gets_no_other_checkpoint(harness: Harness) -> None:
    await harness.decide()
    await harness.flow()
    await harness.flow()
    assert len(await harness.stored()) == 1


async def test_a_checkpoint_wakes_the_feeds(harness: Harness) -> None:
    await harness.decide()
    await harness.flow()

    def kinds(tx: Transaction) -> list[ChangeKind]:
        return [change.kind for change in tx.changes.after(0, limit=10)]

    assert await harness.store.read(kinds) == [ChangeKind.CHECKPOINT]


async def test_a_place_that_failed_gets_the_latest_when_it_works_again(harness: Harness) -> None:
    harness.sink.works = False
    for _ in range(2):
        await harness.decide()
        assert not await harness.flow.attempt()
    assert [trouble.times for trouble in harness.troubles.all()] == [2]
    harness.sink.works = True
    assert await harness.flow.attempt()
    assert not harness.troubles.all()
    assert harness.sink.received == [(await harness.stored())[-1]]


async def test_a_store_that_fails_is_told_and_ends_nothing(harness: Harness) -> None:
    await harness.store.close()
    assert not await harness.flow.attempt()


async def test_checkpoints_come_each_interval_and_sooner_after_a_failure(harness: Harness) -> None:
    await harness.decide()
    task = asyncio.create_task(harness.flow.run())
    await until(lambda: harness.clock.sleepers == 1)
    assert len(harness.sink.received) == 1
    await harness.decide()
    harness.sink.works = False
    harness.clock.advance(INTERVAL)
    await until(lambda: harness.clock.sleepers == 1)
    assert len(harness.sink.received) == 1
    harness.sink.works = True
    harness.clock.advance(timedelta(seconds=30))
    await until(lambda: len(harness.sink.received) == 2)
    task.cancel()


class ForgetfulStore(RefusingStore):
    """A store that commits and does not say so, while it is told to: as when whoever waits is cancelled in between."""

    is_silent = False

    async def write(self, work: Callable[[Transaction], T], *, expendable: bool = False) -> T:
        done = await super().write(work, expendable=expendable)
        if self.is_silent:
            raise asyncio.CancelledError
        return done


async def test_one_that_was_kept_while_it_was_cancelled_still_reaches_its_sink(harness: Harness) -> None:
    await harness.decide()
    await harness.flow()
    await harness.decide()
    store = ForgetfulStore(harness.store)
    flow = harness.flow
    flow.datastore = store
    store.is_silent = True
    with pytest.raises(asyncio.CancelledError):
        await flow()
    assert len(await harness.stored()) == 2
    store.is_silent = False
    await flow()
    assert harness.sink.received == await harness.stored()
