"""A page is limited by its size: whatever is stored, it fits into a message, and no call reads very much."""

import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime

import pytest

from cognomen.protocol.auditlog import AuditRow
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.selector import Selector
from issuer.datastore.port import Datastore
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.audit import AuditEvent
from issuer.decisions.filters import AuditFilter, EntryFilter
from issuer.queries import Queries
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, an_entry

MIB = 1 << 20
LARGE = frozenset(Selector("unix", f"path:/{number:03}".ljust(4000, "x")) for number in range(100))


def large(number: int) -> RegistrationEntry:
    """The largest entry that may be stored: 0.4 MB."""
    return replace(an_entry(f"/large/{number:03}", entry_id=f"e{number:03}"), selectors=LARGE)


def created(entry: RegistrationEntry, *, at: datetime = NOW) -> AuditEvent:
    return AuditEvent(at=at, actor="uid:0", action="entry created", subject=str(entry.spiffe_id), after=entry)


@pytest.fixture
async def store() -> AsyncIterator[Datastore]:
    opened = await SQLiteDatastore.open(None)
    yield opened
    await opened.close()


@pytest.fixture
def queries(store: Datastore) -> Queries:
    return Queries(store, TRUST_DOMAIN)


async def pages(queries: Queries, where: AuditFilter) -> list[list[AuditRow]]:
    """Every page, as a client reads them."""
    found: list[list[AuditRow]] = []
    after = 0
    while True:
        rows, after = await queries.list_audit(where, after=after, limit=1000)
        found.append(list(rows))
        if not after:
            return found


@pytest.mark.parametrize("where", [AuditFilter(), AuditFilter(actor="uid:0")])
async def test_pages_of_large_rows_are_short_and_together_they_are_the_record(
    store: Datastore, queries: Queries, where: AuditFilter
) -> None:
    await store.write(lambda tx: tx.audit.append([created(large(number)) for number in range(40)]))
    read = await pages(queries, where)
    assert [row.number for page in read for row in page] == list(range(1, 41))
    assert max(sum(len(row.body) for row in page) for page in read) < 5 * MIB


async def test_pages_of_an_entry_with_many_large_changes_are_short(store: Datastore, queries: Queries) -> None:
    await store.write(lambda tx: tx.audit.append([created(large(0)), *(created(large(1)) for _ in range(30))]))
    read = await pages(queries, AuditFilter(entry_id=EntryID("e001")))
    assert [row.number for page in read for row in page] == list(range(2, 32))
    assert max(sum(len(row.body) for row in page) for page in read) < 5 * MIB


async def test_the_newest_rows_are_fewer_when_they_are_large(store: Datastore, queries: Queries) -> None:
    await store.write(lambda tx: tx.audit.append([created(large(number)) for number in range(30)]))
    read = await queries.newest_audit(limit=1000)
    assert [row.number for row in read] == list(range(31 - len(read), 31))
    assert 4 * MIB <= sum(len(row.body) for row in read) < 5 * MIB
    assert [row.number for row in await queries.newest_audit(limit=2)] == [29, 30]


async def test_a_call_that_finds_nothing_among_large_rows_ends_early_and_holds_none_of_them(
    store: Datastore, queries: Queries
) -> None:
    await store.write(lambda tx: tx.audit.append([created(large(number)) for number in range(100)]))
    tracemalloc.start()
    try:
        rows, after = await queries.list_audit(AuditFilter(actor="nobody"), after=0, limit=1)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert rows == []
    assert 80 <= after < 90  # 32 MiB
    assert most < 8 * MIB
    assert await queries.list_audit(AuditFilter(actor="nobody"), after=after, limit=1) == ([], 0)


async def test_a_call_that_finds_nothing_among_many_rows_says_where_to_go_on(
    store: Datastore, queries: Queries
) -> None:
    looked = AuditEvent(at=NOW, actor="uid:0", action="looked")
    await store.write(lambda tx: tx.audit.append([*[looked] * 10_005, replace(looked, actor="uid:7")]))
    assert await queries.list_audit(AuditFilter(actor="uid:7"), after=0, limit=1) == ([], 10_000)
    rows, after = await queries.list_audit(AuditFilter(actor="uid:7"), after=10_000, limit=9)
    assert ([row.number for row in rows], after) == ([10_006], 0)


async def test_pages_of_large_entries_are_short_and_together_they_are_all(store: Datastore, queries: Queries) -> None:
    await store.write(lambda tx: tx.entries.insert([large(number) for number in range(40)]))
    read: list[list[RegistrationEntry]] = []
    after = ""
    while not read or after:
        page, after = await queries.list_entries(EntryFilter(), after=after, limit=10_000)
        read.append(list(page))
    assert [entry.id for page in read for entry in page] == [f"e{number:03}" for number in range(40)]
    assert max(map(len, read)) <= 12
