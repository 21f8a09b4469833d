"""Each authority has the list that the denials say, on a store in memory or on disk and a clock that stands still."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from attestor.decisions.crls import with_newest
from cognomen.daemon.troubles import Troubles
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.crl import SignedCRL, next_draft
from issuer.decisions.ledger import Credential, CredentialKind
from issuer.decisions.revocation import Live, Reason, Revocation, RevocationKind, Target
from issuer.flows.prune import Prune
from issuer.flows.publish_crl import PublishCRLs
from issuer.flows.restore_store import RestoreStore
from issuer.flows.revoke import Revoke
from issuer.flows.rotate_authority import RotateAuthority
from issuer.keepers.authority_outlook import AuthorityOutlook, RotationPolicy
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.refusal_record import RefusalRecord
from issuer.keymanager.memory import MemoryKeyManager
from issuer.metrics import FAILED, OK, Metrics
from issuer.queries import Queries
from issuer.recording import record_crl
from issuer.works.denials import deny_in
from svid.crl import CRL
from svid.denials import KEPT_FOR, OPEN_FOR
from svid.keys import KeyID, SigningKey
from tests.doubles.clock import FakeClock
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN
from tests.doubles.issuersurroundings import around
from tests.doubles.until import pass_until, until

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


class Keys(MemoryKeyManager):
    """Keys, some of which are not there for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.away: set[KeyID] = set()

    async def get(self, key_id: KeyID) -> SigningKey:
        if key_id in self.away:
            raise Refused(Kind.NOT_FOUND, "key: not there")
        return await super().get(key_id)


@dataclass(kw_only=True)
class House:
    """An issuer without doors."""

    store: SQLiteDatastore
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    keys: Keys = field(default_factory=Keys)

    def __post_init__(self) -> None:
        self.metrics, self.troubles = Metrics(), Troubles(self.clock)
        self.guard = ClockGuard(datastore=self.store, around=around(self.clock))
        self.watch = EnforcementWatch(around=around(self.clock, metrics=self.metrics))
        signing = issuance(self.store, self.clock, self.keys)
        self.publish = PublishCRLs(
            datastore=self.store,
            issuance=signing,
            around=around(self.clock, troubles=self.troubles, metrics=self.metrics),
            watch=self.watch,
        )
        outlook = AuthorityOutlook(
            datastore=self.store,
            around=around(self.clock),
            guard=self.guard,
            policy=RotationPolicy(lifetime=timedelta(days=14), spread=timedelta(minutes=10)),
            watch=EnforcementWatch(around=around(self.clock)),
        )
        self.rotate = RotateAuthority(
            around=around(self.clock, troubles=self.troubles, metrics=self.metrics),
            datastore=self.store,
            issuance=signing,
            keys=self.keys,
            trust_domain=TRUST_DOMAIN,
            outlook=outlook,
        )
        self.prune = Prune(
            datastore=self.store,
            around=around(self.clock, troubles=self.troubles),
            guard=self.guard,
            refusals=RefusalRecord(datastore=self.store, around=around(self.clock, metrics=self.metrics)),
            uses_kept=timedelta(days=90),
        )

    async def authority(self, state: AuthorityState = AuthorityState.ACTIVE) -> Authority:
        rows = await self.store.read(lambda tx: tx.authorities.list())
        (found,) = [one for one in rows if one.kind is AuthorityKind.X509 and one.state is state]
        return found

    async def issue(
        self, *serials: int, kind: CredentialKind = CredentialKind.X509, ends_at: datetime | None = None
    ) -> None:
        """Put these into the ledger, by the active authority."""
        by = (await self.authority()).key_id
        rows = [
            Credential(
                kind=kind,
                serial=f"{serial:032x}",
                spiffe_id=TRUST_DOMAIN.id,
                authority_id=by,
                issued_at=self.clock.now(),
                not_after=ends_at or self.clock.now() + HOUR,
            )
            for serial in serials
        ]
        await self.store.write(lambda tx: tx.ledger.record(rows))

    async def revoke(self, *serials: int, reason: Reason = Reason.KEY_COMPROMISE) -> None:
        target = Target(kind=RevocationKind.SVID, serials=tuple(f"{serial:032x}" for serial in serials))
        revoke = Revoke(datastore=self.store, around=around(self.clock), watch=self.watch)
        await revoke(target, reason=reason, comment="", dry_run=False, actor="uid:0")

    async def row(self, authority: Authority | None = None) -> SignedCRL:
        key_id = (authority or await self.authority()).key_id
        found = await self.store.read(lambda tx: tx.crls.get(key_id))
        assert found is not None
        return found

    async def crl(self, authority: Authority | None = None) -> CRL:
        """The newest list of an authority, the active one if none is named, as a verifier would take it now."""
        crl = CRL.from_der((await self.row(authority)).der)
        crl.check(await Queries(self.store, TRUST_DOMAIN).get_bundle(), at=self.clock.now())
        return crl

    async def listed(self) -> set[int]:
        return set((await self.crl()).numbers())

    async def kept(self) -> int:
        return await self.store.read(lambda tx: sum(1 for _ in tx.denials.all()))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await SQLiteDatastore.open(None)
    house = House(store=store)
    await house.rotate()
    yield house
    await store.close()


async def test_every_authority_of_the_bundle_has_a_list_from_the_start_though_it_is_empty(house: House) -> None:
    assert await house.publish()
    bundle = await Queries(house.store, TRUST_DOMAIN).get_bundle()
    lists = [await house.crl(await house.authority(state)) for state in (AuthorityState.ACTIVE, AuthorityState.NEXT)]
    assert {crl.check(bundle, at=NOW) for crl in lists} == set(bundle.x509_authorities)
    assert [len(crl) for crl in lists] == [0, 0]
    assert house.metrics.registry.get_sample_value("cognomen_issuer_crls_signed_total", {"outcome": OK}) == 2


async def test_what_says_what_it_should_is_not_signed_again(house: House) -> None:
    await house.publish()
    before = await house.store.read(lambda tx: (tx.changes.head(), tx.audit.head()))
    assert await house.publish()
    assert await house.store.read(lambda tx: (tx.changes.head(), tx.audit.head())) == before


async def test_a_revoked_certificate_is_listed_with_its_reason_and_told_and_on_record(house: House) -> None:
    await house.publish()
    await house.issue(5, 6)
    house.clock.advance(SECOND * 1.5)
    await house.revoke(5)
    await house.publish()
    crl = await house.crl()
    by = (await house.authority()).key_id
    assert list(crl.entries()) == [(5, NOW + SECOND, x509.ReasonFlags.key_compromise)]
    assert (crl.this_update, crl.next_update) == (NOW + SECOND, (await house.authority()).not_after)
    assert crl.number == int((NOW + SECOND * 1.5).timestamp() * 1000)
    changes = await house.store.read(lambda tx: tx.changes.after(0, limit=1000))
    assert (changes[-1].kind, changes[-1].subject) == (ChangeKind.CRL, by)
    (row,) = (await house.store.read(lambda tx: tx.audit.rows(after=0, limit=1000)))[-1:]
    body = row.body.decode()
    assert all(text in body for text in ('"crl signed"', f'"{crl.number}"', '"certificates":"1"', by))


async def test_a_leak_that_is_learned_of_later_is_on_the_next_list(house: House) -> None:
    await house.issue(5, 6)
    await house.revoke(5, 6, reason=Reason.SUPERSEDED)
    await house.publish()
    before = await house.crl()
    house.clock.advance(SECOND * 2)
    await house.revoke(6)
    await house.publish()
    after = await house.crl()
    assert after.number > before.number
    assert list(after.entries()) == [
        (5, NOW, x509.ReasonFlags.superseded),
        (6, NOW, x509.ReasonFlags.key_compromise),
    ]
    house.clock.advance(SECOND * 2)
    await house.publish()
    assert (await house.crl()).number == after.number


async def test_it_is_measured_when_every_list_holds_a_revocation(house: House) -> None:
    await house.publish()
    await house.issue(5)
    house.clock.advance(SECOND * 1.5)
    await house.revoke(5)
    house.clock.advance(SECOND)
    for _ in range(2):
        await house.publish()
    value = house.metrics.registry.get_sample_value
    assert value("cognomen_issuer_revocation_listed_seconds_count") == 1
    assert value("cognomen_issuer_revocation_listed_seconds_sum") == 1


async def test_a_token_is_on_no_list(house: House) -> None:
    await house.publish()
    await house.issue(7, kind=CredentialKind.JWT)
    before = await house.row()
    await house.revoke(7)
    assert await house.publish()
    assert await house.row() == before


async def test_the_next_list_begins_a_second_later_however_soon_it_comes(house: House) -> None:
    await house.publish()
    first = await house.crl()
    await house.issue(5)
    await house.revoke(5)
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(house.publish())
        await until(lambda: house.clock.sleepers == 1)
        house.clock.advance(1)
        assert await publishing
    second = await house.crl()
    assert (second.this_update, second.is_newer_than(first)) == (first.this_update + SECOND, True)


async def test_what_is_revoked_while_a_list_waits_for_its_second_is_in_it(house: House) -> None:
    await house.publish()
    await house.issue(5, 6)
    await house.revoke(5)
    async with asyncio.TaskGroup() as group:
        publishing = group.create_task(house.publish())
        await until(lambda: house.clock.sleepers == 1)
        await house.revoke(6)
        house.clock.advance(1)
        assert await publishing
    assert await house.listed() == {5, 6}
    assert house.publish.listed[(await house.authority()).key_id] == 2


@pytest.mark.parametrize("kept", [0, 1], ids=["all of it", "the denials"])
async def test_it_looks_at_once_when_the_log_has_forgotten_what_came(house: House, kept: int) -> None:
    asked = Revocation(
        target=Target(kind=RevocationKind.SVID, serials=(f"{5:032x}",)),
        reason=Reason.UNSPECIFIED,
        comment="",
        actor="uid:0",
        at=NOW,
    )

    def deny_and_forget(tx: Transaction) -> None:
        deny_in(tx, asked, Live(serials=asked.target.serials))
        last = tx.changes.append([Change(kind=ChangeKind.NODE, subject="n")])
        tx.changes.prune(before=last + 1 - kept)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.publish.run())
        await until(lambda: house.clock.sleepers == 1)
        await house.issue(5)
        house.clock.advance(2)
        await house.store.write(deny_and_forget)
        async with asyncio.timeout(10):
            while await house.listed() != {5}:  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0)
        running.cancel()


async def test_a_clock_that_was_ahead_for_a_while_delays_no_list(house: House) -> None:
    house.clock.jump(timedelta(days=1))
    await house.publish()
    ahead = await house.row()
    house.clock.jump(timedelta(days=-1))
    await house.issue(5)
    await house.revoke(5)
    assert await house.publish()
    crl = await house.crl()
    assert (crl.this_update, crl.number) == (NOW, ahead.number + 1)


async def test_a_list_that_was_signed_by_a_clock_ahead_is_signed_anew_once_it_is_right_though_nothing_was_revoked(
    house: House,
) -> None:
    await house.issue(5, ends_at=NOW + timedelta(days=9))
    house.clock.jump(timedelta(days=8))
    await house.revoke(5)
    await house.publish()
    assert (await house.crl()).this_update > NOW
    house.clock.jump(timedelta(days=-8))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.publish.run())
        await until(lambda: house.clock.sleepers > 0)
        running.cancel()
    crl = await house.crl()
    assert crl.this_update == NOW, "no verifier waits for a week"
    assert await house.listed() == {5}


async def test_it_follows_the_log(house: House) -> None:
    await house.issue(5, 6)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.publish.run())
        await until(lambda: house.clock.sleepers == 1)
        assert await house.listed() == set()
        for serial, so_far in ((5, {5}), (6, {5, 6})):
            house.clock.advance(2)
            await house.store.write(lambda tx: tx.changes.append([Change(kind=ChangeKind.NODE, subject="n")]))
            await house.revoke(serial)
            async with asyncio.timeout(10):
                while await house.listed() != so_far:  # noqa: ASYNC110 - the store tells nobody
                    await asyncio.sleep(0)
        running.cancel()


async def test_what_was_revoked_when_the_issuer_was_killed_is_listed_at_the_next_start(tmp_path: Path) -> None:
    store = await SQLiteDatastore.open(tmp_path / "issuer.db")
    before = House(store=store)
    await before.rotate()
    await before.publish()
    await before.issue(5)
    before.clock.advance(5)
    await before.revoke(5)
    await store.close()
    store = await SQLiteDatastore.open(tmp_path / "issuer.db")
    after = House(store=store, clock=before.clock, keys=before.keys)
    assert await after.listed() == set()
    assert await after.publish()
    assert await after.listed() == {5}
    await store.close()


@pytest.mark.parametrize("ahead", [0, 600])
async def test_after_a_restore_every_list_is_signed_anew_so_that_it_replaces_one_from_after_the_backup(
    tmp_path: Path, ahead: int
) -> None:
    # 1. The backup is made before a revocation, whose list the attestors take.
    store = await SQLiteDatastore.open(tmp_path / "issuer.db")
    house = House(store=store)
    await house.rotate()
    await house.publish()
    first, second = await house.authority(), await house.authority(AuthorityState.NEXT)
    of_second = await house.crl(second)
    await house.issue(4)
    await house.revoke(4)
    house.clock.advance(2)
    await house.publish()
    await store.close()
    shutil.copy(tmp_path / "issuer.db", tmp_path / "backup.db")
    store = await SQLiteDatastore.open(tmp_path / "issuer.db")
    house = House(store=store, clock=house.clock, keys=house.keys)
    house.clock.jump(timedelta(seconds=2 + ahead))
    await house.issue(5)
    await house.revoke(5)
    await house.publish()
    held = [await house.crl(first), of_second]
    assert set(held[0].numbers()) == {4, 5}
    await store.close()
    # 2. The restored store does not know the revocation. Verifiers take its lists all the same, by their numbers and by their times.
    house.clock.jump(timedelta(seconds=2 - ahead))
    store = await SQLiteDatastore.open(tmp_path / "backup.db")
    restored = House(store=store, clock=house.clock, keys=house.keys)
    await RestoreStore(datastore=store, clock=house.clock)(actor="uid:0", made_at=NOW)
    assert await restored.publish()
    came = [await restored.crl(one) for one in (first, second)]
    assert [set(crl.numbers()) for crl in came] == [{4}, set()]
    bundle = await Queries(store, TRUST_DOMAIN).get_bundle()
    for old, new in zip(held, came, strict=True):
        assert with_newest((old,), new.der, bundle, at=house.clock.now()) == (new,)
        assert new.this_update > old.this_update or ahead
    # 3. Once is enough.
    assert await restored.publish()
    assert [await restored.crl(one) for one in (first, second)] == came
    await store.close()


async def test_a_number_that_was_given_away_before_the_issuer_was_killed_is_not_used_again(house: House) -> None:
    await house.publish()
    authority, last = await house.authority(), await house.row()
    draft = next_draft(authority, replace(last, number=last.number + 9), [], now=NOW)
    await house.store.write(lambda tx: record_crl(tx, draft, authority, now=NOW))
    assert (await house.row()).der == last.der
    await house.issue(5)
    house.clock.advance(2)
    await house.revoke(5)
    await house.publish()
    assert (await house.crl()).number > draft.number


async def test_an_authority_whose_key_is_gone_is_told_of_and_keeps_the_others_back_from_nothing(house: House) -> None:
    following = await house.authority(AuthorityState.NEXT)
    house.keys.away.add((await house.authority()).key_id)
    assert not await house.publish()
    assert len(await house.crl(following)) == 0
    (trouble,) = house.troubles.all()
    assert "its key is not available" in trouble.reason
    assert house.metrics.registry.get_sample_value("cognomen_issuer_crls_signed_total", {"outcome": FAILED}) == 1
    rows = await house.store.read(lambda tx: tx.audit.rows(after=0, limit=1000))
    signed = [row for row in rows if b"crl signed" in row.body]
    assert len(signed) == 1, "nothing is on record that nobody could sign"


async def test_what_failed_is_tried_again_and_then_forgotten(house: House) -> None:
    house.keys.away.add((await house.authority()).key_id)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.publish.run())
        await until(lambda: house.clock.sleepers == 1)
        assert house.troubles.all()
        house.keys.away.clear()
        await pass_until(house.clock, lambda: not house.troubles.all())
        running.cancel()
    assert await house.listed() == set()


async def test_a_store_that_closes_is_told_and_looked_at_again(house: House) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(house.publish.run())
        await until(lambda: house.clock.sleepers == 1)
        await house.store.close()
        await pass_until(house.clock, lambda: bool(house.troubles.all()))
        await until(lambda: house.clock.sleepers == 2)
        (before,) = house.troubles.all()
        for _ in range(100):
            await asyncio.sleep(0)
        assert [one.times for one in house.troubles.all()] == [before.times], "it does not look again at once"
        await pass_until(house.clock, lambda: house.troubles.all()[0].times > before.times)
        running.cancel()


async def test_the_trouble_of_an_authority_goes_with_it(house: House) -> None:
    first = await house.authority()
    house.keys.away.add(first.key_id)
    assert not await house.publish()
    await house.store.write(lambda tx: tx.authorities.put(replace(first, state=AuthorityState.RETIRED)))
    assert await house.publish()
    assert not house.troubles.all()


async def test_a_store_that_is_closed_is_told(house: House) -> None:
    await house.store.close()
    assert not await house.publish.attempt()
    assert house.troubles.all()


async def test_a_list_that_must_not_be_signed_gets_no_number(house: House) -> None:
    await house.publish()
    authority, last = await house.authority(), await house.row()
    draft = next_draft(authority, None, [], now=NOW)
    with pytest.raises(Refused, match="lint: CRL number") as refused:
        await house.store.write(lambda tx: record_crl(tx, draft, authority, now=NOW))
    assert refused.value.kind is Kind.INTERNAL
    assert await house.row() == last


class TestPruning:
    async def test_an_entry_leaves_after_a_list_beyond_its_certificates_end(self, house: House) -> None:
        await house.issue(5, ends_at=NOW + HOUR)
        await house.revoke(5)
        await house.publish()
        house.clock.advance(HOUR + KEPT_FOR + SECOND)
        await house.prune()
        assert (await house.kept(), await house.listed()) == (1, {5}), "no list was signed after its end"
        await house.publish()
        assert (await house.crl()).this_update > NOW + HOUR
        assert await house.listed() == {5}
        await house.prune()
        house.clock.advance(1)
        await house.publish()
        assert (await house.kept(), await house.listed()) == (1, set()), "a connection may be open"
        house.clock.advance(OPEN_FOR)
        await house.prune()
        assert await house.kept() == 0

    async def test_what_was_over_when_it_was_denied_is_on_no_list(self, house: House) -> None:
        await house.issue(5, ends_at=NOW + HOUR)
        house.clock.advance(HOUR + KEPT_FOR)
        await house.revoke(5)
        await house.publish()
        assert (await house.kept(), await house.listed()) == (1, set())

    async def test_a_token_leaves_without_any_list(self, house: House) -> None:
        await house.publish()
        await house.issue(7, kind=CredentialKind.JWT, ends_at=NOW + HOUR)
        await house.revoke(7)
        house.clock.advance(HOUR + KEPT_FOR)
        await house.prune()
        assert await house.kept() == 1
        house.clock.advance(SECOND)
        await house.prune()
        assert await house.kept() == 0

    async def test_nothing_leaves_by_a_clock_that_is_not_trusted(self, house: House) -> None:
        await house.publish()
        await house.issue(7, kind=CredentialKind.JWT, ends_at=NOW + HOUR)
        await house.revoke(7)
        assert await house.guard.is_trusted()
        house.clock.jump(timedelta(days=2))
        await house.prune()
        assert await house.kept() == 1

    async def test_what_a_retired_authority_signed_leaves_with_its_list(self, house: House) -> None:
        await house.issue(5, ends_at=NOW + HOUR)
        await house.revoke(5)
        await house.publish()
        first = await house.authority()
        house.clock.advance(timedelta(days=6))
        await house.rotate()
        house.clock.advance(timedelta(days=8, hours=1))
        await house.rotate()
        assert await house.store.read(lambda tx: tx.crls.get(first.key_id)) is None
        await house.prune()
        assert await house.kept() == 0
