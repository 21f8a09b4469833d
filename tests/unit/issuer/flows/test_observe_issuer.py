"""What an issuer's flows note and count, and what one look at it finds: on a store in memory that may refuse."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date, timedelta
from http import HTTPStatus

import pytest

from cognomen.daemon.troubles import Troubles
from cognomen.gate.health import HealthState
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.names import NodeID
from cognomen.protocol.receipts import Enforcement
from issuer.api.admin.status import status_to_pb
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.budget import Allowance
from issuer.decisions.identity import IssuerIdentity
from issuer.decisions.rulebooks import AppliedRulebook, HeldAgent
from issuer.decisions.sampling import Principal
from issuer.flows.change_entries import ChangeEntries
from issuer.flows.feed_attestors import FeedAttestors
from issuer.flows.issue_svids import IssueSVIDs, X509Request
from issuer.flows.observe_issuer import ObserveIssuer
from issuer.flows.renew_issuer_svid import RenewIssuerSVID
from issuer.flows.rotate_authority import RotateAuthority
from issuer.keepers.authority_outlook import AuthorityOutlook, RotationPolicy
from issuer.keepers.budgets import MintBudgets
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch, Standing
from issuer.keepers.refusal_record import RefusalRecord
from issuer.keepers.review_dates import ReviewDates
from issuer.keymanager.memory import MemoryKeyManager
from issuer.metrics import Metrics
from issuer.web.health import health_pages
from svid.keys import KeyKind, generate_private_key, public_key_to_der
from tests.doubles.clock import FakeClock
from tests.doubles.issuancelimits import issuance_limits
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import TRUST_DOMAIN, a_node, an_entry
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore
from tests.doubles.until import until
from tests.unit.cognomen.rulebook.books import CONCIERGE

HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class House:
    """An issuer's flows without doors."""

    clock: FakeClock
    store: RefusingStore
    rotate: RotateAuthority
    feed: FeedAttestors
    renew: RenewIssuerSVID
    deferred: DeferredWrites
    observe: ObserveIssuer

    def value(self, name: str, **labels: str) -> float | None:
        return self.observe.around.metrics.registry.get_sample_value(f"cognomen_issuer_{name}", labels)

    def troubles(self) -> list[str]:
        return [one.what for one in self.observe.around.troubles.all()]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    opened, clock = await SQLiteDatastore.open(None), FakeClock()
    store, troubles, metrics = RefusingStore(opened), Troubles(clock), Metrics()
    guard = ClockGuard(datastore=store, around=around(clock))
    deferred = DeferredWrites(datastore=store, around=around(clock, troubles=troubles, metrics=metrics))
    keys = MemoryKeyManager()
    way = issuance(store, clock, keys, deferred=deferred, metrics=metrics)
    watch = EnforcementWatch(around=around(clock, metrics=metrics))
    feed = FeedAttestors(
        datastore=store, deferred=deferred, watch=watch, around=around(clock), trust_domain=TRUST_DOMAIN
    )
    outlook = AuthorityOutlook(
        datastore=store,
        around=around(clock),
        guard=guard,
        policy=RotationPolicy(lifetime=timedelta(days=14), spread=timedelta(minutes=10)),
        watch=watch,
    )
    rotate = RotateAuthority(
        datastore=store,
        issuance=way,
        keys=keys,
        around=around(clock, jitter=lambda: 0.0, troubles=troubles, metrics=metrics),
        trust_domain=TRUST_DOMAIN,
        outlook=outlook,
    )
    await rotate()
    renew = RenewIssuerSVID(
        datastore=store,
        issuance=way,
        around=around(clock, jitter=lambda: 0.0, troubles=troubles, metrics=metrics),
        trust_domain=TRUST_DOMAIN,
        ttl=HOUR,
    )
    own = await renew()
    observe = ObserveIssuer(
        trust_domain=TRUST_DOMAIN,
        started_at=clock.now(),
        around=around(clock, troubles=troubles, metrics=metrics),
        datastore=store,
        watch=watch,
        outlook=outlook,
        feeds=lambda: feed.open,
        guard=guard,
        deferred=deferred,
        limits=issuance_limits(clock),
        svid=lambda: own,
        damage=lambda: store.damage,
        reviews=ReviewDates(datastore=store, clock=clock),
    )
    yield House(clock=clock, store=store, rotate=rotate, feed=feed, renew=renew, deferred=deferred, observe=observe)
    await opened.close()


async def test_a_renewal_of_the_issuers_own_svid_that_fails_is_told_and_tried_again_until_it_succeeds(
    house: House,
) -> None:
    presented: list[IssuerIdentity] = []
    first = await house.renew()
    before = house.value("svids_signed_total", kind="issuer") or 0
    house.clock.advance(HOUR / 2)
    house.store.refuses = True
    async with asyncio.TaskGroup() as group:
        task = group.create_task(house.renew.run(first, presented.append))
        await until(lambda: house.troubles() == ["issuer svid renewal"])
        assert house.value("svid_renewals_total", outcome="failed") == 1
        house.store.refuses = False
        house.clock.advance(1)
        await until(lambda: bool(presented))
        assert house.troubles() == []
        assert house.value("svid_renewals_total", outcome="ok") == before + 1
        assert house.value("svids_signed_total", kind="issuer") == before + 1
        task.cancel()


async def test_deferred_writes_that_are_lost_are_told_until_the_next_ones_are_written(house: House) -> None:
    await house.deferred.flush()  # of the start
    house.store.refuses = True
    for _ in range(3):
        house.deferred.put(lambda _: None)
    await house.deferred.flush()
    assert house.troubles() == ["deferred writes"]
    assert house.value("deferred_writes_lost_total") == 3
    house.store.refuses = False
    house.deferred.put(lambda _: None)
    await house.observe()
    assert house.value("deferred_writes") == 1
    await house.deferred.flush()
    assert house.troubles() == []


async def test_a_rotation_that_fails_is_told_and_counted(house: House) -> None:
    assert house.value("authority_steps_total", outcome="failed") == 0
    assert (house.value("authority_steps_total", outcome="ok") or 0) > 0
    async with asyncio.TaskGroup() as group:
        house.clock.advance(timedelta(days=7))
        house.store.refuses = True
        task = group.create_task(house.rotate.run())
        await until(lambda: house.troubles() == ["authority rotation"])
        assert house.value("authority_steps_total", outcome="failed") == 1
        task.cancel()


async def test_a_batch_of_mints_is_counted_by_what_became_of_its_items(house: House) -> None:
    metrics, node = house.observe.around.metrics, a_node()
    await house.store.write(lambda tx: tx.nodes.put(node))
    entries = ChangeEntries(
        around=around(house.clock),
        datastore=house.store,
        trust_domain=TRUST_DOMAIN,
        node_attestors=["join_token"],
        watch=EnforcementWatch(around=around(house.clock, metrics=metrics)),
    )
    entry = (await entries.create([an_entry()], actor="uid:0")).entries[0]
    allowance = Allowance(burst=10, per_second=1)
    svids = IssueSVIDs(
        datastore=house.store,
        issuance=house.renew.issuance,
        budgets=MintBudgets(entry=allowance, node=allowance, clock=house.clock),
        limits=issuance_limits(house.clock),
        refusals=RefusalRecord(datastore=house.store, around=around(house.clock, metrics=metrics)),
        around=around(house.clock, metrics=metrics),
        trust_domain=TRUST_DOMAIN,
        x509_ttl=HOUR,
        jwt_ttl=HOUR,
    )
    keys = [public_key_to_der(generate_private_key(KeyKind.EC_P256).public_key()) for _ in range(2)]
    wanted = [(entry.id, keys[0]), (EntryID("other"), keys[1]), (entry.id, b"")]
    await svids.x509(node, [X509Request(entry_id=entry_id, public_key=key) for entry_id, key in wanted])
    assert house.value("svids_signed_total", kind="x509") == 1
    assert house.value("mint_refusals_total", kind="x509", reason="INVALID") == 1
    refused = [house.value("mint_refusals_total", kind="x509", reason=reason) or 0 for reason in Kind]
    assert sum(refused) == 2


async def test_refusals_at_the_doors_are_counted_each(house: House) -> None:
    refusals = RefusalRecord(datastore=house.store, around=around(house.clock, metrics=house.observe.around.metrics))
    for kind in (Kind.DENIED, Kind.DENIED, Kind.UNAVAILABLE):
        refused = Refused(kind, "no")
        await refusals.record(refused, principal=Principal.STRANGER, actor="stranger", action="node attestation")
    assert house.value("admission_refusals_total", action="node attestation", reason="DENIED") == 2
    assert house.value("admission_refusals_total", action="node attestation", reason="UNAVAILABLE") == 1


async def test_changed_entries_are_counted_and_refused_ones_are_not(house: House) -> None:
    change = ChangeEntries(
        datastore=house.store,
        around=around(house.clock, metrics=house.observe.around.metrics),
        trust_domain=TRUST_DOMAIN,
        node_attestors=["join_token"],
        watch=EnforcementWatch(around=around(house.clock, metrics=house.observe.around.metrics)),
    )
    changed = await change.create([an_entry()], actor="uid:0")
    with pytest.raises(Refused):
        await change.create([an_entry()], actor="uid:0")
    await change.delete([changed.entries[0].id], actor="uid:0")
    assert house.value("entries_changed_total", action="entry created") == 1
    assert house.value("entries_changed_total", action="entry deleted") == 1


async def test_one_look_gives_status_and_gauges_the_same(house: House) -> None:
    house.observe.around.troubles.note("checkpoint", "no")
    for name, acknowledged, reached in (("near", 2, 5), ("far", 1, 4), ("there", 3, 4), ("well", 3, 5)):
        house.feed.connected[NodeID(name)] = [asyncio.timeout(None)]
        house.observe.watch.standing[NodeID(name)] = Standing(
            acknowledged=acknowledged,
            heard_at=house.clock.monotonic() - acknowledged,
            enforcement=Enforcement(number=acknowledged, points=5, reached=reached),
            sent=Cursor(incarnation="1", number=3),
        )
    status = status_to_pb(await house.observe())
    assert [(lag.node_id, lag.behind, lag.acknowledged) for lag in status.behind] == [
        ("far", 2, 1),
        ("near", 1, 2),
        ("there", 0, 3),
    ]
    assert [(lag.heard_ago.seconds, lag.points, lag.points_enforcing) for lag in status.behind] == [
        (1, 5, 4),
        (2, 5, 5),
        (3, 5, 4),
    ]
    assert status.oldest_truth.seconds == house.value("attestor_heard_ago_seconds") == 3
    assert [one.state for one in status.authorities] == ["active", "next", "active", "next"]
    assert status.svid_not_after.ToDatetime().timestamp() > status.started_at.ToDatetime().timestamp()
    assert (status.clock, status.troubles[0].what) == ("", "checkpoint")
    assert house.value("change_number") == status.change_number > 0
    assert (house.value("nodes_connected"), house.value("feeds"), house.value("most_behind_changes")) == (4, 4, 2)
    assert house.value("enforcement_points_behind") == 2
    assert (house.value("troubles"), house.value("clock_trusted")) == (1, 1)
    expected = status.authorities[0].not_after.ToSeconds()
    assert house.value("authority_not_after_timestamp_seconds", kind="x509", state="active") == expected


async def test_a_full_disk_is_told_until_there_is_space(house: House) -> None:
    health = HealthState("admin")
    health.set_serving(serving=True)
    ready = health_pages(house.observe, health, list)["/ready"]
    house.store.is_full = True
    page = await ready(False)
    assert (page.status, page.body) == (HTTPStatus.SERVICE_UNAVAILABLE, b"store: no room to spare, the disk is full\n")
    assert (house.troubles(), house.value("store_has_room")) == (["room of the datastore"], 0)
    (trouble,) = (await house.observe()).troubles
    assert trouble.reason.startswith("found 1.0 MiB free, expected 20.0 MiB: nothing is issued")
    assert "disk_reserve_mib" in trouble.reason
    house.store.is_full = False
    assert (await ready(False)).status == HTTPStatus.OK
    assert (house.troubles(), house.value("store_has_room")) == ([], 1)


async def test_a_doubted_clock_is_a_gauge_at_zero(house: House) -> None:
    await house.observe()
    house.clock.jump(timedelta(hours=-1))
    assert (await house.observe()).doubt
    assert house.value("clock_trusted") == 0


async def test_a_state_that_no_authority_is_in_any_more_has_no_end(house: House) -> None:
    await house.observe()
    assert house.value("authority_not_after_timestamp_seconds", kind="x509", state="old") is None


async def test_ready_tells_what_cannot_sign_any_more(house: House) -> None:
    health = HealthState("admin")
    health.set_serving(serving=True)
    pages = health_pages(house.observe, health, list)
    assert (await pages["/ready"](False)).body == b"ok\n"
    house.clock.advance(HOUR)
    body = (await pages["/ready"](False)).body.decode()
    assert "\n" not in body[:-1]
    assert body.startswith("issuer svid: valid from 2025-12-31T23:59:30Z to 2026-01-01T01:00:00Z, and it is")
    house.clock.advance(timedelta(days=15))
    page = await pages["/ready"](False)
    assert page.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert page.body.splitlines()[:2] == [
        b"x509 authority: none is active and valid",
        b"jwt authority: none is active and valid",
    ]


async def test_what_is_not_valid_now_is_trouble(house: House) -> None:
    assert not (await house.observe()).troubles
    house.clock.jump(timedelta(minutes=-20))
    seen = await house.observe()
    assert [one.reason.partition(":")[0] for one in seen.troubles] == ["x509 authority", "jwt authority", "issuer svid"]
    assert house.value("troubles") == 3


async def test_ready_tells_which_tasks_have_failed(house: House) -> None:
    health = HealthState("admin")
    health.set_serving(serving=True)
    pages = health_pages(house.observe, health, lambda: ["task pruning: ended unexpectedly"])
    assert (await pages["/ready"](False)).body == b"task pruning: ended unexpectedly\n"


async def test_metrics_of_a_store_that_cannot_be_read_are_unavailable(house: House) -> None:
    pages = health_pages(house.observe, HealthState("admin"), list)
    assert (await pages["/metrics"](False)).status is HTTPStatus.OK
    house.store.unreadable = True
    page = await pages["/metrics"](False)
    assert (page.status, page.body[:6]) == (HTTPStatus.SERVICE_UNAVAILABLE, b"store:")


async def test_overdue_reviews_are_in_status_and_gauges_with_whom_the_issuer_suspended_for_one(house: House) -> None:
    agents = [CONCIERGE.replace("concierge", name).replace("2027-03-31", "2020-01-31") for name in ("one", "two")]
    now = house.clock.now()
    applied = AppliedRulebook(
        revision=1,
        files={f"{number}.toml": text.partition("[provider")[0] for number, text in enumerate(agents)},
        digest="",
        components=0,
        actor="uid:0",
        login="",
        comment="",
        at=now,
    )
    held = HeldAgent(name="two", actor="issuer", login="", comment="", at=now, review_by=date(2020, 1, 31))
    await house.store.write(lambda tx: tx.rulebooks.add(applied))
    await house.store.write(lambda tx: tx.agents.hold(held))
    status = status_to_pb(await house.observe())
    assert [(one.agent, one.owner, one.review_by, one.suspended) for one in status.overdue] == [
        ("one", "travel-platform@example.org", "2020-01-31", False),
        ("two", "travel-platform@example.org", "2020-01-31", True),
    ]
    assert (house.value("reviews_overdue"), house.value("agents_suspended_for_review")) == (2, 1)
    assert not status.troubles
