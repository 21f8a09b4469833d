import asyncio
import contextlib
import sqlite3
import stat
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cognomen.protocol.auditlog import broken_link
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from issuer.datastore.ledgerport import Use
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.filters import EntryFilter, LedgerFilter
from issuer.decisions.ledger import Credential, CredentialKind
from issuer.decisions.revocation import Live
from svid.keys import KeyID
from svid.spiffeid import SpiffeID
from tests.doubles.issuer_values import NOW, a_node, an_entry
from tests.doubles.project import ROOT

STORE_0002 = ROOT / "tests" / "contract" / "stores" / "0002.sql"
"""A store of schema 0002 as the release that had it wrote it (its dump): an entry, a node, two rows of the ledger, one of the audit."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "issuer.db"


@contextlib.asynccontextmanager
async def opened(path: Path | None, *, max_pages: int | None = None) -> AsyncIterator[SQLiteDatastore]:
    store = await SQLiteDatastore.open(path, max_pages=max_pages)
    try:
        yield store
    finally:
        await store.close()


@contextlib.contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


credential = Credential(
    kind=CredentialKind.JWT,
    serial="s1",
    spiffe_id=SpiffeID.parse("spiffe://example.org/web"),
    authority_id=KeyID("k"),
    issued_at=NOW,
    not_after=NOW,
)


def place(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put a file there, in a directory that is ours alone."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.symlink_to(target)


def damage(path: Path) -> None:
    data = path.read_bytes()
    place(path, data[: 8 * 4096] + bytes(len(data) - 8 * 4096))


def event(number: int) -> AuditEvent:
    return AuditEvent(at=NOW + timedelta(seconds=number), actor="uid:0", action="x" * 200)


async def test_the_file_and_its_companions_are_ours_alone(path: Path) -> None:
    async with opened(path) as store:
        await store.write(lambda tx: tx.nodes.put(a_node()))
        modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    assert modes == {"issuer.db": 0o600, "issuer.db-wal": 0o600, "issuer.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_file_that_others_can_read_is_refused(path: Path) -> None:
    place(path, b"", mode=0o644)
    with pytest.raises(Refused, match=r"mode 0600, found uid \d+, mode 0644") as refused:
        await SQLiteDatastore.open(path)
    assert refused.value.kind is Kind.INVALID


async def test_a_directory_that_others_can_read_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o755)
    with pytest.raises(Refused, match="mode 0755"):
        await SQLiteDatastore.open(path)


async def test_a_link_in_the_files_place_is_refused(path: Path, tmp_path: Path) -> None:
    place(tmp_path / "private" / "elsewhere", b"")
    link(path, tmp_path / "private" / "elsewhere")
    with pytest.raises(Refused) as refused:
        await SQLiteDatastore.open(path)
    assert refused.value.kind is Kind.UNAVAILABLE


async def test_a_file_that_is_no_store_is_refused(path: Path) -> None:
    place(path, b"no store, " * 1000)
    with pytest.raises(Refused, match="not an SQLite file") as refused:
        await SQLiteDatastore.open(path)
    assert refused.value.hint


async def test_a_file_of_a_later_release_is_refused(path: Path) -> None:
    async with opened(path):
        pass
    with raw(path) as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('issuer', '9999', 'later')"
        )
    with pytest.raises(Refused, match="later one \\(9999\\)") as refused:
        await SQLiteDatastore.open(path)
    assert refused.value.kind is Kind.CONFLICT


async def test_a_file_of_the_release_before_revocation_keeps_its_rows_and_has_none_revoked(path: Path) -> None:
    place(path, b"")
    with raw(path) as connection:
        connection.executescript(STORE_0002.read_text())
    async with opened(path) as store:
        rows = await store.read(lambda tx: tx.ledger.find(LedgerFilter(is_revoked=False), before=0, limit=9))
        assert [(row.serial[-1], row.key_hash, row.not_after - NOW) for row in rows] == [
            ("1", "k1", timedelta(hours=1)),
            ("0", "k0", timedelta()),
        ]
        assert list(await store.read(lambda tx: tx.entries.get([EntryID("e1")]))) == ["e1"]
        assert await store.read(lambda tx: (tx.revocations.standing(), list(tx.denials.all()))) == ([], [])
        falling = await store.read(lambda tx: tx.denials.falling(Live(), now=NOW))
        assert [(one.node_id, one.count) for one in falling.groups] == [("n1", 1)]
        assert broken_link(await store.read(lambda tx: tx.audit.rows(after=0, limit=9))) is None
    async with opened(path) as store:
        assert (await store.read(lambda tx: tx.changes.head())).number == 1


async def test_what_is_over_is_not_read_again_and_an_authority_does_not_hold_that_up(path: Path) -> None:
    def row(number: int, kind: CredentialKind, hours: int) -> Credential:
        return replace(credential, serial=f"s{number}", kind=kind, not_after=NOW + timedelta(hours=hours))

    rows = [row(1, CredentialKind.AUTHORITY, 99), row(2, CredentialKind.JWT, 1), row(3, CredentialKind.X509, 3)]
    now = NOW + timedelta(hours=2)
    async with opened(path) as store:
        await store.write(lambda tx: tx.ledger.record(rows))
        await store.write(lambda tx: tx.denials.prune(ended_before=now, now=now))
        with raw(path) as connection:
            assert connection.execute("SELECT live_from FROM meta").fetchone() == (3,)
        falling = await store.read(lambda tx: tx.denials.falling(Live(), now=now))
        assert [one.kind for one in falling.groups] == [CredentialKind.X509]


async def test_what_lives_for_a_day_has_nobody_read_what_was_signed_since(path: Path) -> None:
    def row(number: int, kind: CredentialKind, hours: int) -> Credential:
        end = NOW + timedelta(hours=hours)
        return replace(credential, serial=f"s{number}", kind=kind, node_id=NodeID("n1"), not_after=end)

    authority, node = row(1, CredentialKind.AUTHORITY, 99), row(2, CredentialKind.NODE, 24)
    over, live = row(3, CredentialKind.X509, 1), row(4, CredentialKind.X509, 2)
    now = NOW + timedelta(hours=1, minutes=3)
    async with opened(path) as store:
        await store.write(lambda tx: tx.ledger.record([authority, node, over, live]))
        await store.write(lambda tx: tx.denials.prune(ended_before=now, now=now))
        with raw(path) as connection:
            assert connection.execute("SELECT live_from, short_from FROM meta").fetchone() == (2, 4)
        everybody = Live(kinds=frozenset({CredentialKind.X509, CredentialKind.NODE}))
        for where in (everybody, replace(everybody, node_ids=[NodeID("n1")])):
            found = await store.read(lambda tx, where=where: tx.denials.falling(where, now=now))  # type: ignore[misc]  # bound at once
            assert {one.kind for one in found.groups} == {CredentialKind.X509, CredentialKind.NODE}
            assert found.count == 2
        uses = await store.read(lambda tx: tx.ledger.uses(tainted=[credential.authority_id], now=now))
        assert uses == {credential.authority_id: Use(live=2, unreplaced=2)}
        for limit, serials in ((9, ["s4", "s2", "s1"]), (2, ["s4", "s2"])):
            held = LedgerFilter(held_at=now, is_revoked=False)
            page = await store.read(lambda tx, held=held, limit=limit: tx.ledger.find(held, before=0, limit=limit))  # type: ignore[misc]  # bound at once
            assert [one.serial for one in page] == serials


async def test_what_ended_too_long_ago_to_be_denied_is_not_read_again(path: Path) -> None:
    def row(number: int, kind: CredentialKind, hours: int) -> Credential:
        return replace(credential, serial=f"s{number}", kind=kind, not_after=NOW + timedelta(hours=hours))

    rows = [
        row(1, CredentialKind.X509, 1),
        row(2, CredentialKind.AUTHORITY, 99),
        row(3, CredentialKind.X509, 2),
        row(4, CredentialKind.JWT, 27),
    ]
    async with opened(path) as store:
        await store.write(lambda tx: tx.ledger.record(rows))
        for hours, first in ((0, 1), (24, 1), (25, 3), (26, 4), (27, 5), (26, 4)):
            now = NOW + timedelta(hours=hours, minutes=10)
            await store.write(lambda tx, now=now: tx.denials.prune(ended_before=now, now=now))  # type: ignore[misc]  # bound at once
            with raw(path) as connection:
                assert connection.execute("SELECT open_from FROM meta").fetchone() == (first,)


async def test_the_tables_are_strict_and_the_log_is_written_ahead_and_synced(path: Path) -> None:
    async with opened(path):
        with raw(path) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            strict = dict(connection.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main'"))
    ours = {name for name in strict if not name.startswith(("sqlite_", "_sqlite"))}
    assert ours == {
        "audit", "authority", "bundle_export", "change", "checkpoint", "credential", "crl", "denial", "entry", "entry_change",
        "entry_last_use", "entry_selector", "entry_spiffe_id", "entry_use", "excused_agent", "held_agent", "issuance_limit", "meta",
        "node", "observed_entry", "observed_use", "retired_agent", "revocation", "rulebook", "supersession", "token",
    }  # fmt: skip
    assert all(strict[name] for name in ours)


async def test_a_full_store_refuses_keeps_what_it_had_and_goes_on_when_there_is_space(path: Path) -> None:
    async with opened(path, max_pages=100) as store:  # the empty tables take some 75
        kept = 0
        with pytest.raises(Refused) as refused:  # noqa: PT012 - it must refuse sometime
            while True:
                number = kept
                await store.write(lambda tx: tx.audit.append([event(number), event(number)]))  # noqa: B023 - awaited at once
                kept += 2
        assert (refused.value.kind, refused.value.detail) == (Kind.UNAVAILABLE, "datastore: full")
        assert "space" in refused.value.hint
        rows = await store.read(lambda tx: tx.audit.rows(after=0, limit=10_000))
        assert len(rows) == kept
        assert broken_link(rows) is None
        with raw(path) as connection:
            connection.execute("DELETE FROM audit WHERE number > 10")
        await store.write(lambda tx: tx.audit.append([event(11)]))
        rows = await store.read(lambda tx: tx.audit.rows(after=0, limit=10_000))
        assert (len(rows), broken_link(rows)) == (11, None)


async def test_a_full_store_still_takes_the_small_works_that_were_queued_with_a_large_one(path: Path) -> None:
    async with opened(path, max_pages=80) as store:
        large = store.write(lambda tx: tx.audit.append([event(i) for i in range(5000)]))
        small = [store.write(lambda tx: tx.changes.append([Change(kind=ChangeKind.BUNDLE)])) for _ in range(5)]
        outcomes = await asyncio.gather(small[0], large, *small[1:], return_exceptions=True)
        assert isinstance(outcomes[1], Refused)
        assert [outcome for outcome in outcomes if not isinstance(outcome, Refused)] == [1, 2, 3, 4, 5]
        assert await store.read(lambda tx: tx.audit.rows(after=0, limit=1)) == []


async def test_a_commit_that_fails_fails_all_its_works(path: Path) -> None:
    async with opened(path) as store:
        with raw(path) as connection:  # a promise that SQLite checks at COMMIT only, and that node n1 breaks
            connection.execute(
                "CREATE TABLE broken (parent TEXT REFERENCES node (id) DEFERRABLE INITIALLY DEFERRED) STRICT"
            )
            connection.execute(
                "CREATE TRIGGER breaks AFTER INSERT ON node WHEN NEW.id = 'n1'"
                " BEGIN INSERT INTO broken VALUES ('nobody'); END"
            )
        outcomes = await asyncio.gather(
            store.write(lambda tx: tx.nodes.put(a_node("n1"))),
            store.write(lambda tx: tx.nodes.put(a_node("n2"))),
            return_exceptions=True,
        )
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        assert Kind.UNAVAILABLE in {refusal.kind for refusal in refusals}
        kept = await store.read(lambda tx: tx.nodes.find(after="", limit=9))
        assert len(kept) == 2 - len(refusals)
        assert "n1" not in {node.id for node in kept}
        await store.write(lambda tx: tx.nodes.put(a_node("n2")))


async def test_a_store_that_another_process_holds_is_refused_then_usable(path: Path) -> None:
    async with opened(path) as store:
        with raw(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            with pytest.raises(Refused, match="locked by another process") as refused:
                await store.write(lambda tx: tx.nodes.put(a_node()))
            assert refused.value.kind is Kind.UNAVAILABLE
            assert await store.read(lambda tx: tx.nodes.get(NodeID("n1"))) is None
            connection.execute("ROLLBACK")
        await store.write(lambda tx: tx.nodes.put(a_node()))


async def test_a_damaged_store_says_so(path: Path) -> None:
    async with opened(path) as store:
        await store.write(lambda tx: tx.entries.insert([an_entry(f"/w/{i}", entry_id=f"e{i}") for i in range(2000)]))
    damage(path)
    with pytest.raises(Refused) as refused:
        async with opened(path) as store:
            await store.read(lambda tx: tx.entries.find(EntryFilter(), after="", limit=5000))
    assert (refused.value.kind, refused.value.detail) == (Kind.UNAVAILABLE, "datastore: damaged")


async def test_a_write_whose_caller_went_away_before_its_turn_is_not_done() -> None:
    async with opened(None) as store:
        going = asyncio.Event()
        loop = asyncio.get_running_loop()

        def slow(tx: Transaction) -> None:
            loop.call_soon_threadsafe(going.set)
            asyncio.run_coroutine_threadsafe(cancelled.wait(), loop).result()
            tx.changes.head()

        cancelled = asyncio.Event()
        first = asyncio.create_task(store.write(slow))
        await going.wait()
        second = asyncio.create_task(store.write(lambda tx: tx.nodes.put(a_node())))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        cancelled.set()
        await first
        assert await store.read(lambda tx: tx.nodes.get(NodeID("n1"))) is None


async def test_a_fault_of_ours_is_not_dressed_as_a_refusal() -> None:
    def same_serial_twice(tx: Transaction) -> None:
        tx.ledger.record([credential, credential])

    async with opened(None) as store:
        with pytest.raises(sqlite3.IntegrityError):
            await store.write(same_serial_twice)


async def test_a_commit_that_fails_in_a_way_that_nobody_expects_is_told_and_the_writer_goes_on(path: Path) -> None:
    async with opened(path) as store:
        with raw(path) as other:
            other.execute("CREATE TABLE kept AS SELECT * FROM meta")
            other.execute("DELETE FROM meta")  # as somebody may who mends a store by hand
            waiting = [store.write(lambda tx: tx.nodes.put(a_node())), store.write(lambda tx: tx.nodes.put(a_node()))]
            failures = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
            assert [type(one) for one in failures] == [TypeError, TypeError]
            other.execute("INSERT INTO meta SELECT * FROM kept")
        await asyncio.wait_for(store.write(lambda tx: tx.nodes.put(a_node())), 5)
