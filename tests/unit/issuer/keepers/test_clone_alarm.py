"""A node's replaced SVID that is shown again: the alarm and, where it is configured, the ban, at both doors."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from cognomen.daemon.troubles import Troubles
from cognomen.protocol.errors import Refused
from issuer.config import OnClone
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import Node, NodeState, Peer
from issuer.decisions.authority import Authority
from issuer.decisions.filters import LedgerFilter
from issuer.decisions.minting import parse_key
from issuer.flows.admit_call import AdmitCall
from issuer.keepers.clone_alarm import CloneAlarm
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.node_svids import NodeSVIDs
from issuer.keepers.refusal_record import RefusalRecord
from svid.keys import KeyKind, generate_private_key, public_key_to_der, thumbprint
from tests.doubles.clock import FakeClock
from tests.doubles.issuances import GivenKeys, issuance
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, x509_authority
from tests.doubles.issuersurroundings import around

HANDOVER = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class House:
    """An issuer with one node, as far as calls of the node go."""

    clock: FakeClock
    store: SQLiteDatastore
    troubles: Troubles
    node_svids: NodeSVIDs
    authority: Authority

    async def svid(self) -> Peer:
        """The node's next SVID, as it would be shown."""
        key = public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key())
        node = await self.node()
        intent = await self.store.write(lambda tx: self.node_svids.record(tx, node, parse_key(key)))
        return Peer(
            tls_version="TLSv1.3",
            session_reused=False,
            spiffe_id=node.spiffe_id,
            serial=intent.recorded.credential.serial,
            key_hash=thumbprint(key),
            not_after=self.clock.now() + timedelta(days=1),
        )

    async def node(self) -> Node:
        found = await self.store.read(lambda tx: tx.nodes.get(a_node().id))
        assert found is not None
        return found

    async def call(self, peer: Peer, on_clone: OnClone = OnClone.BAN) -> str:
        """Why the call is refused; empty: it is not."""
        refusals = RefusalRecord(around=around(self.clock), datastore=self.store)
        clones = CloneAlarm(
            datastore=self.store,
            around=around(self.clock, troubles=self.troubles),
            watch=EnforcementWatch(around=around(self.clock)),
            on_clone=on_clone,
        )
        admit = AdmitCall(
            datastore=self.store, refusals=refusals, clones=clones, around=around(self.clock), trust_domain=TRUST_DOMAIN
        )
        try:
            await admit(peer)
        except Refused as refused:
            return refused.detail
        return ""

    async def replaced(self) -> tuple[Peer, Peer]:
        """An SVID of the node that was replaced a while ago, and the one that took its place."""
        old = await self.svid()
        assert await self.call(old) == ""
        new = await self.svid()
        assert await self.call(new) == ""
        self.clock.advance(HANDOVER)
        return old, new

    async def taint(self) -> None:
        row = replace(self.authority, tainted_at=NOW)
        await self.store.write(lambda tx: tx.authorities.put(row))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store, clock, signing = await SQLiteDatastore.open(None), FakeClock(NOW), await x509_authority()
    await store.write(lambda tx: tx.authorities.put(signing.authority))
    await store.write(lambda tx: tx.nodes.put(replace(a_node(), current_serial="")))
    yield House(
        clock=clock,
        store=store,
        troubles=Troubles(clock),
        node_svids=NodeSVIDs(
            issuance=issuance(store, clock, GivenKeys(signing.key)),
            around=around(clock),
            trust_domain=TRUST_DOMAIN,
            ttl=timedelta(hours=1),
        ),
        authority=signing.authority,
    )
    await store.close()


async def test_alarm_refuses_it_and_leaves_the_node_alone(house: House) -> None:
    old, new = await house.replaced()
    assert "suspected clone" in await house.call(old, OnClone.ALARM)
    assert await house.call(new) == ""


async def test_ban_bans_the_node_and_ends_what_was_signed_for_it(house: House) -> None:
    old, new = await house.replaced()
    assert "suspected clone" in await house.call(old)
    assert (await house.node()).state is NodeState.BANNED
    assert await house.call(new) == "node: banned"
    ended = await house.store.read(lambda tx: tx.ledger.find(LedgerFilter(is_revoked=True), before=0, limit=10))
    assert {row.serial for row in ended} == {old.serial, new.serial}
    rows = [json.loads(row.body) for row in await house.store.read(lambda tx: tx.audit.rows(after=0, limit=100))]
    (banned,) = [row for row in rows if row["action"] == "node banned"]
    assert (banned["actor"], banned["facts"]) == (
        "issuer",
        {"why": f"a replaced SVID was shown again, {old.serial}"},
    )
    (revoked,) = [row for row in rows if row["action"] == "revoked"]
    assert (revoked["actor"], revoked["facts"]["reason"]) == ("issuer", "keyCompromise")


async def test_a_call_that_was_under_way_while_the_svid_was_replaced_is_no_clone(house: House) -> None:
    old = await house.svid()
    await house.call(old)
    await house.call(await house.svid())
    house.clock.advance(HANDOVER - timedelta(seconds=1))
    assert "suspected clone" in await house.call(old)
    assert (await house.node()).state is NodeState.ACTIVE


async def test_renewals_faster_than_that_do_not_hide_a_clone(house: House) -> None:
    old = await house.svid()
    await house.call(old)
    for _ in range(4):
        await house.call(await house.svid())
        assert (await house.node()).state is NodeState.ACTIVE
        house.clock.advance(HANDOVER / 4)
    assert len((await house.node()).replaced) == 4, "as many as within a minute, and no more"
    assert "suspected clone" in await house.call(old)
    assert (await house.node()).state is NodeState.BANNED


async def test_an_svid_that_was_never_used_and_replaced_is_a_clones(house: House) -> None:
    await house.call(await house.svid())
    first, _ = await house.svid(), await house.svid()
    assert "suspected clone" in await house.call(first)
    assert (await house.node()).state is NodeState.ACTIVE, "it was replaced a moment ago"
    house.clock.advance(HANDOVER)
    assert "suspected clone" in await house.call(first)
    assert (await house.node()).state is NodeState.BANNED


async def test_what_is_not_on_record_for_its_key_bans_nobody(house: House) -> None:
    old, _ = await house.replaced()
    for forged in (replace(old, key_hash="00"), replace(old, serial=f"{2**127:x}")):
        assert "suspected clone" in await house.call(forged)
    assert (await house.node()).state is NodeState.ACTIVE


async def test_the_status_tells_it_for_a_day(house: House) -> None:
    old, _ = await house.replaced()
    await house.call(old, OnClone.ALARM)
    house.clock.advance(timedelta(hours=23))
    await house.call(old, OnClone.ALARM)
    house.clock.advance(timedelta(hours=23))
    (told,) = house.troubles.all()
    assert (told.what, told.times) == ("suspected clone of node n1", 2)
    house.clock.advance(timedelta(hours=1))
    assert not house.troubles.all()


async def test_the_nodes_serial_with_another_key_is_refused_and_is_no_clone(house: House) -> None:
    _, new = await house.replaced()
    assert await house.call(replace(new, key_hash="00")) == (
        "node SVID: expected the key that is on record for its serial, found a different key"
    )
    assert (await house.node()).state is NodeState.ACTIVE
    assert not house.troubles.all()


async def test_after_a_restore_what_the_ledger_does_not_know_is_refused_while_an_authority_is_tainted(
    house: House,
) -> None:
    _, new = await house.replaced()
    unknown = replace(new, serial=f"{2**127:x}")
    node = replace(await house.node(), is_unconfirmed=True)
    await house.store.write(lambda tx: tx.nodes.put(node))
    await house.taint()
    assert "on record while an authority is tainted" in await house.call(unknown)
    assert await house.call(new) == ""
    untainted, again = house.authority, replace(await house.node(), is_unconfirmed=True)
    await house.store.write(lambda tx: tx.authorities.put(untainted))
    await house.store.write(lambda tx: tx.nodes.put(again))
    assert await house.call(unknown) == ""
    await house.taint()
    assert "on record while an authority is tainted" in await house.call(unknown), "confirmed, but not on record"
