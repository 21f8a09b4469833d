"""What every datastore promises of its small tables, of its past, and of what it stands in. Transactions: test_datastore_contract."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from pathlib import Path

import pytest

from cognomen.protocol.auditlog import GENESIS
from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.exports import Export, ExportFormat
from issuer.decisions.ledger import Credential, CredentialKind
from issuer.decisions.restoration import Restored
from issuer.decisions.revocation import Live, Reason, Revocation, RevocationKind, Target
from issuer.decisions.uses import Reported
from svid.keys import KeyID
from svid.spiffeid import SpiffeID
from tests.contract.datastores import DATASTORES, Adapter
from tests.doubles.issuer_values import NOW, a_node, a_token, an_entry

BUNDLE = Change(kind=ChangeKind.BUNDLE)
HOUR = timedelta(hours=1)


async def test_nodes_are_counted_until_they_are_deleted(store: Datastore) -> None:
    def work(tx: Transaction) -> int:
        for name in ("n1", "n2"):
            tx.nodes.put(a_node(name))
        for name in ("n1", "n9"):
            tx.nodes.delete(NodeID(name))
        return tx.nodes.count()

    assert await store.write(work) == 1
    assert await store.read(lambda tx: tx.nodes.get(NodeID("n1"))) is None


async def test_a_node_is_found_by_its_name_and_no_other_has_it(store: Datastore) -> None:
    web = replace(a_node("n1"), name="web", address="10.0.0.1", seen_at=NOW, reported=Reported(since=NOW, until=None))
    nameless = [a_node("n2"), a_node("n3")]

    def work(tx: Transaction) -> None:
        for node in (web, *nameless):
            tx.nodes.put(node)

    await store.write(work)
    assert await store.read(lambda tx: tx.nodes.named("web")) == web
    assert await store.read(lambda tx: tx.nodes.find(after="", limit=9)) == [web, *nameless]
    assert await store.read(lambda tx: tx.nodes.named("WEB")) == web
    assert await store.read(lambda tx: tx.nodes.named("")) is None
    with pytest.raises(Exception, match=r"(?i)unique|exists"):  # a fault of ours: works/nodes gives names that are free
        await store.write(lambda tx: tx.nodes.put(replace(a_node("n2"), name="Web")))
    await store.write(lambda tx: tx.nodes.put(replace(web, name="db")))
    assert await store.read(lambda tx: tx.nodes.named("web")) is None


async def test_an_export_is_kept_under_its_name_until_it_is_deleted(store: Datastore) -> None:
    first = Export(
        name="openai",
        format=ExportFormat.JWKS,
        key_ids=frozenset({KeyID("jwt-1"), KeyID("jwt-2")}),
        digest="0" * 64,
        at=NOW,
        actor="uid:0",
        login="uid:1000",
    )
    second = replace(first, name="a", format=ExportFormat.DISCOVERY, key_ids=frozenset(), digest="", login="")
    later = replace(first, key_ids=frozenset({KeyID("jwt-3")}), at=NOW + HOUR, actor="uid:7", login="", digest="1" * 64)

    def work(tx: Transaction) -> None:
        for export in (first, second, later):
            tx.exports.put(export)

    await store.write(work)
    assert await store.read(lambda tx: tx.exports.list()) == [second, later]
    await store.write(lambda tx: tx.exports.delete("a"))
    await store.write(lambda tx: tx.exports.delete("not there"))
    assert await store.read(lambda tx: tx.exports.list()) == [later]


async def test_the_tokens_of_a_node_are_void_together_and_those_that_are_over_are_forgotten(store: Datastore) -> None:
    tokens = [
        replace(a_token(), hash=name, node_id=NodeID(node), expires_at=NOW + hours * HOUR)
        for name, node, hours in (("a", "n1", 1), ("b", "n1", 1), ("c", "n2", 1), ("d", "n2", 2))
    ]

    def left(tx: Transaction) -> list[str]:
        return [token.hash for token in tokens if tx.tokens.get(token.hash) is not None]

    def work(tx: Transaction) -> None:
        for token in tokens:
            tx.tokens.put(token)
        tx.tokens.void(NodeID("n1"))

    await store.write(work)
    assert await store.read(left) == ["c", "d"]
    await store.write(lambda tx: tx.tokens.prune(expired_before=NOW + HOUR))
    assert await store.read(left) == ["c", "d"]
    await store.write(lambda tx: tx.tokens.prune(expired_before=NOW + HOUR + timedelta(microseconds=1)))
    assert await store.read(left) == ["d"]


async def test_the_sequence_of_the_bundle_may_leap(store: Datastore) -> None:
    assert [
        await store.write(lambda tx: tx.bundles.advance(by=9)),
        await store.write(lambda tx: tx.bundles.advance()),
    ] == [9, 10]


async def test_the_mark_of_the_clock_is_the_last_that_was_noted_earlier_or_not(store: Datastore) -> None:
    assert await store.read(lambda tx: tx.times.high_water()) is None
    for moment in (NOW, NOW - HOUR):
        await store.write(lambda tx, moment=moment: tx.times.note(moment))  # type: ignore[misc]  # bound at once
        assert await store.read(lambda tx: tx.times.high_water()) == moment


async def test_numbers_of_changes_that_were_forgotten_never_come_again(store: Datastore) -> None:
    await store.write(lambda tx: tx.changes.append([BUNDLE] * 3))
    await store.write(lambda tx: tx.changes.prune(before=4))
    assert await store.read(lambda tx: tx.changes.after(0, limit=9)) == []
    assert (await store.read(lambda tx: tx.changes.head())).number == 3
    assert await store.write(lambda tx: tx.changes.append([BUNDLE])) == 4


async def test_a_store_that_begins_anew_is_another_incarnation_that_counts_on(store: Datastore) -> None:
    await store.write(lambda tx: tx.changes.append([BUNDLE]))
    before = await store.read(lambda tx: tx.changes.head())
    assert await store.read(lambda tx: tx.changes.restored()) is None
    restored = Restored(at=NOW, backup_of=NOW - HOUR)
    await store.write(lambda tx: tx.changes.begin_anew(restored))
    after = await store.read(lambda tx: tx.changes.head())
    assert (after.number, await store.read(lambda tx: tx.changes.restored())) == (before.number, restored)
    assert after.incarnation != before.incarnation


async def test_two_stores_have_two_incarnations(adapter: Adapter, tmp_path: Path) -> None:
    heads = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        store = await adapter.open(tmp_path / name)
        heads.append(await store.read(lambda tx: tx.changes.head()))
        await store.close()
    assert heads[0].incarnation != heads[1].incarnation


@pytest.mark.parametrize("adapter", [one for one in DATASTORES if one.is_kept], ids=lambda one: one.name)
async def test_everything_is_there_after_opening_again_and_the_incarnation_too(
    adapter: Adapter, tmp_path: Path
) -> None:
    store = await adapter.open(tmp_path)
    await store.write(lambda tx: tx.entries.insert([an_entry(entry_id="e1")]))
    await store.write(lambda tx: tx.changes.append([Change(kind=ChangeKind.ENTRY, subject="e1")]))
    head = await store.read(lambda tx: tx.changes.head())
    await store.close()
    store = await adapter.open(tmp_path)
    assert await store.read(lambda tx: tx.changes.head()) == head
    assert list(await store.read(lambda tx: tx.entries.get([EntryID("e1")]))) == ["e1"]
    assert await store.wait_for_change(0) == 1
    await store.close()


async def test_the_chain_of_the_audit_begins_with_nothing_and_its_head_is_the_last_row(store: Datastore) -> None:
    assert await store.read(lambda tx: tx.audit.head()) == (0, GENESIS)
    event = AuditEvent(at=NOW, actor="uid:0", action="looked")
    await store.write(lambda tx: tx.audit.append([]))
    await store.write(lambda tx: tx.audit.append([event, event]))
    rows = await store.read(lambda tx: tx.audit.rows(after=0, limit=9))
    assert await store.read(lambda tx: tx.audit.head()) == (2, rows[-1].hash)


async def test_the_changes_of_an_entry_are_found_among_all_rows_in_their_order(store: Datastore) -> None:
    first, other = an_entry(entry_id="e1"), an_entry(entry_id="e2")
    looked = AuditEvent(at=NOW, actor="uid:0", action="looked")
    steps = [replace(looked, after=first), looked, replace(looked, after=other), replace(looked, before=first)]
    await store.write(lambda tx: tx.audit.append(steps))
    await store.write(lambda tx: tx.audit.append([replace(looked, before=first, after=first)]))

    def of(entry_id: str, *, after: int = 0, limit: int = 9) -> Callable[[Transaction], list[int]]:
        return lambda tx: [row.number for row in islice(tx.audit.of_entry(EntryID(entry_id), after=after), limit)]

    assert await store.read(of("e1")) == [1, 4, 5]
    assert await store.read(of("e1", after=1, limit=1)) == [4]
    assert await store.read(of("e2")) == [3]
    assert await store.read(of("e3")) == []
    assert [row.number for row in await store.read(lambda tx: tx.audit.rows(after=0, limit=9))] == [1, 2, 3, 4, 5]


async def test_the_rows_of_the_audit_are_read_one_by_one_and_only_as_far_as_asked(store: Datastore) -> None:
    event = AuditEvent(at=NOW, actor="uid:0", action="looked")
    await store.write(lambda tx: tx.audit.append([event] * 5))
    rows = await store.read(lambda tx: tx.audit.rows(after=2, limit=9))
    assert await store.read(lambda tx: list(tx.audit.each(after=2))) == rows
    assert await store.read(lambda tx: list(islice(tx.audit.each(after=2), 2))) == rows[:2]
    await store.write(lambda tx: tx.audit.append([event]))  # what was not read to its end keeps nobody from writing
    assert (await store.read(lambda tx: tx.audit.head()))[0] == 6


async def test_the_ledger_is_read_in_the_order_in_which_it_was_recorded(store: Datastore) -> None:
    rows = [
        Credential(
            kind=CredentialKind.X509,
            serial=serial,
            spiffe_id=an_entry().spiffe_id,
            authority_id=KeyID("x509-1"),
            issued_at=NOW,
            not_after=NOW + HOUR,
        )
        for serial in ("c", "a", "b")
    ]
    await store.write(lambda tx: tx.ledger.record(rows[:2]))
    await store.write(lambda tx: tx.ledger.record(rows[2:]))
    page = await store.read(lambda tx: tx.ledger.after(0, limit=2))
    assert [one.serial for one in page] == ["c", "a"]
    assert [one.serial for one in await store.read(lambda tx: tx.ledger.after(page[-1].number, limit=9))] == ["b"]


async def test_a_key_that_leaked_is_known_as_that_on_lists_and_in_the_ledger_whenever_its_certificate_ended(
    store: Datastore,
) -> None:
    row = Credential(
        kind=CredentialKind.X509,
        serial=f"{2**127:x}",
        spiffe_id=an_entry().spiffe_id,
        authority_id=KeyID("x509-1"),
        issued_at=NOW,
        not_after=NOW + HOUR,
        key_hash="k1",
    )
    where = Live(serials=[row.serial])

    def revoked(tx: Transaction, reason: Reason) -> int:
        target = Target(kind=RevocationKind.SVID, serials=(row.serial,))
        return tx.revocations.add(Revocation(target=target, reason=reason, comment="", actor="uid:0", at=NOW))

    def work(tx: Transaction) -> tuple[int, int, int]:
        tx.ledger.record([row])
        denied = tx.denials.deny(where, revocation=revoked(tx, Reason.SUPERSEDED), now=NOW)
        leaked = tx.denials.compromise(where, revocation=revoked(tx, Reason.KEY_COMPROMISE), now=NOW + 900 * HOUR)
        return denied.live, leaked, tx.denials.count()

    assert await store.write(work) == (1, 1, 1)
    (listed,) = await store.read(lambda tx: tx.denials.of_authority(row.authority_id))
    assert listed.reason is Reason.KEY_COMPROMISE
    assert (await store.read(lambda tx: tx.ledger.holders(["k1"])))["k1"].is_compromised


async def test_a_store_in_order_lacks_nothing_and_takes_expendable_works(store: Datastore) -> None:
    await store.write(lambda tx: tx.nodes.put(a_node()), expendable=True)
    assert [await store.lacking_room(), await store.missing(), await store.check()] == ["", "", ""]


async def test_ids_on_record_are_found_by_how_they_begin(store: Datastore) -> None:
    def signed(kind: CredentialKind, serial: str, node: str) -> Credential:
        return Credential(
            kind=kind,
            serial=serial,
            spiffe_id=a_node(node).spiffe_id if kind is CredentialKind.NODE else an_entry().spiffe_id,
            node_id=NodeID(node),
            authority_id=KeyID("x509-1"),
            issued_at=NOW,
            not_after=NOW + HOUR,
        )

    def work(tx: Transaction) -> None:
        rows = [signed(CredentialKind.NODE, "aa10", "n1"), signed(CredentialKind.NODE, "aa20", "n2")]
        tx.ledger.record([*rows, *(signed(CredentialKind.X509, f"ab{number}", "n1") for number in range(3))])
        changed = [an_entry(entry_id=name) for name in ("e1", "e1", "e1", "e2", "f1")]
        tx.audit.append([AuditEvent(at=NOW, actor="uid:0", action="entry updated", after=one) for one in changed])

    await store.write(work)

    def found(tx: Transaction) -> tuple[list[str], ...]:
        ids = tx.ids
        return (
            [one.id for one in ids.entries("e", limit=9)],
            [one.id for one in ids.entries("e", limit=1)],
            [one.id for one in ids.entries("e1", limit=9)],
            [one.id for one in ids.entries("x", limit=9)],
            [f"{one.id} {one.spiffe_id}" for one in ids.nodes("n", limit=9)],
            [f"{one.id} {one.spiffe_id}" for one in ids.credentials("ab", limit=2)],
            [one.id for one in ids.credentials("aa10", limit=2)],
        )

    nodes = [f"{name} {a_node(name).spiffe_id}" for name in ("n1", "n2")]
    web = an_entry().spiffe_id
    assert await store.read(found) == (
        ["e1", "e2"], ["e1"], ["e1"], [], nodes, [f"ab0 {web}", f"ab1 {web}"], ["aa10"]
    )  # fmt: skip


async def test_entries_that_are_gone_are_found_by_each_spiffe_id_that_they_had(store: Datastore) -> None:
    web, db = an_entry().spiffe_id, SpiffeID.parse("spiffe://example.org/db")

    def work(tx: Transaction) -> None:
        one, other, live = (an_entry(entry_id=name) for name in ("e1", "e2", "e3"))
        moved = replace(one, spiffe_id=db, revision=2)
        tx.entries.insert([replace(live, spiffe_id=db)])
        changes = [(None, one), (one, moved), (moved, None), (None, other), (other, None), (None, live)]
        tx.audit.append(
            [AuditEvent(at=NOW, actor="uid:0", action="x", before=before, after=after) for before, after in changes]
        )

    await store.write(work)

    def found(tx: Transaction) -> list[list[str]]:
        return [
            [f"{one.id} {one.spiffe_id}" for one in tx.ids.deleted_entries(name, limit=limit)]
            for name, limit in ((web, 9), (web, 1), (db, 9), (SpiffeID.parse("spiffe://example.org/none"), 9))
        ]

    assert await store.read(found) == [[f"e1 {web}", f"e2 {web}"], [f"e1 {web}"], [f"e1 {db}"], []]
