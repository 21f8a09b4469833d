"""When and from where nodes last called: known at once, written rarely."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from cognomen.protocol.names import NodeID
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node
from issuer.decisions.uses import Reported
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.node_sightings import NodeSightings
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import a_node
from tests.doubles.issuersurroundings import around

N1 = NodeID("n1")


class House:
    """Sightings above a store that has one node."""

    def __init__(self, store: SQLiteDatastore) -> None:
        self.clock = FakeClock()
        self.store = store
        self.deferred = DeferredWrites(around=around(self.clock), datastore=store)
        self.sightings = NodeSightings(deferred=self.deferred, around=around(self.clock))

    async def stored(self) -> Node | None:
        await self.deferred.flush()
        return await self.store.read(lambda tx: tx.nodes.get(N1))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await SQLiteDatastore.open(None)
    await store.write(lambda tx: tx.nodes.put(a_node("n1")))
    yield House(store)
    await store.close()


async def test_the_last_call_is_known_at_once_and_written_every_five_minutes(house: House) -> None:
    for _ in range(40):  # a call every 15 s, for 10 minutes
        house.sightings.note(N1, "10.0.0.1")
        house.clock.advance(15)
    assert house.deferred.waiting == 2
    house.sightings.note(N1, "10.0.0.2")
    at = house.clock.now()
    assert house.sightings.seen(a_node("n1")) == replace(a_node("n1"), seen_at=at, address="10.0.0.2")
    assert await house.stored() == replace(a_node("n1"), seen_at=at, address="10.0.0.2")


async def test_it_is_written_when_the_last_feed_ended(house: House) -> None:
    house.sightings.note(N1, "10.0.0.1")
    await house.stored()
    house.clock.advance(20)
    house.sightings.note(N1, "10.0.0.1")
    house.sightings.end(N1)
    stored = await house.stored()
    assert stored is not None
    assert stored.seen_at == house.clock.now()


async def test_a_call_from_an_address_that_is_not_known_keeps_the_last_one(house: House) -> None:
    house.sightings.note(N1, "10.0.0.1")
    house.clock.advance(400)
    house.sightings.note(N1, "")
    stored = await house.stored()
    assert stored is not None
    assert stored.address == house.sightings.seen(a_node("n1")).address == "10.0.0.1"
    assert stored.seen_at == house.clock.now()


async def test_nothing_is_written_for_a_node_that_is_gone_or_never_called(house: House) -> None:
    house.sightings.end(N1)
    assert house.deferred.waiting == 0
    house.sightings.note(NodeID("n9"), "10.0.0.9")
    await house.stored()
    assert await house.store.read(lambda tx: tx.nodes.get(NodeID("n9"))) is None
    assert house.sightings.seen(a_node("n1")) == a_node("n1")


async def test_what_is_stored_of_a_node_in_the_meantime_stays(house: House) -> None:
    house.sightings.note(N1, "10.0.0.1")
    later = replace(a_node("n1"), svid_not_after=a_node().svid_not_after + timedelta(hours=1), name="web")
    await house.store.write(lambda tx: tx.nodes.put(later))
    assert await house.stored() == replace(later, address="10.0.0.1", seen_at=house.clock.now())


def told(house: House, since: float, until: float | None) -> Reported:
    """A time that began and ended so many seconds ago."""
    now = house.clock.now()
    return Reported(
        since=now - timedelta(seconds=since), until=None if until is None else now - timedelta(seconds=until)
    )


async def reported(house: House) -> Reported | None:
    """What is stored, which must be what is known."""
    stored = await house.stored()
    assert stored is not None
    assert house.sightings.seen(stored).reported == stored.reported
    return stored.reported


async def test_what_a_node_reports_is_known_at_once_and_written_with_its_last_call(house: House) -> None:
    for number in range(40):  # an acknowledgement every 15 s, for 10 minutes
        house.sightings.note(N1, "10.0.0.1")
        house.sightings.tell(N1, told(house, since=20 + 15 * number, until=5))
        house.clock.advance(15)
    assert house.deferred.waiting == 3  # two calls, and the first report
    seen = house.sightings.seen(a_node("n1"))
    assert seen.reported == Reported(
        since=house.clock.now() - timedelta(seconds=620), until=house.clock.now() - timedelta(seconds=20)
    )


async def test_the_last_report_of_an_attestor_is_written_at_once_and_nothing_is_missing_until_the_next(
    house: House,
) -> None:
    house.sightings.note(N1, "")
    house.sightings.tell(N1, told(house, since=60, until=0))
    begin = house.clock.now() - timedelta(seconds=60)
    house.sightings.tell(N1, told(house, since=60, until=None))
    assert await reported(house) == Reported(since=begin, until=None)
    house.clock.advance(7200)
    house.sightings.note(N1, "")
    house.sightings.tell(N1, told(house, since=30, until=10))
    house.sightings.end(N1)
    assert await reported(house) == Reported(since=begin, until=house.clock.now() - timedelta(seconds=10))


async def test_an_attestor_that_does_not_report_ends_what_is_known(house: House) -> None:
    begin = house.clock.now()
    await house.store.write(lambda tx: tx.nodes.put(replace(a_node("n1"), reported=Reported(since=begin, until=None))))
    house.clock.advance(3600)
    at = house.clock.now()
    for _ in range(60):
        house.sightings.note(N1, "")
        house.sightings.tell(N1, None)
        house.clock.advance(15)
    assert await reported(house) == Reported(since=begin, until=at)
    house.sightings.tell(N1, now := told(house, since=30, until=0))  # it was updated
    house.sightings.end(N1)
    assert await reported(house) == now


async def test_of_an_attestor_that_never_reported_nothing_is_known(house: House) -> None:
    house.sightings.tell(N1, told(house, since=60, until=0))  # it has never called
    for _ in range(60):
        house.sightings.note(N1, "")
        house.sightings.tell(N1, None)
        house.clock.advance(15)
    assert await reported(house) is None


async def test_after_a_kill_of_the_issuer_the_same_attestor_tells_of_the_time_before(house: House) -> None:
    house.sightings.note(N1, "")
    house.sightings.tell(N1, told(house, since=100, until=5))
    begin = house.clock.now() - timedelta(seconds=100)
    await house.stored()
    house.clock.advance(600)
    after = NodeSightings(deferred=house.deferred, around=around(house.clock))
    after.note(N1, "")
    after.tell(N1, told(house, since=700, until=5))
    stored = await house.stored()
    assert stored is not None
    assert stored.reported == Reported(since=begin, until=house.clock.now() - timedelta(seconds=5))
