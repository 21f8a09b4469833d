"""What every datastore promises of entries that only observe; SQLite passes it in memory and on a file."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Datastore
from issuer.decisions.observing import ObservedEntry, ObservedProgram
from issuer.decisions.uses import UseFilter
from tests.doubles.issuer_values import NOW, an_entry
from tests.doubles.uses import a_use

HOUR = timedelta(hours=1)
N1, N2, WEB, DB = NodeID("n1"), NodeID("n2"), EntryID("web"), EntryID("db")
USE = a_use(first_at=NOW, last_at=NOW, is_observed=True, times=2)
PROGRAM = ObservedProgram(
    uid=USE.uid,
    executable=USE.executable,
    refused_audience="",
    pid=USE.pid,
    nodes=1,
    processes=1,
    times=2,
    first_at=NOW,
    last_at=NOW,
    x509=True,
    jwt=False,
)
MANY = 1_000_000


async def programs(store: Datastore, entry_id: EntryID = WEB, limit: int = 100) -> tuple[list[ObservedProgram], int]:
    found, more = await store.read(lambda tx: tx.observations.programs(entry_id, since=NOW, limit=limit))
    return list(found), more


async def note(store: Datastore, node: NodeID, *uses: object, most: int = 100, most_bytes: int = MANY) -> None:
    await store.write(lambda tx: tx.observations.note(node, uses, most=most, most_bytes=most_bytes))  # type: ignore[arg-type]  # uses


async def test_what_observes_is_found_in_the_order_of_ids_with_its_beginning(store: Datastore) -> None:
    entries = [an_entry("/a/web", entry_id="web"), an_entry("/a", entry_id="db"), an_entry("/ab", entry_id="x")]
    await store.write(lambda tx: tx.entries.insert(entries))
    await store.write(lambda tx: tx.observations.begin([WEB, DB, EntryID("x"), EntryID("gone")], NOW))
    found = await store.read(lambda tx: tx.observations.find(None, after="", limit=2))
    assert found == [
        ObservedEntry(entry_id=one.id, spiffe_id=one.spiffe_id, parent_id=one.parent_id, since=NOW)
        for one in (entries[1], entries[0])
    ]
    found = await store.read(lambda tx: tx.observations.find(None, after="web", limit=2))
    assert [one.entry_id for one in found] == ["x"]
    below = entries[1].spiffe_id
    found = await store.read(lambda tx: tx.observations.find(below, after="", limit=9))
    assert [one.entry_id for one in found] == ["db", "web"]


async def test_reports_of_one_process_are_one_row_and_its_times_add_up(store: Datastore) -> None:
    await note(store, N1, USE)
    await note(store, N1, replace(USE, last_at=NOW + HOUR, jwt=True, x509=False))
    assert await programs(store) == ([replace(PROGRAM, last_at=NOW + HOUR, jwt=True, times=4)], 0)


async def test_processes_of_one_uid_and_program_are_counted_and_refused_audiences_told_apart(store: Datastore) -> None:
    await note(store, N1, USE, replace(USE, pid=7), replace(USE, refused_audience="a", last_at=NOW + HOUR))
    await note(store, N2, USE)
    expected = [
        replace(PROGRAM, refused_audience="a", last_at=NOW + HOUR),
        replace(PROGRAM, pid=0, nodes=2, processes=3, times=6),
    ]
    assert await programs(store) == (expected, 0)
    assert await programs(store, limit=1) == (expected[:1], 1)
    assert await programs(store, DB) == ([], 0)


async def test_it_is_no_use(store: Datastore) -> None:
    await note(store, N1, USE)
    found = await store.read(lambda tx: (tx.uses.find(UseFilter(), after=0, limit=9), tx.uses.last([WEB])))
    assert found == ([], {})


@pytest.mark.parametrize("again", [True, False])
async def test_what_was_noted_is_forgotten_when_an_entry_begins_or_ceases(store: Datastore, *, again: bool) -> None:
    await store.write(lambda tx: tx.entries.insert([an_entry(entry_id="web")]))
    await store.write(lambda tx: tx.observations.begin([WEB], NOW - HOUR))
    await note(store, N1, USE, replace(USE, entry_id=DB))
    await store.write(lambda tx: tx.observations.begin([WEB], NOW) if again else tx.observations.end([WEB]))
    assert await programs(store) == ([], 0)
    assert len((await programs(store, DB))[0]) == 1
    found = await store.read(lambda tx: tx.observations.find(None, after="", limit=9))
    assert [one.since for one in found] == ([NOW] if again else [])


async def test_a_node_that_reports_very_much_keeps_its_last_rows(store: Datastore) -> None:
    reported = [replace(USE, pid=pid + 1, last_at=NOW + timedelta(seconds=pid)) for pid in range(12)]
    await note(store, N2, USE)
    await note(store, N1, *reported, most=10)
    (one,), _ = await programs(store)
    assert (one.processes, one.first_at) == (11, NOW)
    await note(store, N1, replace(USE, entry_id=DB, executable="x" * 500), most=10, most_bytes=700)
    (one,), _ = await programs(store)
    assert (one.processes, one.nodes, await programs(store, DB)) == (3, 2, ([], 0))


async def test_the_old_is_pruned_and_an_entry_that_observes_stays_one(store: Datastore) -> None:
    await store.write(lambda tx: tx.entries.insert([an_entry(entry_id="web")]))
    await store.write(lambda tx: tx.observations.begin([WEB], NOW))
    await note(store, N1, USE, replace(USE, pid=7, last_at=NOW + HOUR))
    await store.write(lambda tx: tx.observations.prune(last_before=NOW + HOUR))
    assert [one.pid for one in (await programs(store))[0]] == [7]
    assert len(await store.read(lambda tx: tx.observations.find(None, after="", limit=9))) == 1
