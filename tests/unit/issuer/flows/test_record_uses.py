"""What a node reports of uses: of its own entries only, within a budget, and stored when it is told so."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from cognomen.protocol.uses import EntryUse, ReportedUses
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.uses import Reported, UseFilter
from issuer.flows.record_uses import REPORTS, RecordUses
from issuer.keepers.budgets import Budgets
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.node_sightings import NodeSightings
from tests.contract.test_supersessions_contract import row
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import NOW, a_node, an_entry
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore
from tests.doubles.uses import a_use

DAY = timedelta(days=1)


@dataclass
class House:
    clock: FakeClock
    store: SQLiteDatastore
    record: RecordUses
    node: Node

    async def noted(self) -> list[tuple[NodeID, EntryUse]]:
        found = await self.store.read(lambda tx: tx.uses.find(UseFilter(), after=0, limit=100))
        return [(one.node_id, one.use) for one in found]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock, store, node = FakeClock(NOW), await SQLiteDatastore.open(None), replace(a_node(), attested_at=NOW - 9 * DAY)
    entries = [
        an_entry(entry_id="web"),
        an_entry("/theirs", entry_id="theirs", parent="/cognomen/node/join_token/n2"),
        an_entry("/grouped", entry_id="grouped", parent="/group"),
        an_entry("/group", entry_id="g", parent="/cognomen/issuer", of="join_token:label:team:travel"),
        replace(an_entry("/over", entry_id="over"), expires_at=NOW),
    ]
    await store.write(lambda tx: tx.nodes.put(node))
    await store.write(lambda tx: tx.entries.insert(entries))
    deferred = DeferredWrites(datastore=store, around=around(clock))
    sightings = NodeSightings(deferred=deferred, around=around(clock))
    sightings.note(node.id, "")
    record = RecordUses(
        datastore=store, budgets=Budgets(REPORTS, clock), sightings=sightings, around=around(clock), kept=DAY
    )
    yield House(clock, store, record, node)
    await store.close()


async def test_uses_of_what_the_node_has_are_noted(house: House) -> None:
    await house.record(house.node, [a_use(), a_use(entry_id=EntryID("grouped"))])
    assert await house.noted() == [("n1", a_use()), ("n1", a_use(entry_id=EntryID("grouped")))]


async def test_what_the_node_never_had_is_ignored_and_logged_once_a_minute(house: House) -> None:
    lies = [a_use(entry_id=EntryID(name)) for name in ("theirs", "none", "over", "g")]
    with capture_logs() as lines:
        for _ in range(3):
            await house.record(house.node, [*lies, a_use()])
    assert await house.noted() == [("n1", a_use())]
    assert [(line["event"], line["rows"]) for line in lines] == [("uses ignored", 4)]


async def test_entries_that_are_gone_count_if_the_ledger_says_that_the_node_had_them(house: House) -> None:
    await house.store.write(
        lambda tx: tx.ledger.record([row("a1", entry="gone"), row("a2", entry="over"), row("a3", entry="x", node="n2")])
    )
    uses = [a_use(entry_id=EntryID(name)) for name in ("gone", "over", "x")]
    await house.record(house.node, uses)
    assert await house.noted() == [("n1", uses[0]), ("n1", uses[1])]


async def test_no_use_is_lost_when_very_many_entries_are_deleted_at_once(house: House) -> None:
    gone = [f"gone{number}" for number in range(1000)]
    await house.store.write(lambda tx: tx.ledger.record([row(f"a{name}", entry=name) for name in gone]))
    with capture_logs() as lines:
        await house.record(house.node, [a_use(entry_id=EntryID(name)) for name in gone])
    found = await house.store.read(lambda tx: tx.uses.find(UseFilter(), after=0, limit=2000))
    assert len(found) == len(gone)
    assert lines == []


async def test_a_node_that_lost_an_entry_cannot_make_it_look_used(house: House) -> None:
    await house.store.write(lambda tx: tx.ledger.record([row("a1", entry="theirs", not_after=NOW - DAY / 2)]))
    theirs, own = a_use(entry_id=EntryID("theirs"), first_at=NOW, last_at=NOW), a_use(first_at=NOW, last_at=NOW)
    await house.record(house.node, [theirs, own])
    last = await house.store.read(lambda tx: tx.uses.last([theirs.entry_id, own.entry_id]))
    assert last == {theirs.entry_id: NOW - DAY / 2, own.entry_id: NOW}


async def test_times_of_a_clock_that_is_off_are_brought_into_what_is_possible(house: House) -> None:
    use = a_use(first_at=NOW - 3 * DAY, last_at=NOW + 3 * DAY)
    await house.record(house.node, [use])
    assert await house.noted() == [("n1", replace(use, first_at=NOW - DAY, last_at=NOW))]


async def test_a_use_is_not_older_than_its_entry_and_its_node(house: House) -> None:
    record = replace(house.record, kept=90 * DAY)
    young = replace(an_entry("/young", entry_id="young"), created_at=NOW - 2 * DAY)
    await house.store.write(lambda tx: tx.entries.insert([young]))
    await house.store.write(lambda tx: tx.ledger.record([row("a1", entry="gone")]))
    begins = {"young": NOW - 2 * DAY, "web": NOW - 9 * DAY, "gone": NOW - 9 * DAY}
    uses = [a_use(entry_id=EntryID(name), first_at=NOW - 3000 * DAY, last_at=NOW) for name in begins]
    await record(house.node, uses)
    assert {use.entry_id: use.first_at for _, use in await house.noted()} == begins


async def test_a_node_that_reports_too_much_is_refused_until_time_has_passed(house: House) -> None:
    for _ in range(20):
        house.record.charge(house.node, 900)
    with pytest.raises(Refused, match="at most 200 a second are taken from one node") as refused:
        house.record.charge(house.node, 900)
    assert refused.value.kind is Kind.EXHAUSTED
    house.record.charge(a_node("n2"), 900)
    house.clock.advance(5)
    house.record.charge(house.node, 900)


async def test_reports_without_rows_are_charged_as_well(house: House) -> None:
    for _ in range(200):
        house.record.charge(house.node, 0)
    with pytest.raises(Refused, match="at most 200 a second"):
        house.record.charge(house.node, 0)


async def test_rows_are_counted_before_an_object_is_made_of_any(house: House) -> None:
    with pytest.raises(Refused, match="uses: expected at most 1000, found 1001") as refused:
        house.record.charge(house.node, 1001)
    assert refused.value.kind is Kind.INVALID


async def test_a_banned_node_is_refused(house: House) -> None:
    await house.store.write(lambda tx: tx.nodes.put(replace(house.node, state=NodeState.BANNED)))
    with pytest.raises(Refused, match="banned or gone"):
        await house.record(house.node, [a_use()])
    assert await house.noted() == []


def reported(house: House) -> Reported | None:
    return house.record.sightings.seen(house.node).reported


async def test_the_time_of_which_every_use_was_reported_is_noted_by_the_issuers_clock(house: House) -> None:
    house.record.tell(house.node, None)
    assert reported(house) is None
    house.clock.advance(3600)
    house.record.tell(house.node, ReportedUses(since=timedelta(minutes=9), until=timedelta(seconds=9)))
    now = house.clock.now()
    assert reported(house) == Reported(since=now - timedelta(minutes=9), until=now - timedelta(seconds=9))


async def test_a_last_report_counts_once_it_is_stored(house: House) -> None:
    house.clock.advance(3600)
    store = RefusingStore(house.store)
    record, last = replace(house.record, datastore=store), ReportedUses(since=timedelta(minutes=9), until=timedelta())
    store.is_full = True
    with pytest.raises(Refused, match="full"):
        await record(house.node, [a_use()], last=last)
    assert reported(house) is None
    store.is_full = False
    await record(house.node, [a_use()], last=last)
    assert reported(house) == Reported(since=house.clock.now() - timedelta(minutes=9), until=None)


async def test_what_was_only_observed_is_noted_apart(house: House) -> None:
    observed = a_use(is_observed=True, times=3)
    gone = replace(observed, entry_id=EntryID("gone"))  # it may have been deleted since: nobody is to be warned
    with capture_logs() as lines:
        await house.record(house.node, [observed, gone])
    assert await house.noted() == []
    found, more = await house.store.read(
        lambda tx: tx.observations.programs(EntryID("web"), since=NOW - 99 * DAY, limit=9)
    )
    assert ([(one.uid, one.times) for one in found], more, lines) == ([(observed.uid, 3)], 0, [])
