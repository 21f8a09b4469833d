"""An authority with a long list is replaced, step by step, on a store in memory; whoever starts anew goes on from the rows."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from cognomen.daemon.troubles import Troubles
from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.crl import LARGE_BYTES, MOST_LISTED, is_full
from issuer.decisions.ledger import Credential, CredentialKind
from issuer.decisions.revocation import Reason, RevocationKind, Target
from issuer.flows.command_authorities import CommandAuthorities
from issuer.flows.publish_crl import PublishCRLs
from issuer.flows.relieve_authorities import RelieveAuthorities
from issuer.flows.revoke import Revoke
from issuer.flows.rotate_authority import RotateAuthority
from issuer.keepers.authority_outlook import AuthorityOutlook, RotationPolicy
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keymanager.memory import MemoryKeyManager
from issuer.metrics import Metrics
from issuer.queries import Queries
from svid.keys import KeyID
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import TRUST_DOMAIN
from tests.doubles.issuersurroundings import around
from tests.doubles.until import until

FULL = 22_000
NODE = NodeID("n1")
SPREAD = timedelta(minutes=10)
WEB = SpiffeID.parse("spiffe://example.org/web")


@dataclass(kw_only=True)
class House:
    """An issuer without doors, which one attestor follows."""

    store: SQLiteDatastore
    clock: FakeClock = field(default_factory=FakeClock)
    keys: MemoryKeyManager = field(default_factory=MemoryKeyManager)
    listed: dict[KeyID, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin with what the store and the keys hold, as after a kill."""
        self.troubles, metrics = Troubles(self.clock), Metrics()
        deferred = DeferredWrites(
            datastore=self.store, around=around(self.clock, troubles=self.troubles, metrics=metrics)
        )
        self.watch = EnforcementWatch(around=around(self.clock, metrics=metrics))
        way = issuance(self.store, self.clock, self.keys, deferred=deferred)
        self.guard = ClockGuard(datastore=self.store, around=around(self.clock))
        outlook = AuthorityOutlook(
            datastore=self.store,
            around=around(self.clock),
            guard=self.guard,
            policy=RotationPolicy(lifetime=timedelta(days=14), spread=SPREAD),
            watch=self.watch,
        )
        self.rotate = RotateAuthority(
            datastore=self.store,
            issuance=way,
            keys=self.keys,
            around=around(self.clock, troubles=self.troubles, metrics=metrics),
            trust_domain=TRUST_DOMAIN,
            outlook=outlook,
        )
        self.publish = PublishCRLs(
            datastore=self.store,
            issuance=way,
            around=around(self.clock, troubles=self.troubles, metrics=metrics),
            watch=EnforcementWatch(around=around(self.clock, metrics=metrics)),
        )
        self.relieve = RelieveAuthorities(
            outlook=outlook,
            commands=CommandAuthorities(
                datastore=self.store,
                issuance=way,
                keys=self.keys,
                outlook=outlook,
                watch=self.watch,
                bring_forward=self.rotate,
                wake=self.rotate.wake,
                around=around(self.clock),
                return_window=timedelta(days=5),
            ),
            listed=lambda: self.listed,
            around=around(self.clock, troubles=self.troubles),
            guard=self.guard,
        )

    async def hear(self) -> None:
        """The attestor has everything."""
        head = await self.store.read(lambda tx: tx.changes.head())
        self.watch.begin(NODE)
        self.watch.stands(NODE, head.number)

    async def look(self) -> str:
        """Take the steps that are due now, authorities and relief alike; what the relief waits for then."""
        await self.rotate()
        await self.relieve()
        return "".join(one.reason for one in self.troubles.all())

    async def x509(self) -> dict[AuthorityState, list[KeyID]]:
        found: dict[AuthorityState, list[KeyID]] = {}
        for row in await self.store.read(lambda tx: tx.authorities.list()):
            if row.kind is AuthorityKind.X509:
                found.setdefault(row.state, []).append(row.key_id)
        return found

    async def active(self) -> KeyID:
        (found,) = (await self.x509())[AuthorityState.ACTIVE]
        return found

    async def row(self, key_id: KeyID) -> Authority:
        rows = await self.store.read(lambda tx: tx.authorities.list())
        return next(one for one in rows if one.key_id == key_id)

    async def sign(self, by: KeyID, *serials: int, entry: str = "innocent") -> None:
        rows = [
            Credential(
                kind=CredentialKind.X509,
                serial=f"{serial:032x}",
                spiffe_id=WEB,
                entry_id=EntryID(entry),
                node_id=NODE,
                authority_id=by,
                issued_at=self.clock.now(),
                not_after=self.clock.now() + timedelta(hours=12),
            )
            for serial in serials
        ]
        await self.store.write(lambda tx: tx.ledger.record(rows))

    async def audit(self) -> list[str]:
        rows = await self.store.read(lambda tx: tx.audit.rows(after=0, limit=10_000))
        return [row.body.decode() for row in rows]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await SQLiteDatastore.open(None)
    house = House(store=store)
    await house.rotate()
    await house.hear()
    yield house
    await store.close()


async def full(house: House) -> KeyID:
    """The active authority, whose list is too long now, and which signed one SVID that is in use."""
    first = await house.active()
    house.listed = {first: FULL}
    await house.sign(first, 1)
    return first


@pytest.mark.parametrize("is_killed", [False, True], ids=["runs", "killed between all steps"])
async def test_what_the_full_one_signed_is_replaced_under_the_next_one_and_then_it_leaves(
    house: House, *, is_killed: bool
) -> None:
    first = await full(house)
    (second,) = (await house.x509())[AuthorityState.NEXT]

    async def look() -> str:
        if is_killed:
            house.start()
            await house.hear()
        return await house.look()

    # 1. The next one signs once it has been published for the spread time, not before.
    await look()
    assert f"{second} to sign in its place, which waits for the spread time" in await look()
    assert await house.active() == first
    house.clock.advance(SPREAD)
    await look()
    assert await house.active() == second
    # 2. What the full one signed is to be replaced, and it is accepted until all is.
    assert (await house.row(first)).tainted_at is not None
    await house.hear()
    assert "1 of its SVIDs to be replaced" in await look()
    await house.sign(second, 2)
    assert "workloads to have what replaced its SVIDs" in await look()
    assert (await house.row(first)).is_published
    # 3. Then it goes, with its key and its list, and nothing more happens.
    house.clock.advance(timedelta(seconds=15))
    await house.look()
    assert first in (await house.x509())[AuthorityState.RETIRED]
    assert first not in await house.keys.list()
    assert await house.store.read(lambda tx: tx.crls.get(first)) is None
    assert len((await Queries(house.store, TRUST_DOMAIN).get_bundle()).x509_authorities) == 2
    assert not await look()
    assert await house.active() == second


async def test_whoever_starts_again_waits_again_until_workloads_have_what_was_minted(house: House) -> None:
    first = await full(house)
    await house.look()
    house.clock.advance(SPREAD)
    await house.look()
    await house.hear()
    await house.sign(await house.active(), 2)
    house.start()
    await house.hear()
    await house.look()
    house.clock.advance(timedelta(seconds=14))
    assert "workloads to have" in await house.look()
    house.clock.advance(timedelta(seconds=1))
    await house.look()
    assert not (await house.row(first)).is_published


async def test_each_step_is_on_record_with_its_reason(house: House) -> None:
    first = await full(house)
    await house.look()
    house.clock.advance(SPREAD)
    await house.look()
    await house.hear()
    await house.sign(await house.active(), 2)
    await house.look()
    house.clock.advance(timedelta(seconds=15))
    await house.look()
    for action in ("authority rotation asked", "authority tainted", "authority revoked"):
        (row,) = [row for row in await house.audit() if f'"{action}"' in row]
        assert all(text in row for text in ('"actor":"issuer"', f"{FULL} certificates", first)), action


async def test_an_innocent_who_cannot_be_reached_is_not_cut_off(house: House) -> None:
    first = await full(house)
    await house.look()
    house.clock.advance(SPREAD)
    await house.look()
    await house.hear()
    house.clock.advance(timedelta(hours=11))
    assert "1 of its SVIDs to be replaced or to expire" in await house.look()
    assert (await house.row(first)).is_published


async def test_nothing_leaves_while_no_attestor_is_connected_or_one_does_not_know(house: House) -> None:
    first = await full(house)
    await house.look()
    house.clock.advance(SPREAD)
    await house.look()
    await house.sign(await house.active(), 2)
    assert "every connected attestor to acknowledge" in await house.look()
    house.watch.end(NODE)
    house.clock.advance(timedelta(minutes=1))
    assert "every connected attestor to acknowledge" in await house.look()
    assert (await house.row(first)).is_published


async def test_nothing_leaves_by_a_clock_that_is_not_trusted(house: House) -> None:
    first = await full(house)
    await house.look()
    house.clock.advance(SPREAD)
    await house.look()
    await house.hear()
    house.clock.jump(timedelta(hours=13))  # by which nothing that it signed is in use
    for _ in range(2):
        assert "a clock that is trusted" in await house.look()
        house.clock.advance(timedelta(minutes=1))
    assert (await house.row(first)).is_published


async def test_a_revocation_of_everything_again_and_again_moves_an_authority_at_most_once_in_the_spread_time(
    house: House,
) -> None:
    signed_by = set()
    for minute in range(60):
        active = await house.active()
        signed_by.add(active)
        house.listed[active] = FULL
        await house.sign(active, minute + 1, entry=f"e{minute}")
        await house.look()
        house.clock.advance(timedelta(minutes=1))
        if minute % 3 == 0:
            house.start()
            await house.hear()
    assert len(signed_by) == 3, "two that have not left hold the third one back"
    assert "2 others with long lists" in await house.look()
    assert len((await Queries(house.store, TRUST_DOMAIN).get_bundle()).x509_authorities) <= 4


async def test_without_a_next_one_it_goes_on_signing_until_there_is_one(house: House) -> None:
    first = await full(house)
    (following,) = (await house.x509())[AuthorityState.NEXT]
    await house.relieve.commands.revoke(following, at_once=True, reason=Reason.UNSPECIFIED, comment="", actor="uid:0")
    await house.relieve()
    (trouble,) = house.troubles.all()
    assert "a next authority to be made" in trouble.reason
    assert await house.active() == first
    await house.look()
    assert "to sign in its place" in await house.look()


async def test_what_was_tainted_by_an_operator_meanwhile_is_taken_as_it_is(house: House) -> None:
    first = await full(house)
    await house.relieve.commands.taint(first, at_once=False, reason=Reason.KEY_COMPROMISE, comment="", actor="uid:0")
    await house.hear()
    assert "1 of its SVIDs to be replaced" in await house.look()


async def test_a_short_list_moves_nobody(house: House) -> None:
    first = await full(house)
    house.listed[first] = 20_000
    before = await house.audit()
    assert not await house.look()
    assert await house.audit() == before


async def test_a_list_that_has_become_short_again_is_no_trouble(house: House) -> None:
    first = await full(house)
    assert await house.look()
    house.listed[first] = 0
    assert not await house.look()


async def test_what_fails_is_told_and_tried_again(house: House) -> None:
    first = await full(house)
    house.listed = {KeyID("x"): FULL}
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.relieve.run())
        await until(lambda: house.clock.sleepers == 1)
        assert not house.troubles.all(), "an authority that is gone"
        house.listed = {first: FULL}
        await house.store.close()
        house.clock.advance(5)
        await until(lambda: bool(house.troubles.all()))
        (trouble,) = house.troubles.all()
        assert trouble.what == "replacement of authorities with long lists"
        running.cancel()


class TestLists:
    async def test_the_certificates_on_each_list_are_counted_and_a_list_over_a_mebibyte_is_full(
        self, house: House
    ) -> None:
        first = await house.active()
        serials = range(2**127, 2**127 + FULL)
        await house.sign(first, *serials)
        revoke = Revoke(datastore=house.store, around=around(house.clock), watch=house.watch)
        target = Target(kind=RevocationKind.SVID, serials=tuple(f"{serial:032x}" for serial in serials))
        await revoke(target, reason=Reason.KEY_COMPROMISE, comment="", dry_run=False, actor="uid:0")
        assert await house.publish()
        (second,) = (await house.x509())[AuthorityState.NEXT]
        assert house.publish.listed == {first: FULL, second: 0}
        row = await house.store.read(lambda tx: tx.crls.get(first))
        assert row is not None
        assert len(row.der) > LARGE_BYTES
        assert is_full(FULL)

    async def test_one_that_has_left_the_bundle_is_counted_no_more(self, house: House) -> None:
        first = await house.active()
        assert await house.publish()
        await house.relieve.commands.revoke(first, at_once=True, reason=Reason.UNSPECIFIED, comment="", actor="uid:0")
        await house.publish()
        assert first not in house.publish.listed

    async def test_a_list_that_nobody_could_read_is_not_signed_and_gets_no_number(self, house: House) -> None:
        first = await house.active()
        await house.publish()
        before = await house.store.read(lambda tx: tx.crls.get(first))
        serials = range(2**127, 2**127 + MOST_LISTED + 1)
        await house.sign(first, *serials)
        revoke = Revoke(datastore=house.store, around=around(house.clock), watch=house.watch)
        target = Target(kind=RevocationKind.SPIFFE_ID, spiffe_id=WEB)
        await revoke(target, reason=Reason.KEY_COMPROMISE, comment="", dry_run=False, actor="uid:0")
        house.clock.advance(2)
        assert not await house.publish()
        assert await house.store.read(lambda tx: tx.crls.get(first)) == before
        assert is_full(house.publish.listed[first]), "so that another takes its place"
        (trouble,) = house.troubles.all()
        assert f"entries: expected at most {MOST_LISTED}" in trouble.reason
