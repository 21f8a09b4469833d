"""What every datastore promises of the uses that nodes report; SQLite passes it in memory and on a file."""

from dataclasses import replace
from datetime import timedelta

import pytest

from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.filters import EntryFilter, LedgerFilter
from issuer.decisions.ledger import CredentialKind
from issuer.decisions.revocation import Live
from issuer.decisions.uses import NotedUse, UseFilter
from tests.contract.test_revocations_contract import said
from tests.contract.test_supersessions_contract import row
from tests.doubles.issuer_values import NOW, an_entry
from tests.doubles.uses import a_use

HOUR = timedelta(hours=1)
N1, N2, WEB, DB = NodeID("n1"), NodeID("n2"), EntryID("web"), EntryID("db")
USE = a_use(first_at=NOW, last_at=NOW)
MANY = 1_000_000
PLACES = ("entry_id", "uid", "gid", "pid", "started", "executable")


async def found(store: Datastore, **fields: object) -> list[NotedUse]:
    where = UseFilter(**fields)  # type: ignore[arg-type]  # the tests' own keyword arguments
    return [*await store.read(lambda tx: tx.uses.find(where, after=0, limit=100))]


async def test_a_use_is_read_as_it_was_noted(store: Datastore) -> None:
    await store.write(lambda tx: tx.uses.note(N1, [USE], most=10, most_bytes=MANY))
    assert await found(store) == [NotedUse(number=1, node_id=N1, use=USE)]


async def test_reports_of_one_process_become_one_row_that_only_grows(store: Datastore) -> None:
    later = replace(USE, first_at=NOW + HOUR, last_at=NOW + 2 * HOUR, x509=False, jwt=True, processes=3)
    earlier = replace(USE, first_at=NOW - HOUR)
    for use in (later, USE, earlier):
        await store.write(lambda tx, use=use: tx.uses.note(N1, [use], most=10, most_bytes=MANY))  # type: ignore[misc]  # bound at once
    (one,) = await found(store)
    assert one.use == replace(later, first_at=NOW - HOUR, x509=True)


@pytest.mark.parametrize("place", PLACES)
async def test_whatever_differs_in_this_is_another_row(store: Datastore, place: str) -> None:
    before = getattr(USE, place)
    other = replace(USE, **{place: f"{before}x" if isinstance(before, str) else before + 1})  # type: ignore[arg-type]
    await store.write(lambda tx: tx.uses.note(N1, [USE, other], most=10, most_bytes=MANY))
    await store.write(lambda tx: tx.uses.note(N2, [USE], most=10, most_bytes=MANY))
    assert {(one.node_id, one.use) for one in await found(store)} == {(N1, USE), (N1, other), (N2, USE)}


async def test_filters_name_entries_nodes_and_a_time(store: Datastore) -> None:
    late = replace(USE, entry_id=DB, first_at=NOW + HOUR, last_at=NOW + 2 * HOUR)
    await store.write(lambda tx: tx.uses.note(N1, [USE, late], most=10, most_bytes=MANY))
    await store.write(lambda tx: tx.uses.note(N2, [USE], most=10, most_bytes=MANY))
    for fields, expected in (
        ({"entry_ids": frozenset({DB})}, [(N1, late)]),
        ({"node_id": N2}, [(N2, USE)]),
        ({"since": NOW}, [(N1, USE), (N1, late), (N2, USE)]),
        ({"since": NOW + HOUR / 2}, [(N1, late)]),
        ({"until": NOW + HOUR / 2}, [(N1, USE), (N2, USE)]),
        ({"until": NOW + HOUR}, [(N1, USE), (N1, late), (N2, USE)]),
    ):
        assert [(one.node_id, one.use) for one in await found(store, **fields)] == expected


async def test_pages_follow_the_numbers(store: Datastore) -> None:
    await store.write(
        lambda tx: tx.uses.note(N1, [replace(USE, pid=pid) for pid in range(5)], most=10, most_bytes=MANY)
    )
    first = await store.read(lambda tx: tx.uses.find(UseFilter(), after=0, limit=2))
    rest = await store.read(lambda tx: tx.uses.find(UseFilter(), after=first[-1].number, limit=10))
    assert [one.use.pid for one in (*first, *rest)] == [0, 1, 2, 3, 4]


async def test_of_one_node_the_rows_that_were_used_last_are_kept(store: Datastore) -> None:
    await store.write(lambda tx: tx.uses.note(N2, [USE], most=3, most_bytes=MANY))
    rows = [replace(USE, pid=pid, last_at=NOW + pid * HOUR) for pid in (3, 1, 4, 2, 5)]
    await store.write(lambda tx: tx.uses.note(N1, rows, most=3, most_bytes=MANY))
    assert {one.use.pid for one in await found(store, node_id=N1)} == {3, 4, 5}
    assert len(await found(store, node_id=N2)) == 1


async def test_an_account_that_used_much_lately_leaves_the_others_their_rows(store: Datastore) -> None:
    quiet = [replace(USE, account=1, uid=1, pid=pid) for pid in range(3)]
    await store.write(lambda tx: tx.uses.note(N1, quiet, most=6, most_bytes=MANY))
    greedy = [replace(USE, account=2, uid=uid, last_at=NOW + uid * HOUR) for uid in range(2, 22)]
    await store.write(lambda tx: tx.uses.note(N1, greedy, most=6, most_bytes=MANY))
    kept = [one.use for one in await found(store)]
    assert [use for use in kept if use.account == 1] == quiet
    assert [use.uid for use in kept if use.account == 2] == [19, 20, 21]


async def test_long_paths_take_the_room_of_many_rows(store: Datastore) -> None:
    rows = [replace(USE, pid=pid, last_at=NOW + pid * HOUR) for pid in range(100)]
    long = [replace(use, pid=use.pid + 1000, executable=f"/{use.pid:02}" + "x" * 509) for use in rows]
    await store.write(lambda tx: tx.uses.note(N1, rows, most=1000, most_bytes=20_000))
    short = {one.use.pid for one in await found(store)}
    assert len(short) > 60
    assert short == set(range(100 - len(short), 100))
    await store.write(lambda tx: tx.uses.note(N2, long, most=1000, most_bytes=20_000))
    assert len(short) > 2 * len(await found(store, node_id=N2)) > 0


async def test_an_account_with_long_paths_leaves_the_others_as_many_bytes(store: Datastore) -> None:
    plain = [replace(USE, account=1, uid=1, pid=pid) for pid in range(30)]
    greedy = [
        replace(USE, account=2, uid=2, pid=pid, last_at=NOW + HOUR, executable=f"/{pid}" + "x" * 400)
        for pid in range(99)
    ]
    await store.write(lambda tx: tx.uses.note(N1, [*greedy, *plain], most=1000, most_bytes=20_000))
    kept = [one.use for one in await found(store)]
    assert [use for use in kept if use.account == 1] == plain
    assert 10 < len([use for use in kept if use.account == 2]) < 30


async def test_an_entry_knows_when_it_was_last_used_also_when_the_row_had_to_go(store: Datastore) -> None:
    rows = [replace(USE, last_at=NOW + HOUR), replace(USE, pid=1), replace(USE, entry_id=DB, last_at=NOW + 2 * HOUR)]
    await store.write(lambda tx: tx.uses.note(N1, rows, most=1, most_bytes=MANY))
    assert await store.read(lambda tx: tx.uses.last([WEB, DB, EntryID("none")])) == {
        WEB: NOW + HOUR,
        DB: NOW + 2 * HOUR,
    }


async def test_what_was_used_last_before_a_moment_is_forgotten(store: Datastore) -> None:
    rows = [USE, replace(USE, entry_id=DB, last_at=NOW + HOUR)]
    await store.write(lambda tx: tx.uses.note(N1, rows, most=10, most_bytes=MANY))
    await store.write(lambda tx: tx.uses.prune(last_before=NOW + HOUR))
    assert [one.use.entry_id for one in await found(store)] == [DB]
    assert await store.read(lambda tx: tx.uses.last([WEB, DB])) == {DB: NOW + HOUR}


async def test_a_node_had_the_entries_that_it_got_svids_for(store: Datastore) -> None:
    await store.write(lambda tx: tx.ledger.record([row("a1", entry="web"), row("a2", entry="db", node="n2")]))
    await store.write(lambda tx: tx.uses.note(N1, [replace(USE, entry_id=EntryID("told"))], most=10, most_bytes=MANY))
    asked = [WEB, DB, EntryID("none"), EntryID("told")]
    assert await store.read(lambda tx: tx.uses.held(N1, asked)) == {WEB: NOW + HOUR}
    assert await store.read(lambda tx: tx.uses.held(N2, asked)) == {DB: NOW + HOUR}
    assert await store.read(lambda tx: tx.uses.held(N1, [])) == {}


async def test_what_a_node_got_ends_with_the_last_of_it_and_with_its_revocation(store: Datastore) -> None:
    def end(tx: Transaction) -> object:
        return tx.uses.held(N1, [WEB]).get(WEB)

    def revoke(tx: Transaction) -> None:
        number = tx.revocations.add(said(at=NOW + 2 * HOUR))
        assert tx.denials.deny(Live(serials=("a4",)), revocation=number, now=NOW + 2 * HOUR) == (1, 0)

    token = row("a2", kind=CredentialKind.JWT, issued_at=NOW + HOUR / 2, not_after=NOW + HOUR / 2)
    await store.write(lambda tx: tx.ledger.record([row("a1"), token, row("a3", node="n2", not_after=NOW + 9 * HOUR)]))
    assert await store.read(end) == NOW + HOUR
    await store.write(lambda tx: tx.ledger.record([row("a4", not_after=NOW + 5 * HOUR)]))
    assert await store.read(end) == NOW + 5 * HOUR
    await store.write(revoke)
    assert await store.read(end) == NOW + 2 * HOUR


async def test_a_store_knows_since_when_uses_are_recorded(store: Datastore) -> None:
    since = await store.read(lambda tx: tx.uses.since())
    assert since > NOW  # the tests' time is in the past of the store's
    await store.write(lambda tx: tx.uses.begin_anew(NOW))
    assert await store.read(lambda tx: tx.uses.since()) == NOW


async def test_entries_that_nobody_used_are_found_and_new_ones_and_groups_are_not_among_them(store: Datastore) -> None:
    old, new, used = (replace(an_entry(f"/{name}", entry_id=name), created_at=NOW) for name in ("old", "new", "used"))
    new = replace(new, created_at=NOW + HOUR)
    undated = replace(an_entry("/undated", entry_id="undated", of="unix:uid:2"), created_at=None)
    group = replace(an_entry("/g", entry_id="g", parent="/cognomen/issuer"), created_at=NOW)
    await store.write(lambda tx: tx.entries.insert([old, new, used, undated, group]))
    await store.write(
        lambda tx: tx.uses.note(N1, [replace(USE, entry_id=used.id, last_at=NOW + HOUR)], most=10, most_bytes=MANY)
    )
    for since, expected in ((NOW + HOUR, {"old", "undated"}), (NOW + 2 * HOUR, {"old", "undated", "new", "used"})):
        where = EntryFilter(unused_since=since, not_below=group.parent_id)
        entries = await store.read(lambda tx, where=where: tx.entries.find(where, after="", limit=10))  # type: ignore[misc]  # bound at once
        assert {entry.id for entry in entries} == expected


async def test_credentials_are_found_by_what_is_above_them_by_owner_and_by_a_time(store: Datastore) -> None:
    below = an_entry("/web/inner").spiffe_id
    rows = [
        row("a1"),
        row("a2", entry="inner", spiffe_id=below, issued_at=NOW + HOUR, not_after=NOW + 2 * HOUR),
        row("a3", entry="other", spiffe_id=an_entry("/webs").spiffe_id),
        row("a4", kind=CredentialKind.NODE, entry_id=None, spiffe_id=an_entry("/cognomen/node/a/b").spiffe_id),
    ]
    entries = [
        replace(an_entry(entry_id="web"), owner="ann"),
        replace(an_entry("/web/inner", entry_id="inner"), owner="bob"),
        an_entry("/webs", entry_id="other"),
    ]
    await store.write(lambda tx: tx.entries.insert(entries))
    await store.write(lambda tx: tx.ledger.record(rows))
    web = an_entry().spiffe_id
    for where, expected in (
        (LedgerFilter(spiffe_id=web), ["a1"]),
        (LedgerFilter(spiffe_id=web, below=True), ["a2", "a1"]),
        (LedgerFilter(owner="ann"), ["a1"]),
        (LedgerFilter(owner=""), ["a3"]),
        (LedgerFilter(spiffe_id=web, below=True, owner="bob"), ["a2"]),
        (LedgerFilter(spiffe_id=web, below=True, held_since=NOW + HOUR), ["a2"]),
        (LedgerFilter(spiffe_id=web, below=True, held_until=NOW + HOUR), ["a1"]),
        (LedgerFilter(spiffe_id=web, below=True, held_since=NOW, held_until=NOW + 2 * HOUR), ["a2", "a1"]),
        (LedgerFilter(spiffe_id=web, below=True, held_at=NOW), ["a1"]),
    ):
        page = await store.read(lambda tx, where=where: tx.ledger.find(where, before=0, limit=10))  # type: ignore[misc]  # bound at once
        assert [one.serial for one in page] == expected
