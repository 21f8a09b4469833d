"""What is recorded of exports, what a look at the issuer says of them, and what an operator may not do without --force: in memory."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from cognomen.daemon.troubles import Trouble
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.exports import MOST_EXPORTS
from issuer.decisions.identity import IssuerIdentity
from issuer.decisions.revocation import Reason
from issuer.flows.command_authorities import CommandAuthorities
from issuer.flows.observe_issuer import ObserveIssuer
from issuer.flows.record_exports import RecordExports
from issuer.flows.renew_issuer_svid import RenewIssuerSVID
from issuer.flows.restore_store import RestoreStore
from issuer.flows.rotate_authority import RotateAuthority
from issuer.keepers.authority_outlook import AuthorityOutlook, RotationPolicy
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.review_dates import ReviewDates
from issuer.keymanager.memory import MemoryKeyManager
from tests.doubles.clock import FakeClock
from tests.doubles.issuancelimits import issuance_limits
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import TRUST_DOMAIN
from tests.doubles.issuersurroundings import around

ACTOR = "uid:0"
DAY = timedelta(days=1)
JWT, X509 = AuthorityKind.JWT, AuthorityKind.X509


@dataclass(frozen=True, kw_only=True)
class House:
    clock: FakeClock
    store: SQLiteDatastore
    rotate: RotateAuthority
    command: CommandAuthorities
    record: RecordExports
    observe: ObserveIssuer

    async def rows(self) -> list[Authority]:
        return list(await self.store.read(lambda tx: tx.authorities.list()))

    async def one(self, state: AuthorityState, kind: AuthorityKind = JWT) -> Authority:
        (row,) = [row for row in await self.rows() if row.kind is kind and row.state is state]
        return row

    async def export(self, name: str = "openai", *, form: str = "jwks", digest: str = "0" * 64) -> None:
        """Of the whole bundle, as it is now."""
        key_ids = [row.key_id for row in await self.rows() if row.is_published]
        await self.record(name, form, key_ids, digest, actor=ACTOR)

    async def audit(self, action: str) -> list[str]:
        rows = await self.store.read(lambda tx: tx.audit.rows(after=0, limit=10_000))
        return [text for text in (row.body.decode() for row in rows) if f'"action":"{action}"' in text]

    async def troubles(self) -> list[Trouble]:
        return list((await self.observe()).troubles)

    def value(self, name: str, export: str = "openai") -> float | None:
        registry = self.observe.around.metrics.registry
        return registry.get_sample_value(f"cognomen_issuer_export_{name}", {"name": export})


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store, clock, keys = await SQLiteDatastore.open(None), FakeClock(), MemoryKeyManager()
    own = around(clock, jitter=lambda: 0.0)
    guard = ClockGuard(datastore=store, around=own)
    deferred = DeferredWrites(datastore=store, around=own)
    watch = EnforcementWatch(around=own)
    way = issuance(store, clock, keys, deferred=deferred)
    policy = RotationPolicy(lifetime=14 * DAY, spread=timedelta(minutes=10))
    outlook = AuthorityOutlook(datastore=store, around=own, guard=guard, policy=policy, watch=watch)
    rotate = RotateAuthority(
        datastore=store, issuance=way, keys=keys, around=own, outlook=outlook, trust_domain=TRUST_DOMAIN
    )
    await rotate()
    command = CommandAuthorities(
        datastore=store,
        issuance=way,
        keys=keys,
        outlook=outlook,
        watch=watch,
        bring_forward=rotate,
        wake=rotate.wake,
        around=own,
        return_window=5 * DAY,
    )
    renew = RenewIssuerSVID(datastore=store, issuance=way, around=own, trust_domain=TRUST_DOMAIN, ttl=DAY)
    presented: list[IssuerIdentity] = [await renew()]
    observe = ObserveIssuer(
        trust_domain=TRUST_DOMAIN,
        started_at=clock.now(),
        around=own,
        datastore=store,
        watch=watch,
        outlook=outlook,
        guard=guard,
        deferred=deferred,
        limits=issuance_limits(clock),
        feeds=lambda: 0,
        svid=lambda: presented[0],
        damage=str,
        reviews=ReviewDates(datastore=store, clock=clock),
    )
    record = RecordExports(datastore=store, outlook=outlook, around=own)
    yield House(clock=clock, store=store, rotate=rotate, command=command, record=record, observe=observe)
    await store.close()


def moment(value: float | None) -> datetime:
    assert value is not None
    return datetime.fromtimestamp(value).astimezone()


async def test_an_export_of_the_whole_bundle_is_no_trouble_and_one_that_is_behind_is_until_it_is_repeated(
    house: House,
) -> None:
    await house.export()
    assert await house.troubles() == []
    assert (house.value("behind"), house.value("breaks_timestamp_seconds")) == (0, None)
    house.clock.advance(60)
    key_id = await house.command.prepare(JWT, actor=ACTOR)
    (trouble,) = await house.troubles()
    assert (trouble.what, key_id in trouble.reason) == ("export of the bundle openai", True)
    assert trouble.reason.count("cognomen bundle ") == 1
    assert house.value("behind") == 1
    planned = (await house.record.all())[0].breaks_at
    assert moment(house.value("breaks_timestamp_seconds")) == planned == house.clock.now() + 14 * DAY * 3 / 7
    await house.export()
    assert await house.troubles() == []
    assert (house.value("behind"), house.value("breaks_timestamp_seconds")) == (0, None)


async def test_an_export_breaks_when_the_issuer_says_so(house: House) -> None:
    """The rotation itself is asked: it must not let an authority sign before the time that was told."""
    await house.export()
    house.clock.advance(6 * DAY)
    await house.rotate()
    (found,) = await house.record.all()
    assert found.breaks_at is not None
    assert found.breaks_at > house.clock.now()
    house.clock.advance((found.breaks_at - house.clock.now()).total_seconds() - 1)
    await house.rotate()
    assert (await house.one(AuthorityState.ACTIVE)).key_id not in found.missing
    house.clock.advance(1)
    await house.rotate()
    assert (await house.one(AuthorityState.ACTIVE)).key_id == found.missing[0]


async def test_a_revoked_authority_that_an_export_still_has_is_told_as_such(house: House) -> None:
    await house.export()
    revoked = await house.one(AuthorityState.ACTIVE)
    await house.command.revoke(revoked.key_id, at_once=True, reason=Reason.KEY_COMPROMISE, comment="", actor=ACTOR)
    (trouble,) = await house.troubles()
    assert f"it still has {revoked.key_id}, revoked but trusted there" in trouble.reason
    assert (house.value("behind"), house.value("revoked_authorities")) == (1, 1)
    await house.export()
    assert (await house.troubles(), house.value("revoked_authorities")) == ([], 0)


async def test_an_export_with_the_same_authorities_has_no_second_row_and_one_that_was_forgotten_no_gauge(
    house: House,
) -> None:
    for digest in ("0" * 64, "1" * 64):
        house.clock.advance(60)
        await house.export(digest=digest)
    assert len(await house.audit("bundle exported")) == 1
    (found,) = await house.record.all()
    assert (found.export.digest, found.export.at) == ("1" * 64, house.clock.now())
    await house.record.forget("openai", actor=ACTOR)
    await house.observe()
    assert (await house.record.all(), house.value("behind")) == ([], None)
    assert len(await house.audit("export forgotten")) == 1
    with pytest.raises(Refused, match="no export has the name 'openai'"):
        await house.record.forget("openai", actor=ACTOR)
    assert '"decision":"refused"' in (await house.audit("export forgotten"))[1]


async def test_what_is_refused_is_on_record_and_changes_nothing(house: House) -> None:
    await house.export()
    with pytest.raises(Refused, match="openai is an export of the format jwks, found pem"):
        await house.export(form="pem")
    with pytest.raises(Refused, match="expected authorities of this issuer"):
        await house.record("b", "jwks", ["jwt-0"], "0" * 64, actor=ACTOR)
    with pytest.raises(Refused, match=r"^name: expected"):
        await house.export(name="../a")
    assert ['"decision":"refused"' in row for row in await house.audit("bundle exported")] == [False, True, True, True]
    assert [one.export.name for one in await house.record.all()] == ["openai"]


@pytest.mark.parametrize(("kind", "form"), [(JWT, "jwks"), (X509, "pem"), (X509, "spiffe")])
async def test_no_command_lets_an_authority_sign_that_an_export_lacks_unless_it_is_forced(
    house: House, kind: AuthorityKind, form: str
) -> None:
    await house.export(form=form)
    active = await house.one(AuthorityState.ACTIVE, kind)
    house.clock.advance(60)
    key_id = await house.command.prepare(kind, actor=ACTOR)
    refusals = f"expected every export of the bundle to have {key_id}, which signs then; found openai without it"
    with pytest.raises(Refused, match=refusals) as refused:
        await house.command.ask(kind, at_once=False, actor=ACTOR)
    assert (refused.value.kind, "cognomen bundle exports" in refused.value.hint) == (Kind.CONFLICT, True)
    with pytest.raises(Refused, match=refusals):
        await house.command.activate(key_id, at_once=False, actor=ACTOR)
    with pytest.raises(Refused, match=refusals):
        await house.command.taint(active.key_id, at_once=False, reason=Reason.KEY_COMPROMISE, comment="", actor=ACTOR)
    assert await house.audit("exports cut off") == []
    await house.command.activate(key_id, at_once=True, actor=ACTOR)
    (row,) = await house.audit("exports cut off")
    assert '"exports":"openai"' in row
    assert key_id in row
    other = X509 if kind is JWT else JWT
    assert not await house.command.ask(other, at_once=False, actor=ACTOR)


async def test_a_command_is_not_held_up_by_a_relying_party_that_is_cut_off_already(house: House) -> None:
    await house.export()
    for _ in range(2):
        house.clock.advance(60)
        key_id = await house.command.prepare(JWT, actor=ACTOR)
        await house.command.activate(key_id, at_once=True, actor=ACTOR)
    assert len(await house.audit("exports cut off")) == 1


async def test_after_a_restore_nobody_knows_what_was_exported_since(house: House) -> None:
    await house.export()
    await RestoreStore(datastore=house.store, clock=house.clock)(actor=ACTOR, made_at=house.clock.now() - DAY)
    await house.rotate()
    (found,) = await house.record.all()
    assert (found.export.key_ids, found.export.digest, found.is_behind) == (frozenset(), "", True)
    assert "export of the bundle openai" in [one.what for one in await house.troubles()]
    await house.export()
    assert not (await house.record.all())[0].is_behind


async def test_an_export_that_fails_is_shown_for_a_while_and_a_watch_tells_it_again_before(house: House) -> None:
    await house.record.failed("openai")
    (trouble,) = await house.troubles()
    assert trouble.what == "command of the bundle export of openai"
    assert trouble.reason.startswith("failed; its relying party has no copy yet")
    house.clock.advance(5 * 60)
    await house.record.failed("openai")
    assert (await house.troubles())[0].times == 2
    house.clock.advance(10 * 60)
    assert await house.troubles() == []


async def test_what_cannot_be_an_export_is_no_failed_one(house: House) -> None:
    with pytest.raises(Refused, match="name: expected at most 64"):
        await house.record.failed("a b")
    for number in range(MOST_EXPORTS):
        await house.export(f"party-{number}")
    with pytest.raises(Refused, match="expected fewer than 64, found 64"):
        await house.record.failed("one-more")
    await house.record.failed("party-3")
