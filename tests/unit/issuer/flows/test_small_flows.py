"""The issuer's small flows on a store in memory and a clock that stands still."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from cognomen.daemon.troubles import Troubles
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions import authority
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.changes import Change, ChangeKind, has_gap
from issuer.decisions.filters import LedgerFilter
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from issuer.decisions.uses import UseFilter
from issuer.flows.forget_authorities import ForgetAuthorities
from issuer.flows.prune import Prune
from issuer.flows.rotate_authority import RotateAuthority
from issuer.keepers.authority_outlook import AuthorityOutlook, RotationPolicy
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.refusal_record import RefusalRecord
from issuer.keymanager.memory import MemoryKeyManager
from issuer.queries import Queries
from issuer.works.authorities import ask_in
from svid.keys import KeyID, KeyKind, SigningKey
from tests.doubles.clock import FakeClock
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, a_token
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore
from tests.doubles.until import pass_until, until
from tests.doubles.uses import a_use


@pytest.fixture
async def store() -> AsyncIterator[SQLiteDatastore]:
    opened = await SQLiteDatastore.open(None)
    yield opened
    await opened.close()


async def audit(store: SQLiteDatastore) -> list[str]:
    return [row.body.decode() for row in await store.read(lambda tx: tx.audit.rows(after=0, limit=10_000))]


class TestDeferredWrites:
    async def test_what_gathers_is_written_in_one_transaction(self, store: SQLiteDatastore) -> None:
        clock = FakeClock()
        deferred = DeferredWrites(around=around(clock), datastore=store)
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
        deferred = DeferredWrites(around=around(FakeClock()), datastore=store)
        seen: list[Transaction] = []
        deferred.put(seen.append)
        async with asyncio.TaskGroup() as group:
            group.create_task(deferred.flush()).cancel()
            flushing = group.create_task(deferred.flush())
            await asyncio.sleep(0)
            flushing.cancel()
        await store.write(
            lambda _: None
        )  # the store's thread may be at the cancelled write, and does this one after it
        seen.clear()
        await deferred.flush()
        assert len(seen) == 1

    async def test_a_write_that_was_lost_is_told_until_the_store_takes_writes_though_nobody_writes_again(
        self, store: SQLiteDatastore
    ) -> None:
        clock, refusing = FakeClock(), RefusingStore(store)
        troubles = Troubles(clock)
        deferred = DeferredWrites(around=around(clock, troubles=troubles), datastore=refusing)
        refusing.is_full = True
        async with asyncio.TaskGroup() as group:
            task = group.create_task(deferred.run())
            deferred.put(lambda _: None)
            await pass_until(clock, lambda: bool(troubles.all()))
            end = clock.monotonic() + 60
            await pass_until(clock, lambda: clock.monotonic() >= end)
            assert [one.what for one in troubles.all()] == ["deferred writes"]
            refusing.is_full = False
            await pass_until(clock, lambda: not troubles.all())
            task.cancel()

    async def test_what_waits_is_bounded(self, store: SQLiteDatastore) -> None:
        deferred = DeferredWrites(around=around(FakeClock()), datastore=store)
        seen: list[Transaction] = []
        for _ in range(10_001):
            deferred.put(seen.append)
        await deferred.flush()
        assert len(seen) == 10_000

    async def test_a_store_that_is_gone_loses_it_with_a_word_and_no_more(self, store: SQLiteDatastore) -> None:
        deferred = DeferredWrites(around=around(FakeClock()), datastore=store)
        deferred.put(lambda _: None)
        await store.close()
        await deferred.flush()
        await deferred.flush()


def rotate(
    store: SQLiteDatastore,
    keys: MemoryKeyManager,
    clock: FakeClock,
    *,
    acknowledged: int | None = None,
    deferred: DeferredWrites | None = None,
) -> RotateAuthority:
    watch = EnforcementWatch(around=around(clock))
    if acknowledged is not None:
        watch.begin(NodeID("n"))
        watch.stands(NodeID("n"), acknowledged)
    outlook = AuthorityOutlook(
        datastore=store,
        around=around(clock),
        guard=ClockGuard(datastore=store, around=around(clock)),
        policy=RotationPolicy(lifetime=timedelta(days=14), spread=timedelta(minutes=10)),
        watch=watch,
    )
    return RotateAuthority(
        around=around(clock),
        datastore=store,
        issuance=issuance(store, clock, keys, deferred=deferred),
        keys=keys,
        trust_domain=TRUST_DOMAIN,
        outlook=outlook,
    )


class TaintingKeys(MemoryKeyManager):
    """Where a key is looked for in vain, an operator taints its authority at that moment."""

    def __init__(self, store: SQLiteDatastore, clock: FakeClock) -> None:
        super().__init__()
        self.watched: Authority | None = None
        self._store, self._clock = store, clock

    async def get(self, key_id: KeyID) -> SigningKey:
        if self.watched is not None and key_id == self.watched.key_id:
            row = authority.tainted(self.watched, change=1, now=self._clock.now())
            self.watched = None
            await self._store.write(lambda tx: tx.authorities.put(row))
        return await super().get(key_id)


async def next_of(store: SQLiteDatastore) -> Authority:
    rows = await store.read(lambda tx: tx.authorities.list())
    (row,) = [one for one in rows if one.kind is AuthorityKind.X509 and one.state is AuthorityState.NEXT]
    return row


async def active_of(store: SQLiteDatastore, kind: AuthorityKind) -> Authority:
    return authority.active(await store.read(lambda tx: tx.authorities.list()), kind, now=NOW)


async def bundle_certificates(store: SQLiteDatastore) -> list[bytes]:
    bundle = await Queries(store, TRUST_DOMAIN).get_bundle()
    return [certificate.public_bytes(Encoding.DER) for certificate in bundle.x509_authorities]


def signed_by(row: Authority, not_after: datetime) -> Credential:
    return Credential(
        kind=CredentialKind.X509,
        serial="5e",
        spiffe_id=TRUST_DOMAIN.id,
        authority_id=row.key_id,
        issued_at=row.not_before,
        not_after=not_after,
    )


async def trusting(store: SQLiteDatastore, clock: FakeClock) -> ClockGuard:
    """The guard of a clock that has been looked at once, and found in order."""
    guard = ClockGuard(datastore=store, around=around(clock))
    assert await guard.is_trusted()
    return guard


class TestClockGuard:
    async def test_a_clock_that_goes_on_is_trusted_and_remembered(self, store: SQLiteDatastore) -> None:
        clock = FakeClock()
        guard = ClockGuard(datastore=store, around=around(clock))
        for _ in range(3):
            assert await guard.is_trusted()
            clock.advance(timedelta(hours=5))
        assert await store.read(lambda tx: tx.times.high_water()) == clock.now() - timedelta(hours=5)

    @pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(days=7)])
    async def test_a_jump_is_doubted_until_it_is_undone(self, store: SQLiteDatastore, jump: timedelta) -> None:
        clock = FakeClock()
        guard = await trusting(store, clock)
        clock.jump(jump)
        assert not await guard.is_trusted()
        assert guard.doubt
        clock.jump(-jump)
        assert await guard.is_trusted()
        rows = [row for row in await audit(store) if '"clock looked at"' in row]
        assert ['"refused"' in row for row in rows] == [True, False]

    async def test_a_doubt_ends_once_the_clock_went_on_evenly_for_longer_than_anything_is_valid(
        self, store: SQLiteDatastore
    ) -> None:
        clock = FakeClock()
        guard = await trusting(store, clock)
        clock.jump(timedelta(days=8))
        assert not await guard.is_trusted()
        end = clock.now() + timedelta(days=1, minutes=2)
        assert f"until {end:%Y-%m-%dT%H:%M:%SZ}, or until you run: cognomen issuer confirm-clock" in guard.doubt
        clock.advance(end - clock.now() - timedelta(seconds=1))
        assert not await guard.is_trusted()
        clock.advance(1)
        assert await guard.is_trusted()
        assert guard.doubt == ""
        assert await store.read(lambda tx: tx.times.high_water()) == end
        assert await ClockGuard(datastore=store, around=around(clock)).is_trusted(), "as is the next process"

    async def test_a_clock_that_is_set_again_meanwhile_is_doubted_for_as_long_from_there(
        self, store: SQLiteDatastore
    ) -> None:
        clock = FakeClock()
        guard = await trusting(store, clock)
        clock.jump(timedelta(days=8))
        assert not await guard.is_trusted()
        clock.advance(timedelta(hours=23))
        clock.jump(timedelta(hours=-1))
        assert not await guard.is_trusted()
        clock.advance(timedelta(hours=23))
        assert not await guard.is_trusted()
        clock.advance(timedelta(hours=2))
        assert await guard.is_trusted()

    async def test_a_clock_that_was_set_back_and_trusted_is_what_the_store_remembers(
        self, store: SQLiteDatastore
    ) -> None:
        clock = FakeClock()
        guard = await trusting(store, clock)
        clock.jump(timedelta(days=-8))
        assert not await guard.is_trusted()
        clock.advance(timedelta(days=1, minutes=2))
        assert await guard.is_trusted()
        assert await ClockGuard(datastore=store, around=around(clock)).is_trusted()

    async def test_a_machine_that_slept_for_two_months_has_a_clock_that_is_trusted(
        self, store: SQLiteDatastore
    ) -> None:
        clock = FakeClock()
        guard = await trusting(store, clock)
        clock.suspend(timedelta(days=60))
        assert await guard.is_trusted()

    async def test_an_operator_may_say_that_it_is_right(self, store: SQLiteDatastore) -> None:
        clock = FakeClock()
        guard = await trusting(store, clock)
        clock.jump(timedelta(days=7))
        assert not await guard.is_trusted()
        assert await guard.confirm(actor="uid:0") == clock.now()
        assert await guard.is_trusted()

    async def test_after_a_start_it_is_compared_with_what_the_store_remembers(self, store: SQLiteDatastore) -> None:
        clock = FakeClock()
        assert await ClockGuard(datastore=store, around=around(clock)).is_trusted()
        clock.advance(timedelta(days=1))
        assert await ClockGuard(datastore=store, around=around(clock)).is_trusted()
        clock.advance(timedelta(days=2))
        assert not await ClockGuard(datastore=store, around=around(clock)).is_trusted()


def pruning(store: SQLiteDatastore, clock: FakeClock, guard: ClockGuard) -> Prune:
    refusals = RefusalRecord(datastore=store, around=around(clock))
    return Prune(datastore=store, around=around(clock), guard=guard, refusals=refusals, uses_kept=timedelta(days=90))


class TestPrune:
    async def test_the_newest_changes_stay_and_a_follower_before_them_has_a_gap(self, store: SQLiteDatastore) -> None:
        clock = FakeClock()
        rows = [Change(kind=ChangeKind.NODE, subject=str(number)) for number in range(10_005)]
        await store.write(lambda tx: tx.changes.append(rows))
        await pruning(store, clock, ClockGuard(datastore=store, around=around(clock)))()
        kept = await store.read(lambda tx: tx.changes.after(0, limit=1))
        assert [row.number for row in kept] == [5]
        head = await store.read(lambda tx: tx.changes.head())
        assert head.number == 10_005
        assert has_gap(kept, replace(head, number=0), head)

    async def test_tokens_that_are_over_are_forgotten_after_a_day_by_a_clock_that_is_trusted(
        self, store: SQLiteDatastore
    ) -> None:
        clock = FakeClock(NOW)
        token = a_token()
        await store.write(lambda tx: tx.tokens.put(token))
        guard = ClockGuard(datastore=store, around=around(clock))
        prune = pruning(store, clock, guard)
        await prune()
        clock.jump(timedelta(days=2))
        await prune()
        assert await store.read(lambda tx: tx.tokens.get(token.hash)) == token
        await guard.confirm(actor="uid:0")
        await prune()
        assert await store.read(lambda tx: tx.tokens.get(token.hash)) is None

    async def test_uses_are_forgotten_90_days_after_the_last_by_a_clock_that_is_trusted(
        self, store: SQLiteDatastore
    ) -> None:
        clock = FakeClock(NOW)
        used = [a_use(first_at=NOW, last_at=NOW), a_use(pid=1, first_at=NOW, last_at=NOW + timedelta(days=1))]
        await store.write(lambda tx: tx.uses.note(a_node().id, used, most=10, most_bytes=10_000))
        guard = ClockGuard(datastore=store, around=around(clock))
        prune = pruning(store, clock, guard)
        await prune()
        clock.jump(timedelta(days=90, seconds=1))
        await prune()
        assert len(await store.read(lambda tx: tx.uses.find(UseFilter(), after=0, limit=10))) == 2
        await guard.confirm(actor="uid:0")
        await prune()
        (left,) = await store.read(lambda tx: tx.uses.find(UseFilter(), after=0, limit=10))
        assert left.use.pid == 1


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
        bundle = await Queries(store, TRUST_DOMAIN).get_bundle()
        assert bundle.sequence == 4
        changes = await store.read(lambda tx: tx.changes.after(0, limit=100))
        assert [change.kind for change in changes].count(ChangeKind.BUNDLE) == 4

    async def test_a_key_that_a_former_attempt_made_is_taken(self, store: SQLiteDatastore) -> None:
        clock, keys = FakeClock(), MemoryKeyManager()
        row = authority.intended(AuthorityKind.X509, KeyID("x509-former"), now=clock.now(), ttl=timedelta(days=14))
        await store.write(lambda tx: tx.authorities.put(row))
        made = await keys.generate(row.key_id, KeyKind.EC_P256)
        await rotate(store, keys, clock)()
        assert (await keys.get(row.key_id)).public_key == made.public_key
        assert (
            authority.active(
                await store.read(lambda tx: tx.authorities.list()), AuthorityKind.X509, now=clock.now()
            ).key_id
            == row.key_id
        )

    async def test_each_certificate_stands_in_the_ledger(self, store: SQLiteDatastore) -> None:
        clock = FakeClock()
        deferred = DeferredWrites(around=around(clock), datastore=store)
        await rotate(store, MemoryKeyManager(), clock, deferred=deferred)()
        await deferred.flush()
        rows = await store.read(lambda tx: tx.ledger.find(LedgerFilter(), before=0, limit=10))
        assert [(row.kind, row.state) for row in rows] == [("authority", CredentialState.ISSUED)] * 2

    async def test_by_time_the_next_one_signs_the_old_one_leaves_and_its_key_is_destroyed(
        self, store: SQLiteDatastore
    ) -> None:
        clock, keys = FakeClock(), MemoryKeyManager()
        flow = rotate(store, keys, clock)
        await flow()
        before = authority.active(
            await store.read(lambda tx: tx.authorities.list()), AuthorityKind.X509, now=clock.now()
        )
        following = await next_of(store)
        await store.write(lambda tx: tx.ledger.record([signed_by(before, clock.now() + timedelta(days=6, hours=1))]))
        clock.advance(timedelta(days=6))
        await flow()
        rows = {row.key_id: row for row in await store.read(lambda tx: tx.authorities.list())}
        assert rows[before.key_id].state is AuthorityState.OLD
        assert rows[following.key_id].state is AuthorityState.ACTIVE
        assert before.key_id in await keys.list()
        sequence = (await Queries(store, TRUST_DOMAIN).get_bundle()).sequence or 0
        clock.advance(timedelta(hours=1, seconds=31))
        await flow()
        assert before.key_id not in await keys.list()
        assert ((await Queries(store, TRUST_DOMAIN).get_bundle()).sequence or 0) > sequence
        assert not any(before.certificate in row for row in await bundle_certificates(store))
        assert any('"authority retired"' in row for row in await audit(store))

    async def test_an_activation_is_a_change_so_that_the_issuers_own_svid_follows(self, store: SQLiteDatastore) -> None:
        clock = FakeClock()
        flow = rotate(store, MemoryKeyManager(), clock)
        await flow()
        head = (await store.read(lambda tx: tx.changes.head())).number
        clock.advance(timedelta(days=6))
        await flow()
        kinds = [row.kind for row in await store.read(lambda tx: tx.changes.after(head, limit=100))]
        assert ChangeKind.AUTHORITY in kinds

    async def test_a_step_that_crashes_is_taken_again(self, store: SQLiteDatastore) -> None:
        class Crashing(MemoryKeyManager):
            crashes = 2

            async def generate(self, key_id: KeyID, kind: KeyKind) -> SigningKey:
                key = await super().generate(key_id, kind)
                self.crashes -= 1
                if self.crashes >= 0:
                    raise Refused(Kind.UNAVAILABLE, "crash after the key was made")
                return key

        keys = Crashing()
        for _ in range(2):
            with pytest.raises(Refused, match="crash"):
                await rotate(store, keys, FakeClock())()
        await rotate(store, keys, FakeClock())()
        rows = await store.read(lambda tx: tx.authorities.list())
        assert sorted(await keys.list()) == sorted(row.key_id for row in rows)
        assert len(rows) == 4

    async def test_the_key_of_a_retired_authority_that_a_crash_left_behind_is_destroyed(
        self, store: SQLiteDatastore
    ) -> None:
        clock, keys = FakeClock(), MemoryKeyManager()
        await rotate(store, keys, clock)()
        row = await next_of(store)
        await store.write(lambda tx: tx.authorities.put(authority.retired(row)))
        await rotate(store, keys, clock)()
        assert row.key_id not in await keys.list()

    async def test_a_key_that_is_gone_is_not_let_sign(self, store: SQLiteDatastore) -> None:
        clock, keys = FakeClock(), MemoryKeyManager()
        flow = rotate(store, keys, clock)
        await flow()
        following = await next_of(store)
        await keys.delete(following.key_id)
        clock.advance(timedelta(days=6))
        await flow()
        rows = {row.key_id: row for row in await store.read(lambda tx: tx.authorities.list())}
        assert rows[following.key_id].state is AuthorityState.RETIRED
        assert any("its key is gone" in row for row in await audit(store))

    async def test_what_an_operator_does_between_two_looks_is_not_written_over(self, store: SQLiteDatastore) -> None:
        clock = FakeClock()
        keys = TaintingKeys(store, clock)
        flow = rotate(store, keys, clock)
        await flow()
        following = await next_of(store)
        await keys.delete(following.key_id)
        keys.watched = following
        clock.advance(timedelta(days=6))
        await flow()
        rows = {row.key_id: row for row in await store.read(lambda tx: tx.authorities.list())}
        assert rows[following.key_id].tainted_at is not None

    async def test_where_the_key_of_what_signs_is_gone_the_next_one_signs_at_once(self, store: SQLiteDatastore) -> None:
        clock, keys = FakeClock(), MemoryKeyManager()
        await rotate(store, keys, clock)()
        lost, following = await active_of(store, AuthorityKind.X509), await next_of(store)
        await keys.delete(lost.key_id)
        await rotate(store, keys, clock)()
        assert (await active_of(store, AuthorityKind.X509)).key_id == following.key_id
        rows = {row.key_id: row for row in await store.read(lambda tx: tx.authorities.list())}
        assert rows[lost.key_id].is_suspect
        assert any('"authority not let sign again"' in row and lost.key_id in row for row in await audit(store))

    async def test_where_no_key_is_left_that_the_nodes_know_none_is_made_unasked(self, store: SQLiteDatastore) -> None:
        clock, keys = FakeClock(), MemoryKeyManager()
        await rotate(store, keys, clock)()
        lost, following = await active_of(store, AuthorityKind.X509), await next_of(store)
        for row in (lost, following):
            await keys.delete(row.key_id)
        before = await store.read(lambda tx: (tx.authorities.list(), tx.changes.head()))
        with pytest.raises(Refused, match=f"the key of {lost.key_id}, which signs, is gone") as refused:
            await rotate(store, keys, clock)()
        assert "cognomen issuer forget-authorities" in refused.value.hint
        assert await store.read(lambda tx: (tx.authorities.list(), tx.changes.head())) == before

    async def test_one_more_that_an_operator_has_prepared_is_a_way_out(self, store: SQLiteDatastore) -> None:
        clock, keys = FakeClock(), MemoryKeyManager()
        flow = rotate(store, keys, clock)
        await flow()
        for row in (await active_of(store, AuthorityKind.X509), await next_of(store)):
            await keys.delete(row.key_id)
        row = authority.intended(AuthorityKind.X509, KeyID("asked"), now=clock.now(), ttl=timedelta(days=14))
        await store.write(lambda tx: tx.authorities.put(row))
        await flow()
        assert (await active_of(store, AuthorityKind.X509)).key_id == "asked"

    async def test_where_the_keys_of_jwt_authorities_are_gone_others_are_made(self, store: SQLiteDatastore) -> None:
        clock, keys = FakeClock(), MemoryKeyManager()
        await rotate(store, keys, clock)()
        for key_id in [one for one in await keys.list() if one.startswith("jwt-")]:
            await keys.delete(key_id)
        await rotate(store, keys, clock)()
        assert (await active_of(store, AuthorityKind.JWT)).key_id in await keys.list()

    async def test_authorities_whose_keys_are_lost_for_good_are_forgotten_and_others_made(
        self, store: SQLiteDatastore
    ) -> None:
        clock, keys = FakeClock(), MemoryKeyManager()
        await rotate(store, keys, clock)()
        forget = ForgetAuthorities(datastore=store, keys=keys, clock=clock)
        with pytest.raises(Refused, match="every key is there"):
            await forget(actor="uid:0")
        lost = {(await active_of(store, AuthorityKind.X509)).key_id, (await next_of(store)).key_id}
        for key_id in lost:
            await keys.delete(key_id)
        assert set(await forget(actor="uid:0")) == lost
        assert any('"authority retired"' in row and '"uid:0"' in row for row in await audit(store))
        await rotate(store, keys, clock)()
        assert (await active_of(store, AuthorityKind.X509)).key_id in await keys.list()
        assert len((await Queries(store, TRUST_DOMAIN).get_bundle()).x509_authorities) == 2

    async def test_an_operator_who_asks_waits_for_the_spread_time_and_is_on_record(
        self, store: SQLiteDatastore
    ) -> None:
        clock, keys = FakeClock(), MemoryKeyManager()
        flow = rotate(store, keys, clock)
        await flow()
        following = await next_of(store)
        await store.write(lambda tx: ask_in(tx, AuthorityKind.X509, actor="uid:0", now=clock.now()))
        await flow()
        assert (await next_of(store)).key_id == following.key_id
        assert any("the spread time" in waits for _, waits in await flow.outlook.rows())
        clock.advance(timedelta(minutes=10))
        await flow()
        assert (await next_of(store)).key_id != following.key_id
        assert any('"authority rotation asked"' in row and '"uid:0"' in row for row in await audit(store))

    async def test_while_the_clock_is_doubted_authorities_are_activated_and_none_is_retired(
        self, store: SQLiteDatastore
    ) -> None:
        clock, keys = FakeClock(), MemoryKeyManager()
        flow = rotate(store, keys, clock)
        await flow()
        first, following = [row for row, _ in await flow.outlook.rows() if row.kind is AuthorityKind.X509]
        clock.jump(timedelta(days=7))
        await flow()
        rows = {row.key_id: (row.state, waits) for row, waits in await flow.outlook.rows()}
        assert rows[following.key_id] == (AuthorityState.ACTIVE, "")
        assert rows[first.key_id] == (
            AuthorityState.OLD,
            "a clock that is trusted, as status says; nothing is lost by waiting",
        )
        assert first.key_id in await keys.list()
        await flow.outlook.guard.confirm(actor="uid:0")
        await flow()
        rows = {row.key_id: (row.state, waits) for row, waits in await flow.outlook.rows()}
        assert rows[first.key_id][0] is AuthorityState.RETIRED
        assert first.key_id not in await keys.list()

    async def test_a_key_that_cannot_be_had_is_no_new_key(self, store: SQLiteDatastore) -> None:
        class Broken(MemoryKeyManager):
            async def get(self, key_id: KeyID) -> SigningKey:
                raise Refused(Kind.UNAVAILABLE, f"key {key_id}: disk")

        keys = Broken()
        with pytest.raises(Refused, match="disk"):
            await rotate(store, keys, FakeClock())()
        assert not await keys.list()
