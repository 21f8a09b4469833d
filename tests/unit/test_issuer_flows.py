"""The issuer's small flows on a store in memory and a clock that stands still."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

import pytest

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import LedgerFilter, Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions import authority
from issuer.decisions.audit import CredentialState
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.flows.audit_refusals import AuditRefusals
from issuer.flows.defer_writes import DeferWrites
from issuer.flows.hold_keys import HoldKeys
from issuer.flows.rotate_authority import RotateAuthority
from issuer.keymanager.memory import MemoryKeyManager
from issuer.queries import get_bundle
from issuer.upstream.self_signed import SelfSigned
from svid.keys import KeyID, KeyKind, SigningKey
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import TRUST_DOMAIN
from tests.doubles.until import until


@pytest.fixture
async def store() -> AsyncIterator[SQLiteDatastore]:
    opened = await SQLiteDatastore.open(None)
    yield opened
    await opened.close()


async def audit(store: SQLiteDatastore) -> list[str]:
    return [row.body.decode() for row in await store.read(lambda tx: tx.audit.rows(after=0, limit=10_000))]


class TestAuditRefusals:
    async def test_the_first_is_recorded_and_those_like_it_are_counted_in_the_next(
        self, store: SQLiteDatastore
    ) -> None:
        clock = FakeClock()
        refusals = AuditRefusals(datastore=store, clock=clock)
        for _ in range(5):
            await refusals.record(Refused(Kind.DENIED, "no"), actor="stranger", action="join")
        assert len(await audit(store)) == 1
        clock.advance(60)
        await refusals.record(Refused(Kind.DENIED, "no"), actor="stranger", action="join")
        assert '"unrecorded before":"4"' in (await audit(store))[1]

    async def test_another_actor_action_or_reason_is_another_row(self, store: SQLiteDatastore) -> None:
        refusals = AuditRefusals(datastore=store, clock=FakeClock())
        for actor, action, reason in (("a", "b", "c"), ("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x")):
            await refusals.record(Refused(Kind.DENIED, reason), actor=actor, action=action)
        assert len(await audit(store)) == 4

    async def test_a_flood_of_kinds_is_bounded(self, store: SQLiteDatastore) -> None:
        clock = FakeClock()
        refusals = AuditRefusals(datastore=store, clock=clock)
        for number in range(200):
            await refusals.record(Refused(Kind.INVALID, f"found {number}"), actor="stranger", action="join")
        rows = await audit(store)
        assert len(rows) == 129
        assert "too many kinds of refusal" in rows[-1]
        clock.advance(60)
        await refusals.record(Refused(Kind.INVALID, "found another"), actor="stranger", action="join")
        assert len(await audit(store)) == 130

    async def test_a_store_that_is_not_there_is_no_decision(self, store: SQLiteDatastore) -> None:
        refusals = AuditRefusals(datastore=store, clock=FakeClock())
        await refusals.record(Refused(Kind.UNAVAILABLE, "full"), actor="stranger", action="join")
        assert not await audit(store)


class TestDeferWrites:
    async def test_what_gathers_is_written_in_one_transaction(self, store: SQLiteDatastore) -> None:
        clock = FakeClock()
        deferred = DeferWrites(datastore=store, clock=clock)
        seen: list[tuple[int, Transaction]] = []

        def note(number: int, tx: Transaction) -> None:
            seen.append((number, tx))

        async with asyncio.TaskGroup() as group:
            task = group.create_task(deferred.run())
            for number in range(3):
                deferred.put(partial(note, number))
            await until(lambda: clock.sleepers == 1)
            assert not seen
            clock.advance(1)
            await until(lambda: len(seen) == 3)
            task.cancel()
        assert [number for number, _ in seen] == [0, 1, 2]
        assert len({id(tx) for _, tx in seen}) == 1

    async def test_a_write_that_is_cancelled_is_written_by_the_last_flush(self, store: SQLiteDatastore) -> None:
        deferred = DeferWrites(datastore=store, clock=FakeClock())
        seen: list[Transaction] = []
        deferred.put(seen.append)
        async with asyncio.TaskGroup() as group:
            group.create_task(deferred.flush()).cancel()
            flushing = group.create_task(deferred.flush())
            await asyncio.sleep(0)
            flushing.cancel()
        seen.clear()
        await deferred.flush()
        assert len(seen) == 1

    async def test_what_waits_is_bounded(self, store: SQLiteDatastore) -> None:
        deferred = DeferWrites(datastore=store, clock=FakeClock())
        seen: list[Transaction] = []
        for _ in range(10_001):
            deferred.put(seen.append)
        await deferred.flush()
        assert len(seen) == 10_000

    async def test_a_store_that_is_gone_loses_it_with_a_word_and_no_more(self, store: SQLiteDatastore) -> None:
        deferred = DeferWrites(datastore=store, clock=FakeClock())
        deferred.put(lambda _: None)
        await store.close()
        await deferred.flush()
        await deferred.flush()


def rotate(store: SQLiteDatastore, keys: MemoryKeyManager, clock: FakeClock) -> RotateAuthority:
    return RotateAuthority(
        datastore=store,
        keys=keys,
        upstream=SelfSigned(),
        clock=clock,
        trust_domain=TRUST_DOMAIN,
        lifetime=timedelta(days=14),
    )


class TestRotateAuthority:
    async def test_from_nothing_one_of_each_kind_signs_and_one_waits(self, store: SQLiteDatastore) -> None:
        keys = MemoryKeyManager()
        await rotate(store, keys, FakeClock())()
        rows = await store.read(lambda tx: tx.authorities.list())
        assert sorted((row.kind, row.state) for row in rows) == sorted(
            (kind, state) for kind in AuthorityKind for state in (AuthorityState.ACTIVE, AuthorityState.NEXT)
        )
        assert sorted(await keys.list()) == sorted(row.key_id for row in rows)

    async def test_a_second_time_nothing_is_due(self, store: SQLiteDatastore) -> None:
        flow = rotate(store, MemoryKeyManager(), FakeClock())
        await flow()
        before = await store.read(lambda tx: (tx.authorities.list(), tx.bundles.sequence(), tx.changes.head()))
        await flow()
        assert await store.read(lambda tx: (tx.authorities.list(), tx.bundles.sequence(), tx.changes.head())) == before

    async def test_every_publication_is_a_new_sequence_and_a_change(self, store: SQLiteDatastore) -> None:
        await rotate(store, MemoryKeyManager(), FakeClock())()
        bundle = await get_bundle(store, TRUST_DOMAIN)
        assert bundle.sequence == 4
        assert (await store.read(lambda tx: tx.changes.head())).number == 4

    async def test_a_key_that_a_former_attempt_made_is_taken(self, store: SQLiteDatastore) -> None:
        clock, keys = FakeClock(), MemoryKeyManager()
        row = authority.intended(AuthorityKind.X509, KeyID("x509-former"), now=clock.now(), ttl=timedelta(days=14))
        await store.write(lambda tx: tx.authorities.put(row))
        made = await keys.generate(row.key_id, KeyKind.EC_P256)
        await rotate(store, keys, clock)()
        assert (await keys.get(row.key_id)).public_key == made.public_key
        assert (
            authority.active(await store.read(lambda tx: tx.authorities.list()), AuthorityKind.X509).key_id
            == row.key_id
        )

    async def test_each_certificate_stands_in_the_ledger(self, store: SQLiteDatastore) -> None:
        await rotate(store, MemoryKeyManager(), FakeClock())()
        rows = await store.read(lambda tx: tx.ledger.find(LedgerFilter(), before=0, limit=10))
        assert [(row.kind, row.state) for row in rows] == [("authority", CredentialState.ISSUED)] * 2

    async def test_a_key_that_cannot_be_had_is_no_new_key(self, store: SQLiteDatastore) -> None:
        class Broken(MemoryKeyManager):
            async def get(self, key_id: KeyID) -> SigningKey:
                raise Refused(Kind.UNAVAILABLE, f"key {key_id}: disk")

        keys = Broken()
        with pytest.raises(Refused, match="disk"):
            await rotate(store, keys, FakeClock())()
        assert not await keys.list()


async def test_a_missing_key_is_unavailable_and_says_what_to_do(store: SQLiteDatastore) -> None:
    await rotate(store, MemoryKeyManager(), FakeClock())()
    rows: list[Authority] = list(await store.read(lambda tx: tx.authorities.list()))
    held = HoldKeys(keys=MemoryKeyManager())
    for kind, sign in ((AuthorityKind.X509, held.sign_x509), (AuthorityKind.JWT, held.sign_jwt)):
        with pytest.raises(Refused) as refused:
            await sign([], authority.active(rows, kind))
        assert refused.value.kind is Kind.UNAVAILABLE
        assert refused.value.hint
