"""Refusals at the doors: what is told of them, and that nobody crowds anybody else out of the record."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import pytest

from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID, node_spiffe_id
from issuer.config import OnClone
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node, NodeState, Peer
from issuer.decisions.sampling import Alarm, NotProved, Principal
from issuer.flows.admit_call import AdmitCall
from issuer.flows.attest_node import AttestNode, Evidence
from issuer.flows.prune import Prune
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.clone_alarm import CloneAlarm
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.node_svids import NodeSVIDs
from issuer.keepers.refusal_record import RefusalRecord, RefusedItems
from issuer.keymanager.memory import MemoryKeyManager
from issuer.nodeattestor.join_token import JoinToken
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore

STRANGER, WORKLOAD, NODE = Principal
ACTION = "node call"


@dataclass(frozen=True, kw_only=True)
class House:
    """Refusals, and the two flows whose callers may make as many as they like."""

    clock: FakeClock
    store: RefusingStore
    refusals: RefusalRecord
    admit: AdmitCall
    attest: AttestNode

    async def rows(self) -> list[dict[str, object]]:
        return [json.loads(row.body) for row in await self.store.read(lambda tx: tx.audit.rows(after=0, limit=10_000))]

    async def record(
        self,
        detail: str,
        *,
        principal: Principal = NODE,
        actor: str = "node-1",
        facts: Mapping[str, str | int] | None = None,
    ) -> None:
        refused = Refused(Kind.DENIED, detail, hint="", **(facts or {}))
        await self.refusals.record(refused, principal=principal, actor=actor, action=ACTION)

    async def join_with(self, public_key: bytes) -> None:
        async def challenge(question: bytes) -> bytes:
            return question

        shown = Evidence(attestor="join_token", evidence=b"x" * 43, public_key=public_key, key_signature=b"")
        with pytest.raises(Refused):
            await self.attest(shown, challenge)

    async def call_as(self, spiffe_id: SpiffeID, *, serial: str = "aa") -> Refused:
        peer = Peer(
            tls_version="TLSv1.3",
            session_reused=False,
            spiffe_id=spiffe_id,
            serial=serial,
            key_hash="11",
            not_after=self.clock.now() + timedelta(hours=1),
        )
        with pytest.raises(Refused) as refused:
            await self.admit(peer)
        return refused.value


def put(node: Node, tx: Transaction) -> None:
    tx.nodes.put(node)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    opened, clock = await SQLiteDatastore.open(None), FakeClock(NOW)
    store = RefusingStore(opened)
    refusals = RefusalRecord(around=around(clock), datastore=store)
    clones = CloneAlarm(
        datastore=store, around=around(clock), watch=EnforcementWatch(around=around(clock)), on_clone=OnClone.ALARM
    )
    admit = AdmitCall(
        datastore=store, refusals=refusals, clones=clones, around=around(clock), trust_domain=TRUST_DOMAIN
    )
    node_svids = NodeSVIDs(
        issuance=issuance(store, clock, MemoryKeyManager()),
        around=around(clock),
        trust_domain=TRUST_DOMAIN,
        ttl=timedelta(hours=1),
    )
    attest = AttestNode(
        datastore=store,
        attestors={"join_token": JoinToken()},
        node_svids=node_svids,
        refusals=refusals,
        around=around(clock),
        trust_domain=TRUST_DOMAIN,
    )
    await store.write(lambda tx: tx.nodes.put(a_node()))
    yield House(clock=clock, store=store, refusals=refusals, admit=admit, attest=attest)
    await opened.close()


async def test_the_first_is_recorded_and_those_like_it_are_counted_in_the_next(house: House) -> None:
    for _ in range(5):
        await house.record("no")
    assert len(await house.rows()) == 1
    house.clock.advance(60)
    await house.record("no")
    assert (await house.rows())[1]["facts"] == {"kind": "DENIED", "unrecorded before": "4"}


async def test_what_a_node_attestor_refuses_has_its_own_room_and_is_recorded_although_it_is_unavailable(
    house: House,
) -> None:
    stranger = STRANGER

    async def record(refused: Refused) -> None:
        await house.refusals.record(refused, principal=stranger, actor=stranger, action=ACTION)

    for number in range(100):
        await record(NotProved(Kind.INVALID, "no", attestor="talkative", said=f"talkative: {number}"))
    await record(
        NotProved(Kind.UNAVAILABLE, "failed", attestor="broken", said="broken: no\ndatabase", hint="repair it")
    )
    await record(Refused(Kind.INVALID, "evidence: too long"))
    reasons = [row["reason"] for row in await house.rows()]
    assert reasons[:16] == [f"talkative: {number}" for number in range(16)]
    assert reasons[16:] == [
        "too many reasons to tell apart",
        "broken: no\\ndatabase",
        "evidence: not accepted, INVALID",
    ]


async def test_a_stranger_who_fills_his_room_hides_no_alarm_no_node_and_no_workload(house: House) -> None:
    for length in range(1025, 1025 + 399):
        await house.join_with(b"x" * length)
    clone = await house.call_as(a_node().spiffe_id, serial="bb")
    await house.call_as(node_spiffe_id(TRUST_DOMAIN, "join_token", NodeID("n2")))
    await house.call_as(SpiffeID.parse("spiffe://example.org/web"))
    reasons = [row["reason"] for row in await house.rows()]
    assert reasons == [
        "public_key: not accepted, INVALID",
        "node SVID: superseded by a later one, suspected clone",
        "node: expected one that attested, found spiffe://example.org/cognomen/node/join_token/n2",
        "node SVID: expected the ID of a node of example.org, found spiffe://example.org/web",
    ]
    assert isinstance(clone, Alarm)
    assert (await house.rows())[1]["facts"] == {"kind": "DENIED", "node": "n1", "serial": "bb"}


async def test_a_workload_with_a_thousand_names_hides_no_alarm_and_no_node(house: House) -> None:
    for number in range(1100):
        await house.record("no", principal=WORKLOAD, actor=f"spiffe://example.org/{number}")
    before = await house.rows()
    assert len(before) == 1025
    assert (before[-1]["actor"], before[-1]["reason"]) == ("many", "too many actors to tell apart")
    await house.call_as(a_node().spiffe_id, serial="bb")
    await house.record("no")
    assert [row["actor"] for row in (await house.rows())[1025:]] == [str(a_node().spiffe_id), "node-1"]


async def test_alarms_about_one_node_do_not_crowd_out_those_about_another_and_are_counted(house: House) -> None:
    nodes = [a_node(f"n{number}") for number in range(1200)]
    for node in nodes:
        await house.store.write(partial(put, node))
        await house.call_as(node.spiffe_id, serial="bb")
        await house.call_as(node.spiffe_id, serial="cc")
    assert len(await house.rows()) == 1200
    house.clock.advance(60)
    await house.call_as(nodes[0].spiffe_id, serial="dd")
    assert (await house.rows())[-1]["facts"] == {
        "kind": "DENIED", "node": "n0", "serial": "dd", "unrecorded before": "1",
    }  # fmt: skip


async def test_a_banned_node_that_calls_is_an_alarm(house: House) -> None:
    await house.store.write(lambda tx: tx.nodes.put(replace(a_node("n9"), state=NodeState.BANNED)))
    assert isinstance(await house.call_as(a_node("n9").spiffe_id), Alarm)


async def test_nothing_that_a_stranger_says_goes_on_record(house: House) -> None:
    for number in range(200):
        await house.record(f"certificate: expected a leaf: {'x' * 9000}{number}\n", principal=STRANGER, actor="x")
        await house.record(f"{number}: words of his own", principal=STRANGER, actor="y", facts={"said": "z" * 9000})
    rows = await house.rows()
    assert [(row["actor"], row["reason"]) for row in rows] == [
        ("stranger", "certificate: not accepted, DENIED"),
        ("stranger", "request: not accepted, DENIED"),
    ]
    assert [row["facts"] for row in rows] == [{"kind": "DENIED"}] * 2


async def test_a_token_of_ours_that_is_refused_is_told_with_its_node(house: House) -> None:
    await house.record("join token: expired", principal=STRANGER, actor="stranger", facts={"node": "n7"})
    (row,) = await house.rows()
    assert (row["reason"], row["facts"]) == ("join token: expired", {"kind": "DENIED", "node": "n7"})


async def test_reasons_of_one_node_are_bounded_and_another_node_has_its_own(house: House) -> None:
    for number in range(200):
        await house.record(f"found {number}")
    rows = await house.rows()
    assert len(rows) == 17
    assert (rows[-1]["actor"], rows[-1]["reason"]) == ("node-1", "too many reasons to tell apart")
    await house.record("found 1", actor="node-2")
    assert (await house.rows())[-1]["actor"] == "node-2"
    house.clock.advance(60)
    await house.record("found another")
    assert (await house.rows())[-1]["reason"] == "found another"


async def test_rooms_in_which_nothing_happened_for_a_minute_are_free_again(house: House) -> None:
    for number in range(1100):
        await house.record("no", actor=f"node-{number}")
    house.clock.advance(60)
    await house.record("no", actor="late")
    assert (await house.rows())[-1]["actor"] == "late"


async def test_items_of_a_batch_are_counted_each(house: House) -> None:
    refused = [RefusedItems(Kind.DENIED, "no", EntryID("e"), None, 0, count=7)]
    for _ in range(3):
        await house.refusals.record_items(refused, actor="node-1", action="x509 minted")
    house.clock.advance(60)
    await house.refusals.record_items(refused, actor="node-1", action="x509 minted")
    assert (await house.rows())[-1]["facts"] == {"kind": "DENIED", "items": "7", "unrecorded before": "14"}


async def test_those_of_a_batch_that_found_no_room_are_one_row_with_how_many_they_were(house: House) -> None:
    refused = [RefusedItems(Kind.INVALID, f"found {number}", EntryID("e"), None, 0, count=2) for number in range(100)]
    await house.refusals.record_items(refused, actor="node-1", action="x509 minted")
    rows = await house.rows()
    assert (len(rows), rows[-1]["facts"]) == (17, {"kind": "INVALID", "items": "168"})


async def test_a_store_that_is_not_there_is_no_decision(house: House) -> None:
    await house.refusals.record(Refused(Kind.UNAVAILABLE, "full"), principal=NODE, actor="node-1", action=ACTION)
    assert not await house.rows()


async def test_an_alarm_that_the_store_does_not_take_is_owed_until_it_does(house: House) -> None:
    house.store.refuses = True
    clone = await house.call_as(a_node().spiffe_id, serial="bb")
    assert isinstance(clone, Alarm)
    await house.refusals.write_owed()
    assert not await house.rows()
    house.store.refuses = False
    await house.refusals.write_owed()
    (row,) = await house.rows()
    assert row["reason"] == clone.detail
    await house.refusals.write_owed()
    assert len(await house.rows()) == 1


async def test_the_next_alarm_brings_those_that_are_owed(house: House) -> None:
    house.store.refuses = True
    for number in range(300):
        alarm = Alarm("a clone", node=f"node-{number}")
        await house.refusals.record(alarm, principal=NODE, actor=f"node-{number}", action=ACTION)
    house.store.refuses = False
    await house.call_as(a_node().spiffe_id, serial="bb")
    rows = await house.rows()
    assert len(rows) == 256 + 1  # bounded: the first ones, which say when it began
    assert rows[0]["actor"] == "node-0"


async def test_what_is_owed_is_written_by_the_round_of_every_minute(house: House) -> None:
    house.store.refuses = True
    await house.call_as(a_node().spiffe_id, serial="bb")
    house.store.refuses = False
    guard = ClockGuard(datastore=house.store, around=around(house.clock))
    prune = Prune(
        datastore=house.store,
        around=around(house.clock),
        guard=guard,
        refusals=house.refusals,
        uses_kept=timedelta(days=90),
    )
    running = asyncio.ensure_future(prune.run())
    async with asyncio.timeout(10):
        while not house.clock.sleepers:
            await house.rows()
        house.clock.advance(60)
        while not await house.rows():
            pass
    running.cancel()
    assert len(await house.rows()) == 1


async def test_a_row_that_the_store_does_not_take_is_tried_again_a_second_later(house: House) -> None:
    house.store.refuses = True
    await house.record("no")
    house.store.refuses = False
    await house.record("no")
    assert not await house.rows()  # not at once: who floods a full store would flood the log, too
    house.clock.advance(1)
    await house.record("no")
    (row,) = await house.rows()
    assert row["facts"] == {"kind": "DENIED", "unrecorded before": "2"}
