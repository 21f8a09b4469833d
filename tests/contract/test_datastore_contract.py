"""What every datastore promises of transactions, entries, ledger, logs and waiting. Its small tables: test_datastore_rows_contract."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest

from cognomen.protocol.auditlog import Checkpoint, broken_link
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from cognomen.protocol.selector import Selector
from issuer.datastore.ledgerport import Use
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import NodeState
from issuer.decisions.audit import AuditEvent
from issuer.decisions.authority import replaced, tainted
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.filters import EntryFilter, LedgerFilter
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from issuer.decisions.minting import Holder
from issuer.decisions.revocation import Live
from svid.keys import KeyID
from svid.spiffeid import SpiffeID
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, a_token, an_entry, jwt_authority, x509_authority
from tests.doubles.upstream import WithIntermediate

PARENT = SpiffeID(trust_domain=TRUST_DOMAIN, path="/cognomen/node/join_token/n1")


def credential(serial: str, **fields: str) -> Credential:
    return Credential(
        kind=CredentialKind.X509,
        serial=serial,
        spiffe_id=SpiffeID.parse(fields.get("spiffe_id", "spiffe://example.org/web")),
        authority_id=KeyID("x509-1"),
        issued_at=NOW,
        not_after=NOW + timedelta(hours=1),
        entry_id=EntryID(fields.get("entry_id", "e1")),
        entry_revision=3,
        node_id=NodeID(fields.get("node_id", "n1")),
        key_hash=fields.get("key_hash", ""),
        audiences=("a", "b"),
    )


def event(action: str) -> AuditEvent:
    return AuditEvent(at=NOW, actor="uid:0", action=action, facts={"name": "käse"})


def _find(where: LedgerFilter, tx: Transaction) -> Sequence[Credential]:
    return tx.ledger.find(where, before=0, limit=9)


def _put_node(name: str, tx: Transaction) -> None:
    tx.nodes.put(a_node(name))


async def test_an_entry_comes_back_as_it_went_in(store: Datastore) -> None:
    entry = replace(
        an_entry(entry_id="e1", of="unix:uid:1 unix:path:/a:b"),
        x509_svid_ttl=timedelta(seconds=30),
        jwt_svid_ttl=timedelta(seconds=7),
        expires_at=NOW + timedelta(microseconds=1),
        dns_names=("b.example", "a.example"),
        revision=4,
        hint="internal",
        created_at=NOW,
        owner="käse",
        labels={"k": "v"},
        default=True,
        audiences=("db",),
        callers=(an_entry("/caller").spiffe_id,),
        observe=True,
    )
    await store.write(lambda tx: tx.entries.insert([entry, an_entry("/other", entry_id="e2")]))
    assert await store.read(lambda tx: tx.entries.get([EntryID("e1"), EntryID("nobody")])) == {"e1": entry}
    nobody = replace(entry, revision=5, audiences=(), callers=())
    await store.write(lambda tx: tx.entries.replace([nobody]))
    assert await store.read(lambda tx: tx.entries.get([EntryID("e1")])) == {"e1": nobody}


async def test_entries_are_found_page_by_page(store: Datastore) -> None:
    entries = [an_entry(f"/w/{i}", entry_id=f"e{i}") for i in range(5)]
    await store.write(lambda tx: tx.entries.insert(entries))
    assert await store.read(lambda tx: tx.entries.find(EntryFilter(), after="", limit=2)) == entries[:2]
    assert await store.read(lambda tx: tx.entries.find(EntryFilter(), after="e1", limit=9)) == entries[2:]
    assert await store.read(lambda tx: list(tx.entries.each(EntryFilter(), after="", limit=2))) == entries[:2]
    assert await store.read(lambda tx: list(tx.entries.each(EntryFilter(), after="e1", limit=9))) == entries[2:]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (EntryFilter(spiffe_id=SpiffeID(trust_domain=TRUST_DOMAIN, path="/a")), ["e1", "e2"]),
        (EntryFilter(parent_id=SpiffeID(trust_domain=TRUST_DOMAIN, path="/group")), ["e2"]),
        (EntryFilter(selector=Selector("unix", "uid:1")), ["e1", "e3"]),
        (
            EntryFilter(spiffe_id=SpiffeID(trust_domain=TRUST_DOMAIN, path="/a"), selector=Selector("unix", "gid:2")),
            ["e2"],
        ),
        (EntryFilter(selector=Selector("unix", "uid:9")), []),
    ],
)
async def test_entries_are_found_by_what_the_filter_names(
    store: Datastore, where: EntryFilter, found: list[str]
) -> None:
    entries = [
        an_entry("/a", entry_id="e1", of="unix:uid:1"),
        an_entry("/a", entry_id="e2", of="unix:gid:2 unix:uid:2", parent="/group"),
        an_entry("/b", entry_id="e3", of="unix:uid:1"),
    ]
    await store.write(lambda tx: tx.entries.insert(entries))
    assert [entry.id for entry in await store.read(lambda tx: tx.entries.find(where, after="", limit=9))] == found
    assert await store.read(lambda tx: [one.id for one in tx.entries.each(where, after="", limit=9)]) == found


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (EntryFilter(owner="ann"), ["e1"]),
        (EntryFilter(owner=""), ["e3", "e4"]),
        (EntryFilter(labels=(("team", "a"),)), ["e1", "e2"]),
        (EntryFilter(labels=(("team", "a"), ('"$', "x"))), ["e2"]),
        (EntryFilter(labels=(("team", "b"),)), []),
        (EntryFilter(expires_before=NOW + timedelta(hours=1)), ["e3"]),
        (EntryFilter(expires_before=NOW + timedelta(hours=1, microseconds=1)), ["e2", "e3"]),
        (EntryFilter(owner="", expires_before=NOW + timedelta(days=1)), ["e3"]),
    ],
)
async def test_entries_are_found_by_whose_they_are_and_when_they_end(
    store: Datastore, where: EntryFilter, found: list[str]
) -> None:
    entries = [
        replace(an_entry("/1", entry_id="e1"), owner="ann", labels={"team": "a"}),
        replace(
            an_entry("/2", entry_id="e2"),
            owner="bob",
            labels={"team": "a", '"$': "x"},
            expires_at=NOW + timedelta(hours=1),
        ),
        replace(an_entry("/3", entry_id="e3"), expires_at=NOW - timedelta(hours=1)),
        an_entry("/4", entry_id="e4"),
    ]
    await store.write(lambda tx: tx.entries.insert(entries))
    page = await store.read(lambda tx: tx.entries.find(where, after="", limit=9))
    assert [entry.id for entry in page] == found
    assert await store.read(lambda tx: [one.id for one in tx.entries.each(where, after="", limit=9)]) == found


async def test_entries_below_several_parents_come_in_id_order(store: Datastore) -> None:
    parents = ["/cognomen/node/join_token/n1", "/group", "/elsewhere"]
    entries = [an_entry(f"/w/{i}", entry_id=f"e{i}", parent=parents[i % 3]) for i in range(9)]
    await store.write(lambda tx: tx.entries.insert(entries))
    asked = [PARENT, SpiffeID(trust_domain=TRUST_DOMAIN, path="/group")]
    below = await store.read(lambda tx: [entry.id for entry in tx.entries.below(asked)])
    assert below == [f"e{i}" for i in range(9) if i % 3 != 2]


async def test_a_replaced_entry_is_found_by_its_new_selectors_only(store: Datastore) -> None:
    before, after = an_entry(entry_id="e1", of="unix:uid:1"), an_entry(entry_id="e1", of="unix:uid:2")

    def found(tx: Transaction) -> list[list[EntryID]]:
        wanted = [Selector("unix", "uid:1"), Selector("unix", "uid:2")]
        return [[e.id for e in tx.entries.find(EntryFilter(selector=s), after="", limit=9)] for s in wanted]

    await store.write(lambda tx: tx.entries.insert([before]))
    await store.write(lambda tx: tx.entries.replace([after]))
    assert await store.read(found) == [[], ["e1"]]
    await store.write(lambda tx: tx.entries.delete([EntryID("e1")]))
    assert await store.read(found) == [[], []]


async def test_twins_are_known_by_id_spiffe_id_parent_and_selectors(store: Datastore) -> None:
    stored = an_entry("/a", entry_id="e1", of="unix:uid:1 unix:gid:1")
    await store.write(lambda tx: tx.entries.insert([stored]))
    candidates = [
        replace(stored, id=EntryID("twin"), hint="another"),
        stored,
        an_entry("/a", entry_id="other", of="unix:uid:1"),
    ]
    assert await store.read(lambda tx: tx.entries.twins(candidates)) == {"twin": "e1"}


async def test_entries_alike_are_counted_by_parent_and_all_selectors(store: Datastore) -> None:
    of = "unix:uid:1 unix:gid:1"
    alike = [an_entry(f"/{name}", entry_id=name, of=of) for name in "abc"]
    elsewhere = replace(an_entry("/d", entry_id="d", of=of), parent_id=SpiffeID.parse("spiffe://example.org/elsewhere"))
    others = [
        elsewhere,
        an_entry("/e", entry_id="e", of="unix:uid:1"),
        an_entry("/f", entry_id="f", of=f"{of} unix:path:/f"),
    ]
    await store.write(lambda tx: tx.entries.insert([*alike, *others]))
    counted = await store.read(lambda tx: [tx.entries.alike(one, most=9) for one in (alike[0], *others)])
    assert counted == [3, 1, 1, 1]
    assert await store.read(lambda tx: tx.entries.alike(alike[0], most=2)) == 2
    unknown = an_entry("/g", entry_id="g", of="unix:uid:2")
    assert await store.read(lambda tx: tx.entries.alike(unknown, most=2)) == 0


@pytest.mark.parametrize("how", ["insert", "replace"])
async def test_a_twin_is_refused_and_nothing_of_the_batch_is_kept(store: Datastore, how: str) -> None:
    stored = [an_entry(f"/{name}", entry_id=name) for name in "abc"]
    await store.write(lambda tx: tx.entries.insert(stored))
    other, twin = ("b", "c") if how == "replace" else ("d", "e")

    def work(tx: Transaction) -> Kind:
        change = {"insert": tx.entries.insert, "replace": tx.entries.replace}[how]
        with pytest.raises(Refused) as refused:
            change([an_entry("/new", entry_id=other), an_entry("/a", entry_id=twin)])
        return refused.value.kind  # the transaction goes on and is committed

    assert await store.write(work) is Kind.EXISTS
    assert await store.read(lambda tx: tx.entries.find(EntryFilter(), after="", limit=9)) == stored


async def test_an_id_that_is_taken_is_a_conflict(store: Datastore) -> None:
    await store.write(lambda tx: tx.entries.insert([an_entry("/a", entry_id="e1")]))
    with pytest.raises(Refused) as refused:
        await store.write(lambda tx: tx.entries.insert([an_entry("/b", entry_id="e1")]))
    assert refused.value.kind is Kind.CONFLICT


async def test_entries_that_are_not_there_are_neither_replaced_nor_deleted(store: Datastore) -> None:
    with pytest.raises(Refused, match="expected 1 by their ids, found 0"):
        await store.write(lambda tx: tx.entries.replace([an_entry(entry_id="e1")]))
    with pytest.raises(Refused, match="expected 1 by their ids, found 0"):
        await store.write(lambda tx: tx.entries.delete([EntryID("e1")]))


async def test_a_node_is_overwritten_by_its_id(store: Datastore) -> None:
    banned = replace(a_node(), state=NodeState.BANNED, pending_serial="bb", acknowledged=7)
    await store.write(lambda tx: tx.nodes.put(a_node()))
    await store.write(lambda tx: tx.nodes.put(a_node("n2")))
    await store.write(lambda tx: tx.nodes.put(banned))
    assert await store.read(lambda tx: tx.nodes.get(NodeID("n1"))) == banned
    assert await store.read(lambda tx: tx.nodes.get(NodeID("n3"))) is None
    assert await store.read(lambda tx: tx.nodes.find(after="n1", limit=9)) == [a_node("n2")]
    assert await store.read(lambda tx: tx.nodes.find(after="", limit=1)) == [banned]


async def test_a_token_is_kept_with_who_used_it(store: Datastore) -> None:
    fresh = a_token(labels={"team": "travel"})
    used = replace(fresh, key_hash="22" * 32, used_at=NOW)
    await store.write(lambda tx: tx.tokens.put(fresh))
    assert await store.read(lambda tx: tx.tokens.get(fresh.hash)) == fresh
    await store.write(lambda tx: tx.tokens.put(used))
    assert await store.read(lambda tx: tx.tokens.get(fresh.hash)) == used
    assert await store.read(lambda tx: tx.tokens.get("unknown")) is None


async def test_the_bundle_sequence_begins_at_zero_and_only_grows(store: Datastore) -> None:
    assert await store.read(lambda tx: tx.bundles.sequence()) == 0
    assert [await store.write(lambda tx: tx.bundles.advance()) for _ in range(2)] == [1, 2]
    assert await store.read(lambda tx: tx.bundles.sequence()) == 2


async def test_authorities_stand_in_the_order_they_came(store: Datastore) -> None:
    first = (await x509_authority(key_id="z")).authority
    second = (await x509_authority(key_id="a")).authority
    await store.write(lambda tx: tx.authorities.put(first))
    await store.write(lambda tx: tx.authorities.put(second))
    later = replaced(first)
    await store.write(lambda tx: tx.authorities.put(later))
    assert await store.read(lambda tx: tx.authorities.list()) == [later, second]


async def test_the_ledger_is_read_newest_first_and_resolved_by_serial(store: Datastore) -> None:
    await store.write(lambda tx: tx.ledger.record([credential("s1"), credential("s2"), credential("s3")]))
    await store.write(lambda tx: tx.ledger.resolve(["s2"], CredentialState.ISSUED))
    page = await store.read(lambda tx: tx.ledger.find(LedgerFilter(), before=0, limit=2))
    assert [(c.serial, c.state) for c in page] == [("s3", CredentialState.INTENDED), ("s2", CredentialState.ISSUED)]
    rest = await store.read(lambda tx: tx.ledger.find(LedgerFilter(), before=page[-1].number, limit=2))
    assert rest == [replace(credential("s1"), number=1)]


async def test_those_of_many_serials_that_are_in_the_ledger_are_read_at_once(store: Datastore) -> None:
    await store.write(lambda tx: tx.ledger.record([credential(serial) for serial in ("s1", "s2", "s3")]))
    found = await store.read(lambda tx: {one.serial: one for one in tx.ledger.among(["s3", "s9", "s1"])})
    assert found == {"s1": replace(credential("s1"), number=1), "s3": replace(credential("s3"), number=3)}
    assert await store.read(lambda tx: list(tx.ledger.among([]))) == []


async def test_the_ledger_is_filtered_by_spiffe_id_entry_and_node(store: Datastore) -> None:
    rows = [credential("s1"), credential("s2", spiffe_id="spiffe://example.org/b", entry_id="e2", node_id="n2")]
    await store.write(lambda tx: tx.ledger.record(rows))
    for where in (
        LedgerFilter(spiffe_id=SpiffeID.parse("spiffe://example.org/b")),
        LedgerFilter(entry_id=EntryID("e2")),
        LedgerFilter(node_id=NodeID("n2")),
    ):
        found = await store.read(partial(_find, where))
        assert [c.serial for c in found] == ["s2"]


async def test_the_ledger_is_filtered_by_kind_state_serial_and_end(store: Datastore) -> None:
    sooner = replace(credential("s2"), kind=CredentialKind.JWT, not_after=NOW + timedelta(minutes=5))
    await store.write(lambda tx: tx.ledger.record([credential("s1"), sooner]))
    await store.write(lambda tx: tx.ledger.resolve(["s2"], CredentialState.FAILED))
    for where in (
        LedgerFilter(kind=CredentialKind.JWT),
        LedgerFilter(state=CredentialState.FAILED),
        LedgerFilter(serial="s2"),
        LedgerFilter(ends_before=NOW + timedelta(minutes=6)),
    ):
        found = await store.read(partial(_find, where))
        assert [c.serial for c in found] == ["s2"]
    assert await store.read(partial(_find, LedgerFilter(ends_before=NOW + timedelta(minutes=5)))) == []


async def test_the_ledger_knows_under_what_a_key_was_certified(store: Datastore) -> None:
    rows = [credential("s1", key_hash="k1"), replace(credential("s2", key_hash="k2"), entry_id=None), credential("s3")]
    await store.write(lambda tx: tx.ledger.record(rows))
    holders = await store.read(lambda tx: tx.ledger.holders(["k1", "k2", "k3", ""]))
    assert holders == {
        "k1": Holder(entry_id=EntryID("e1"), node_id=NodeID("n1")),
        "k2": Holder(entry_id=None, node_id=NodeID("n1")),
    }


async def test_an_authority_comes_back_as_it_went_in(store: Datastore) -> None:
    row = tainted(replaced(jwt_authority().authority), change=7, now=NOW)
    await store.write(lambda tx: tx.authorities.put(row))
    assert await store.read(lambda tx: tx.authorities.list()) == [row]


async def test_an_authority_knows_the_latest_end_of_what_it_signed_and_never_an_earlier_one(store: Datastore) -> None:
    authority = (await x509_authority()).authority
    own = replace(credential("own"), kind=CredentialKind.AUTHORITY, not_after=NOW + timedelta(days=9))
    ends = [NOW + timedelta(hours=hours) for hours in (2, 3, 1)]
    rows = [replace(credential(f"s{at}"), not_after=end) for at, end in enumerate(ends)]
    stranger = replace(credential("stranger"), authority_id=KeyID("unknown"))

    async def last() -> datetime | None:
        (found,) = await store.read(lambda tx: tx.authorities.list())
        return found.last_not_after

    await store.write(lambda tx: tx.authorities.put(authority))
    await store.write(lambda tx: tx.ledger.record([own, stranger]))
    assert await last() is None
    await store.write(lambda tx: tx.ledger.record(rows[:2]))
    await store.write(lambda tx: tx.ledger.record(rows[2:]))
    await store.write(lambda tx: tx.authorities.put(authority))
    await store.write(lambda tx: tx.authorities.put(replace(authority, last_not_after=ends[0])))
    assert await last() == ends[1]
    await store.write(lambda tx: tx.authorities.put(replace(authority, last_not_after=own.not_after)))
    assert await last() == own.not_after


async def test_an_authority_below_a_root_comes_back_with_its_chain_and_roots(store: Datastore) -> None:
    row = (await x509_authority(upstream=WithIntermediate())).authority
    await store.write(lambda tx: tx.authorities.put(row))
    assert await store.read(lambda tx: tx.authorities.list()) == [row]


async def test_what_is_in_use_of_an_authority_is_live_and_not_denied(store: Datastore) -> None:
    rows = [
        credential("s1"),
        replace(credential("s2"), authority_id=KeyID("later")),  # for the same entry on the same node
        replace(credential("s3"), kind=CredentialKind.JWT),
        replace(credential("s4"), kind=CredentialKind.AUTHORITY),
        replace(credential("s5"), not_after=NOW),
        credential("s6"),
        credential("s7"),
    ]
    live = Live(serials=["s7"])
    await store.write(lambda tx: tx.ledger.record([*rows[:1], *rows[2:], rows[1]]))
    await store.write(lambda tx: tx.ledger.resolve(["s6"], CredentialState.FAILED))
    await store.write(lambda tx: tx.denials.deny(live, revocation=1, now=NOW))
    first, later = rows[0].authority_id, KeyID("later")
    uses = await store.read(lambda tx: tx.ledger.uses(tainted=[first], now=NOW))
    assert uses == {first: Use(live=2, unreplaced=1), later: Use(live=1)}
    assert await store.read(lambda tx: tx.ledger.uses(tainted=[], now=NOW)) == {first: Use(live=2), later: Use(live=1)}


async def test_changes_are_numbered_in_the_order_they_are_committed(store: Datastore) -> None:
    change = Change(kind=ChangeKind.ENTRY, subject="e1", parents=frozenset({PARENT}))
    assert await store.write(lambda tx: tx.changes.append([change, replace(change, kind=ChangeKind.BUNDLE)])) == 2
    assert await store.write(lambda tx: tx.changes.append([replace(change, kind=ChangeKind.NODE)])) == 3
    assert await store.read(lambda tx: tx.changes.after(0, limit=1)) == [replace(change, number=1)]
    rest = await store.read(lambda tx: tx.changes.after(1, limit=9))
    assert [(c.number, c.kind) for c in rest] == [(2, ChangeKind.BUNDLE), (3, ChangeKind.NODE)]
    assert (await store.read(lambda tx: tx.changes.head())).number == 3


async def test_the_audit_rows_are_chained_across_transactions(store: Datastore) -> None:
    await store.write(lambda tx: tx.audit.append([event("one"), event("two")]))
    await store.write(lambda tx: tx.audit.append([event("three")]))
    rows = await store.read(lambda tx: tx.audit.rows(after=0, limit=9))
    assert [row.number for row in rows] == [1, 2, 3]
    assert broken_link(rows) is None
    assert await store.read(lambda tx: tx.audit.rows(after=2, limit=9)) == rows[2:]


async def test_a_work_that_raises_leaves_nothing_and_harms_no_other(store: Datastore) -> None:
    def fails(tx: Transaction) -> None:
        tx.tokens.put(a_token())
        raise KeyError("mine")

    works = [store.write(partial(_put_node, f"n{i}")) for i in range(4)]
    outcomes = await asyncio.gather(store.write(fails), *works, return_exceptions=True)
    assert isinstance(outcomes[0], KeyError)
    assert outcomes[1:] == [None] * 4
    assert await store.read(lambda tx: tx.tokens.get(a_token().hash)) is None
    assert len(await store.read(lambda tx: tx.nodes.find(after="", limit=9))) == 4


async def test_what_one_work_returns_is_durable_and_seen_by_the_next_read(store: Datastore) -> None:
    numbers = await asyncio.gather(
        *(store.write(lambda tx: tx.changes.append([Change(kind=ChangeKind.BUNDLE)])) for _ in range(50))
    )
    assert sorted(numbers) == list(range(1, 51))
    assert (await store.read(lambda tx: tx.changes.head())).number == 50


async def test_a_read_must_not_write(store: Datastore) -> None:
    with pytest.raises(Refused):
        await store.read(lambda tx: tx.nodes.put(a_node()))
    await store.write(lambda tx: tx.nodes.put(a_node()))


async def test_a_waiter_is_woken_by_the_commit_that_moves_the_log(store: Datastore) -> None:
    waiting = asyncio.create_task(store.wait_for_change(0))
    await store.write(lambda tx: tx.nodes.put(a_node()))
    await store.read(lambda tx: tx.changes.head())
    assert not waiting.done()
    await store.write(lambda tx: tx.changes.append([Change(kind=ChangeKind.BUNDLE)]))
    assert await waiting == 1


async def test_no_wake_up_is_lost_between_looking_and_waiting(store: Datastore) -> None:
    seen = 0

    async def follow() -> None:
        nonlocal seen
        while seen < 100:
            seen = await store.wait_for_change(seen)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(follow())
        for _ in range(100):
            await store.write(lambda tx: tx.changes.append([Change(kind=ChangeKind.BUNDLE)]))
    assert seen == 100


async def test_a_change_that_is_rolled_back_wakes_nobody(store: Datastore) -> None:
    def fails(tx: Transaction) -> None:
        tx.changes.append([Change(kind=ChangeKind.BUNDLE)])
        raise KeyError

    waiting = asyncio.create_task(store.wait_for_change(0))
    with pytest.raises(KeyError):
        await store.write(fails)
    await store.read(lambda tx: tx.changes.head())
    assert not waiting.done()
    waiting.cancel()


async def test_a_closed_store_refuses_and_lets_go_of_who_waits(store: Datastore) -> None:
    waiting = asyncio.create_task(store.wait_for_change(0))
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    for refused in (waiting, store.read(lambda tx: tx.changes.head()), store.write(lambda tx: tx.changes.head())):
        with pytest.raises(Refused, match="closed"):
            await refused


async def test_what_was_queued_is_finished_before_the_store_is_closed(store: Datastore) -> None:
    writes = [
        asyncio.ensure_future(store.write(lambda tx: tx.changes.append([Change(kind=ChangeKind.BUNDLE)])))
        for _ in range(20)
    ]
    await asyncio.sleep(0)
    await store.close()
    assert sorted(await asyncio.gather(*writes)) == list(range(1, 21))


def _checkpoint(count: int) -> Checkpoint:
    return Checkpoint(
        trust_domain=TRUST_DOMAIN, incarnation="i", count=count, head=bytes(32), at=NOW, public_key=b"k", signature=b"s"
    )


def _add_checkpoints(count: int, tx: Transaction) -> None:
    for number in range(count):
        tx.checkpoints.add(_checkpoint(number))


async def test_the_newest_checkpoints_are_kept_in_order_and_of_the_older_ones_the_first(store: Datastore) -> None:
    assert await store.read(lambda tx: tx.checkpoints.latest()) is None
    await store.write(partial(_add_checkpoints, 502))
    assert await store.read(lambda tx: tx.checkpoints.newest(2)) == [_checkpoint(500), _checkpoint(501)]
    assert await store.read(lambda tx: tx.checkpoints.latest()) == _checkpoint(501)
    kept = await store.read(lambda tx: tx.checkpoints.newest(2000))
    assert [one.count for one in kept] == [0, *range(2, 502)]


@pytest.mark.parametrize(
    ("at", "held"), [(-1, []), (0, ["issued", "intended"]), (3599, ["issued", "intended"]), (3600, [])]
)
async def test_who_held_something_is_who_had_it_issued_and_not_yet_over(
    store: Datastore, at: int, held: list[str]
) -> None:
    def work(tx: Transaction) -> None:
        tx.ledger.record([credential(serial) for serial in ("intended", "failed", "issued")])
        tx.ledger.resolve(["failed"], CredentialState.FAILED)
        tx.ledger.resolve(["issued"], CredentialState.ISSUED)

    await store.write(work)
    where = LedgerFilter(spiffe_id=SpiffeID.parse("spiffe://example.org/web"), held_at=NOW + timedelta(seconds=at))
    assert [row.serial for row in await store.read(partial(_find, where))] == held
