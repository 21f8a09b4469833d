"""The nonces of a readmission, on a store in memory and a clock that the test moves."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import pytest

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from cognomen.protocol.possession import Purpose
from cognomen.protocol.readmission import readmission_bytes
from issuer.config import OnClone
from issuer.datastore.port import Datastore, Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.admission import NodeState, confirmed
from issuer.decisions.profile import serial_to_text
from issuer.flows.readmit_node import ReadmitNode, Shown
from issuer.keepers.clone_alarm import CloneAlarm
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.node_svids import NodeSVIDs
from issuer.keepers.refusal_record import RefusalRecord
from svid.encoding import certificate_from_der
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key, public_key_to_der
from tests.doubles.clock import FakeClock
from tests.doubles.issuances import GivenKeys, issuance
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, x509_authority
from tests.doubles.issuersurroundings import around
from tests.doubles.possession import possession

T = TypeVar("T")


class TickingClock(FakeClock):
    """A clock that goes on by itself whenever its monotonic time is read, as a real one does.

    Attributes:
        tick: by how many seconds.
    """

    tick = 0.0

    def monotonic(self) -> float:
        now = super().monotonic()
        if self.tick:
            self.advance(self.tick)
        return now


class SlowReads:
    """Another store, whose reads take as long as they are told to.

    Attributes:
        seconds: how long the next read takes.
    """

    def __init__(self, store: Datastore, clock: FakeClock) -> None:
        self._store = store
        self._clock = clock
        self.seconds = 0.0

    async def read(self, work: Callable[[Transaction], T]) -> T:
        self._clock.advance(self.seconds)
        return await self._store.read(work)

    async def write(self, work: Callable[[Transaction], T], *, expendable: bool = False) -> T:
        return await self._store.write(work, expendable=expendable)

    async def lacking_room(self) -> str:
        return await self._store.lacking_room()

    async def missing(self) -> str:
        return await self._store.missing()

    async def check(self) -> str:
        return await self._store.check()

    async def wait_for_change(self, after: int) -> int:
        return await self._store.wait_for_change(after)

    async def close(self) -> None:
        await self._store.close()


@dataclass(frozen=True, kw_only=True)
class House:
    """An issuer with one node, as far as a readmission goes."""

    clock: TickingClock
    store: SlowReads
    readmit: ReadmitNode
    leaf: bytes
    key: LocalSigningKey

    def shown(self, nonce: bytes) -> Shown:
        key = generate_private_key(KeyKind.EC_P256)
        public_key = public_key_to_der(key.public_key())
        return Shown(
            certificate=self.leaf,
            nonce=nonce,
            public_key=public_key,
            signature=self.key.sign(readmission_bytes(TRUST_DOMAIN, nonce, public_key)),
            key_signature=possession(key, Purpose.READMISSION, nonce),
        )

    async def refused(self, shown: Shown) -> str:
        with pytest.raises(Refused) as refused:
            await self.readmit(shown)
        assert refused.value.kind is Kind.UNAUTHENTICATED
        return refused.value.detail


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock = TickingClock(NOW)
    opened = await SQLiteDatastore.open(None)
    store, signing = SlowReads(opened, clock), await x509_authority()
    await store.write(lambda tx: tx.authorities.put(signing.authority))
    node_svids = NodeSVIDs(
        issuance=issuance(store, clock, GivenKeys(signing.key)),
        around=around(clock),
        trust_domain=TRUST_DOMAIN,
        ttl=timedelta(hours=1),
    )
    key = generate_private_key(KeyKind.EC_P256)
    intent = await store.write(lambda tx: node_svids.record(tx, a_node(), key.public_key()))
    credential = await node_svids.release(intent)
    readmit = ReadmitNode(
        datastore=store,
        node_svids=node_svids,
        refusals=RefusalRecord(around=around(clock), datastore=store),
        clones=CloneAlarm(
            datastore=store, around=around(clock), watch=EnforcementWatch(around=around(clock)), on_clone=OnClone.BAN
        ),
        around=around(clock),
        trust_domain=TRUST_DOMAIN,
        window=timedelta(days=5),
    )
    yield House(
        clock=clock,
        store=store,
        readmit=readmit,
        leaf=credential.chain[0],
        key=LocalSigningKey(KeyID("node"), key),
    )
    await store.close()


async def test_a_nonce_is_good_to_its_last_moment_and_once(house: House) -> None:
    nonce = house.readmit.begin()
    house.clock.advance(59.9)
    await house.readmit(house.shown(nonce))
    assert "nonce: already used" in await house.refused(house.shown(nonce))
    house.clock.advance(0.2)
    assert "nonce: expired" in await house.refused(house.shown(nonce))


async def test_a_used_nonce_that_ends_while_it_is_shown_again_is_not_forgotten_before(house: House) -> None:
    nonce = house.readmit.begin()
    house.clock.advance(59)
    await house.readmit(house.shown(nonce))
    house.store.seconds = 2
    assert "nonce: expired" in await house.refused(house.shown(nonce))


async def test_a_used_nonce_is_not_forgotten_between_two_looks_at_the_clock(house: House) -> None:
    nonce = house.readmit.begin()
    await house.readmit(house.shown(nonce))
    house.clock.advance(59.9985)
    house.clock.tick = 0.001  # a third look would come after the nonce's end
    assert "nonce: already used" in await house.refused(house.shown(nonce))


async def test_another_issuers_nonce_is_none(house: House) -> None:
    nonce = house.readmit.begin()
    bent = bytes([nonce[0] ^ 1]) + nonce[1:]
    assert "this issuer did not make it" in await house.refused(house.shown(bent))


async def test_used_nonces_are_forgotten_after_their_end(house: House) -> None:
    for _ in range(3):
        await house.readmit(house.shown(house.readmit.begin()))
        house.clock.advance(61)
    node = await house.store.read(lambda tx: tx.nodes.get(NodeID("n1")))
    assert node is not None
    assert node.pending_serial


async def test_a_node_whose_replaced_svid_is_shown_is_banned_where_that_is_configured(house: House) -> None:
    again = await house.readmit(house.shown(house.readmit.begin()))
    used = serial_to_text(certificate_from_der(again.chain[0]).serial_number)
    node = await house.store.read(lambda tx: tx.nodes.get(a_node().id))
    assert node is not None
    current = confirmed(node, used, now=house.clock.now())
    await house.store.write(lambda tx: tx.nodes.put(current))
    house.clock.advance(60)
    with pytest.raises(Refused, match="suspected clone"):
        await house.readmit(house.shown(house.readmit.begin()))
    banned = await house.store.read(lambda tx: tx.nodes.get(a_node().id))
    assert banned is not None
    assert banned.state is NodeState.BANNED
