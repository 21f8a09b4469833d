"""What the issuer pushes reaches the cache, its SVIDs follow: against an issuer in memory, with a clock that the test moves."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from attestor.cache import Cache, HeldX509
from attestor.decisions.minted import is_vouched_for
from attestor.decisions.sync import Change
from attestor.deniallog import DenialLog
from attestor.flows.answer_questions import AnswerQuestions
from attestor.flows.follow_feed import FollowFeed
from attestor.flows.join_issuer import JoinIssuer
from attestor.flows.keep_denials import KeepDenials
from attestor.flows.keep_node import KeepNode
from attestor.flows.renew_svids import RenewSVIDs
from attestor.nodeattestor.join_token import JoinToken
from attestor.receipts import Follower, Receipts
from attestor.recentcallers import RecentCallers
from attestor.uses import Uses
from bench.rig.attestorsurroundings import surroundings
from cognomen.daemon.troubles import Troubles
from cognomen.gate.caller import process_of
from cognomen.protocol.auditlog import Checkpoint, Mark
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Reason, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import Behind, Enforcement, Point
from cognomen.protocol.selector import Selector
from issuer.decisions.feedsteps import in_order
from svid.keys import KeyID, KeyKind, LocalSigningKey, generate_private_key
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.attestorflows import joined_flows
from tests.doubles.clock import FakeClock
from tests.doubles.entries import UID_1000, entry
from tests.doubles.issuerclient import InMemoryIssuerClient, IssuerInMemory
from tests.doubles.state import MemoryDenials, MemoryState
from tests.doubles.until import pass_until, until

TD = TrustDomain("example.org")
SOMEBODY = (1000, 1)
HOUR = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Attestor:
    """The flows under test, running."""

    issuer: IssuerInMemory
    client: InMemoryIssuerClient
    clock: FakeClock
    cache: Cache
    node: KeepNode
    feed: FollowFeed
    receipts: Receipts
    renewals: RenewSVIDs
    store: MemoryDenials
    troubles: Troubles

    def svid(self, entry_id: str) -> HeldX509 | None:
        return self.cache.svids.get(EntryID(entry_id))

    async def let_pass(self, time: timedelta, *, until_then: Callable[[], bool] | None = None) -> None:
        """Let that time pass, in steps, so that whoever wakes within it does; and until that is so, which may take threads a while."""
        end = self.clock.now() + time
        while self.clock.now() < end and not (until_then and until_then()):
            await settle()
            self.clock.advance(timedelta(seconds=30))
        await settle()
        if until_then:
            await until(until_then)


async def settle() -> None:
    """Let the loop run until it has certainly nothing more to do without time or threads."""
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def issuer(clock: FakeClock) -> IssuerInMemory:
    return IssuerInMemory(clock, TD)


@asynccontextmanager
async def running(issuer: IssuerInMemory, clock: FakeClock) -> AsyncIterator[Attestor]:
    """Join, then follow and mint; the node SVID lives for a day, so that its renewal does not disturb."""
    state, client, invite = MemoryState(), issuer.client(), issuer.invite()
    around = surroundings(clock)
    ttl, issuer.ttl = issuer.ttl, timedelta(days=10)
    node = await JoinIssuer(trust_domain=TD, state=state, door=client, client=client, around=around).run(
        invite, JoinToken(invite)
    )
    issuer.ttl = ttl
    cache = Cache(node.bundle, DenialLog())
    keeper = KeepNode(node, state=state, door=client, client=client, around=around)
    troubles, store = around.troubles, MemoryDenials()
    denials = KeepDenials(cache.denials, store=store, around=around)
    receipts = Receipts(cache.denials)
    steady, uses = surroundings(clock, jitter=0.0), Uses(around.clock)
    questions = AnswerQuestions(cache, RecentCallers(), door=client, around=around)
    feed = FollowFeed(cache, keeper, denials, receipts, client=client, uses=uses, questions=questions, around=steady)
    renew = RenewSVIDs(cache, client=client, around=around)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run()) for run in (feed.run, feed.acknowledge, denials.run, renew.run)]
        yield Attestor(
            issuer=issuer,
            client=client,
            clock=clock,
            cache=cache,
            node=keeper,
            feed=feed,
            receipts=receipts,
            renewals=renew,
            store=store,
            troubles=troubles,
        )
        for task in tasks:
            task.cancel()


@pytest.fixture
async def attestor(issuer: IssuerInMemory, clock: FakeClock) -> AsyncIterator[Attestor]:
    async with running(issuer, clock) as started:
        await until(lambda: started.cache.synchronised)
        yield started


async def test_an_entry_that_comes_is_minted_without_the_time_passing(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web", hint="main", dns_names=("web.example.org",)))
    await until(lambda: attestor.svid("web") is not None)
    held = attestor.svid("web")
    assert held is not None
    assert held.svid.spiffe_id == SpiffeID.parse("spiffe://example.org/web")
    assert held.svid.hint == "main"
    assert held.svid.leaf.public_key() == held.svid.private_key.public_key()


async def test_a_change_of_what_is_not_signed_mints_nothing_and_renews_when_it_was_due(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    first, due = attestor.svid("web"), attestor.renewals.due()
    changed: list[dict[str, object]] = [{"owner": "a"}, {"owner": "b"}, {"labels": {"x": "y"}}, {"hint": "main"}]
    for revision, changes in enumerate(changed, start=1):
        attestor.issuer.put(entry("web", revision=revision, **changes))
        await until(lambda: attestor.cache.entries[EntryID("web")].revision == revision)  # noqa: B023 - awaited here
        attestor.clock.advance(1)
        await settle()
    now = attestor.svid("web")
    assert first is not None
    assert now is not None
    assert (now.svid.hint, now.svid.serial) == ("main", first.svid.serial)
    assert attestor.issuer.mints == [1]
    assert attestor.renewals.due() == due
    attestor.issuer.put(entry("web", revision=5, hint="main", x509_svid_ttl=timedelta(minutes=5)))
    await until(lambda: attestor.issuer.mints == [1, 1])


async def test_an_empty_snapshot_synchronises(attestor: Attestor) -> None:
    assert attestor.cache.view(UID_1000).entries == ()


async def test_a_snapshot_is_minted_in_batches_of_bounded_size(issuer: IssuerInMemory, clock: FakeClock) -> None:
    issuer.put(*(entry(f"e{number}") for number in range(501)))
    async with running(issuer, clock) as attestor:
        await until(lambda: len(attestor.cache.svids) == 501)
    assert issuer.mints == [250, 250, 1]


async def test_what_has_been_applied_is_acknowledged(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: bool(attestor.issuer.acknowledged) and attestor.issuer.acknowledged[-1].number == 1)
    assert attestor.cache.cursor == attestor.issuer.acknowledged[-1]


async def test_an_acknowledgement_that_failed_is_repeated_and_keeps_no_step_waiting(attestor: Attestor) -> None:
    await until(lambda: bool(attestor.issuer.acknowledged))
    refused = attestor.client.refused_acknowledgements = [Refused(Kind.UNAVAILABLE, "connection lost")]
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None and not refused)
    attestor.issuer.put(entry("db"))
    await until(lambda: attestor.svid("db") is not None)
    assert attestor.issuer.acknowledged[-1].number == 0
    attestor.clock.advance(5)
    await until(lambda: attestor.issuer.acknowledged[-1].number == 2)


async def test_how_far_enforcement_points_are_is_acknowledged_together_soon_and_that_they_came_or_went_a_second_later(
    attestor: Attestor,
) -> None:
    attestor.issuer.deny(7)
    await until(lambda: attestor.issuer.enforcements[-1:] == [Enforcement(number=1)])
    me = process_of(os.getpid())
    follower = Follower(me)
    with attestor.receipts.follows(follower):
        told, heard = len(attestor.issuer.enforcements), attestor.cache.cursor
        assert heard is not None
        for name in ("web", "guard"):
            attestor.receipts.take(follower, name, heard)
        for seconds in (0.5, 0.5):
            await settle()
            assert len(attestor.issuer.enforcements) == told
            attestor.clock.advance(seconds)
        await until(lambda: len(attestor.issuer.enforcements) > told)
        attestor.issuer.deny(8)
        await until(lambda: attestor.issuer.enforcements[-1].number == 2)
        attestor.receipts.take(follower, "web", attestor.issuer.acknowledged[-1])
        await settle()
        attestor.clock.advance(0.1)
        guard = Behind(point=Point(me.uid, me.pid, "guard"), number=1)
        await until(
            lambda: (
                attestor.issuer.enforcements[told:]
                == [
                    Enforcement(number=1, points=2, reached=2),
                    Enforcement(
                        number=2,
                        points=2,
                        reached=0,
                        behind=(guard, replace(guard, point=Point(me.uid, me.pid, "web"))),
                    ),
                    Enforcement(number=2, points=2, reached=1, behind=(guard,)),
                ]
            )
        )
    await settle()
    attestor.clock.advance(1)
    await until(lambda: attestor.issuer.enforcements[-1] == Enforcement(number=2))
    me.process.close()


async def test_an_entry_that_goes_takes_its_svid_along(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    attestor.issuer.delete(EntryID("web"))
    await until(lambda: not attestor.cache.entries)
    assert attestor.svid("web") is None


async def test_an_entry_with_another_ttl_keeps_its_svid_until_the_next_is_there(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    before = attestor.svid("web")
    assert before is not None
    with attestor.cache.subscribe(UID_1000, who=SOMEBODY) as subscription:
        attestor.issuer.put(entry("web", x509_svid_ttl=timedelta(minutes=1)))
        await subscription.changed()
        assert attestor.svid("web") is before
        await until(lambda: attestor.svid("web") is not before)
    after = attestor.svid("web")
    assert after is not None
    assert after.svid.not_after == attestor.clock.now() + timedelta(minutes=1)


async def test_an_entry_with_another_spiffe_id_loses_its_svid_at_once(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    other = SpiffeID.parse("spiffe://example.org/other")
    with attestor.cache.subscribe(UID_1000, who=SOMEBODY) as subscription:
        attestor.issuer.put(entry("web", spiffe_id=other))
        await subscription.changed()
        assert attestor.svid("web") is None
        await until(lambda: attestor.svid("web") is not None)
    after = attestor.svid("web")
    assert after is not None
    assert after.svid.spiffe_id == other


async def test_an_svid_is_renewed_at_half_life_with_a_new_key(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    before = attestor.svid("web")
    assert before is not None
    await attestor.let_pass(HOUR / 2 - timedelta(seconds=30))
    assert attestor.svid("web") is before
    await attestor.let_pass(timedelta(seconds=30))
    await until(lambda: attestor.svid("web") is not before)
    after = attestor.svid("web")
    assert after is not None
    assert after.svid.private_key.public_key() != before.svid.private_key.public_key()


async def test_an_svid_that_is_denied_gives_way_at_once_to_one_with_a_fresh_key(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"), entry("db"))
    await until(lambda: len(attestor.cache.svids) == 2)
    before, other = attestor.svid("web"), attestor.svid("db")
    assert before is not None
    with attestor.cache.subscribe(UID_1000, who=SOMEBODY) as subscription:
        attestor.issuer.deny(before.svid.serial)
        await subscription.changed()
        assert attestor.svid("web") is None
        await until(lambda: attestor.svid("web") is not None)
    after = attestor.svid("web")
    assert after is not None
    assert after.svid.serial != before.svid.serial
    assert after.svid.private_key.public_key() != before.svid.private_key.public_key()
    assert attestor.svid("db") is other


async def test_what_is_denied_while_its_renewal_fails_is_minted_as_soon_as_the_issuer_grants_it(
    attestor: Attestor,
) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    before = attestor.svid("web")
    assert before is not None
    attestor.issuer.refused_entries[EntryID("web")] = Refused(Kind.EXHAUSTED, "too many")
    await attestor.let_pass(HOUR * 0.75)
    assert attestor.svid("web") is before
    del attestor.issuer.refused_entries[EntryID("web")]
    attestor.issuer.deny(before.svid.serial)
    await until(lambda: attestor.svid("web") is None)
    await until(lambda: attestor.svid("web") is not None)


async def test_what_a_tainted_authority_signed_is_replaced_at_once_and_serves_until_then(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"), entry("db"))
    await until(lambda: len(attestor.cache.svids) == 2)
    before = [attestor.svid("web"), attestor.svid("db")]
    seen = set()

    def replaced() -> bool:
        held = [attestor.svid("web"), attestor.svid("db")]
        seen.add(None in held)
        return not any(one in before for one in held)

    attestor.issuer.taint()
    await until(replaced)
    assert seen == {False}, "there was always one"
    assert all(
        held.svid.leaf.issuer == attestor.issuer.authority.certificate.subject for held in attestor.cache.svids.values()
    )
    mints = len(attestor.issuer.mints)
    await attestor.let_pass(HOUR / 4)
    assert len(attestor.issuer.mints) == mints, "once is enough"


async def test_what_a_tainted_authority_signed_is_served_while_its_replacement_is_refused(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    before = attestor.svid("web")
    attestor.issuer.refused_entries[EntryID("web")] = Refused(Kind.UNAVAILABLE, "not now")
    attestor.issuer.taint()
    await until(lambda: bool(attestor.cache.tainted) and len(attestor.issuer.mints) == 2)
    await settle()
    assert attestor.svid("web") is before
    attestor.issuer.refused_entries.clear()
    await attestor.let_pass(timedelta(minutes=1))
    assert attestor.svid("web") is not before


async def test_a_mint_under_way_that_brings_what_is_tainted_is_followed_by_another(attestor: Attestor) -> None:
    tainted = attestor.issuer.authority
    attestor.issuer.taint()
    await until(lambda: bool(attestor.cache.tainted))
    good, attestor.issuer.authority = attestor.issuer.authority, tainted
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    before = attestor.svid("web")
    attestor.issuer.authority = good
    await attestor.let_pass(timedelta(seconds=30))
    assert attestor.svid("web") is not before


async def test_a_returning_attestor_replaces_what_was_tainted_meanwhile(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    before = attestor.svid("web")
    attestor.issuer.set_reachable(reachable=False)
    await settle()
    attestor.issuer.taint()
    attestor.issuer.set_reachable(reachable=True)
    await attestor.let_pass(timedelta(minutes=1), until_then=lambda: attestor.svid("web") is not before)
    assert attestor.svid("web") is not before


async def test_a_tainted_authority_has_the_node_svid_replaced_at_once(attestor: Attestor) -> None:
    before = attestor.node.node.svid
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(attestor.node.run())
        attestor.issuer.taint()
        await until(lambda: attestor.node.node.svid is not before)
        keeping.cancel()
    assert attestor.node.node.svid.leaf.issuer == attestor.issuer.authority.certificate.subject


async def test_an_svid_that_is_denied_before_it_comes_is_never_served_and_asked_for_again(attestor: Attestor) -> None:
    attestor.issuer.denies_mints = 1
    attestor.issuer.put(entry("web"))
    await until(lambda: len(attestor.cache.denials) == 1)
    await settle()
    assert attestor.svid("web") is None
    assert attestor.issuer.mints == [1]
    await attestor.let_pass(timedelta(minutes=1), until_then=lambda: attestor.svid("web") is not None)
    held = attestor.svid("web")
    assert held is not None
    assert held.svid.serial not in attestor.cache.denials
    assert attestor.issuer.mints == [1, 1]


async def test_without_the_issuer_an_svid_is_served_until_it_expires_and_no_longer(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    attestor.issuer.set_reachable(reachable=False)
    await attestor.let_pass(HOUR - timedelta(seconds=30))
    assert attestor.svid("web") is not None
    await attestor.let_pass(timedelta(minutes=1))
    assert attestor.svid("web") is None
    assert len(attestor.cache.view(UID_1000).entries) == 1


async def test_a_denial_is_kept_before_it_is_acknowledged(attestor: Attestor) -> None:
    head = Cursor(incarnation="1", number=1)
    attestor.store.gate.clear()
    attestor.issuer.deny(1)
    await until(lambda: 1 in attestor.cache.denials)
    await attestor.let_pass(timedelta(minutes=1))
    assert head not in attestor.issuer.acknowledged
    attestor.issuer.deny(2)
    await until(lambda: 2 in attestor.cache.denials)
    attestor.store.gate.set()
    await until(lambda: Cursor(incarnation="1", number=2) in attestor.issuer.acknowledged)
    assert [denial.number for denial in attestor.store.load()] == [1, 2]


async def test_what_cannot_be_kept_stays_denied_is_a_trouble_and_is_acknowledged_all_the_same(
    attestor: Attestor,
) -> None:
    await until(lambda: attestor.issuer.acknowledged != [])
    attestor.store.refuses = Refused(Kind.UNAVAILABLE, "file denials.log: no space left on device")
    attestor.issuer.deny(1)
    head = Cursor(incarnation="1", number=1)
    await until(lambda: head in attestor.issuer.acknowledged)
    assert 1 in attestor.cache.denials
    assert not attestor.store.load()
    (trouble,) = attestor.troubles.all()
    assert (trouble.what, trouble.reason) == ("denials on disk", "file denials.log: no space left on device")
    attestor.store.refuses = None
    await attestor.let_pass(timedelta(minutes=1), until_then=lambda: bool(attestor.store.load()))
    await until(lambda: not attestor.troubles.all())
    assert [denial.number for denial in attestor.store.load()] == [1]


async def test_a_restored_issuer_takes_no_denial_back(attestor: Attestor) -> None:
    attestor.issuer.deny(1)
    await until(lambda: 1 in attestor.cache.denials)
    attestor.issuer.set_reachable(reachable=False)
    attestor.issuer.restore()
    attestor.issuer.set_reachable(reachable=True)
    restored = Cursor(incarnation="2", number=0)
    await attestor.let_pass(timedelta(minutes=1), until_then=lambda: attestor.cache.cursor == restored)
    assert attestor.cache.cursor == restored
    assert 1 in attestor.cache.denials


async def test_a_word_of_the_issuer_says_how_old_the_truth_is_and_disturbs_nobody(attestor: Attestor) -> None:
    await settle()
    acknowledged = len(attestor.issuer.acknowledged)
    attestor.cache.changed.clear()
    attestor.clock.advance(4)
    assert attestor.feed.age() == timedelta(seconds=4)
    with attestor.cache.subscribe(UID_1000, who=SOMEBODY) as subscription, capture_logs() as logs:
        attestor.issuer.say_a_word()
        await until(lambda: attestor.feed.age() == timedelta())
        await settle()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await subscription.changed()
    assert not logs
    assert not attestor.cache.changed.is_set()
    assert len(attestor.issuer.acknowledged) == acknowledged


async def test_without_the_feed_the_truth_grows_old_whatever_else_the_issuer_answers(attestor: Attestor) -> None:
    await settle()
    acknowledged = len(attestor.issuer.acknowledged)
    await attestor.let_pass(timedelta(minutes=1))
    assert len(attestor.issuer.acknowledged) > acknowledged
    assert attestor.feed.age() == timedelta(minutes=1)


async def test_before_the_first_word_the_truth_is_as_old_as_the_node_svid(
    issuer: IssuerInMemory, clock: FakeClock
) -> None:
    flows = await joined_flows(issuer, clock)
    clock.advance(timedelta(minutes=7))
    feed = FollowFeed(
        flows.cache,
        flows.node,
        flows.denials,
        flows.followers.receipts,
        client=issuer.client(),
        uses=flows.uses,
        questions=flows.questions,
        around=surroundings(clock),
    )
    assert feed.age() == timedelta(minutes=7)


async def test_an_issuer_that_comes_back_is_followed_within_seconds(attestor: Attestor) -> None:
    attestor.issuer.set_reachable(reachable=False)
    await attestor.let_pass(timedelta(minutes=3))
    attestor.issuer.put(entry("web"))
    attestor.issuer.set_reachable(reachable=True)
    before = attestor.clock.now()
    async with asyncio.timeout(5):
        while attestor.svid("web") is None:
            await settle()
            attestor.clock.advance(0.1)
    assert attestor.clock.now() - before < timedelta(seconds=2.5)


async def test_a_restored_issuer_sends_a_snapshot_and_what_it_does_not_name_is_gone(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"), entry("db"))
    await until(lambda: len(attestor.cache.svids) == 2)
    attestor.issuer.set_reachable(reachable=False)
    attestor.issuer.delete(EntryID("db"))
    attestor.issuer.restore()
    attestor.issuer.set_reachable(reachable=True)
    await attestor.let_pass(timedelta(minutes=5), until_then=lambda: len(attestor.cache.entries) == 1)
    assert set(attestor.cache.svids) == {"web"}


async def test_a_refused_node_keeps_serving_what_is_valid_and_is_let_in_again(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    attestor.issuer.refused_node = Refused(Kind.DENIED, "node SVID: superseded by a later one")
    attestor.issuer.put(entry("db"))
    await attestor.let_pass(timedelta(minutes=2))
    assert attestor.svid("web") is not None
    assert attestor.svid("db") is None
    attestor.issuer.refused_node = None
    await attestor.let_pass(timedelta(minutes=2), until_then=lambda: attestor.svid("db") is not None)
    assert attestor.svid("db") is not None


async def test_a_refused_node_is_told_to_the_operator_with_the_next_step(attestor: Attestor) -> None:
    with capture_logs() as logs:
        attestor.issuer.refused_node = Refused(Kind.DENIED, "node SVID: superseded by a later one")
        attestor.issuer.put(entry("web"))
        await settle()
    told = next(line for line in logs if line["event"] == "issuer refused this node")
    assert (told["log_level"], told["reason"]) == ("error", "node SVID: superseded by a later one")
    assert "cognomen node invite" in told["hint"]


async def test_a_refused_entry_is_tried_again_and_holds_nobody_up(attestor: Attestor) -> None:
    attestor.issuer.refused_entries[EntryID("bad")] = Refused(Kind.EXHAUSTED, "too many")
    attestor.issuer.put(entry("bad"), entry("good"))
    await until(lambda: attestor.svid("good") is not None)
    assert attestor.svid("bad") is None
    del attestor.issuer.refused_entries[EntryID("bad")]
    await attestor.let_pass(timedelta(minutes=2), until_then=lambda: attestor.svid("bad") is not None)
    assert attestor.svid("bad") is not None


async def test_a_new_authority_is_trusted_by_workloads_and_by_the_node(attestor: Attestor) -> None:
    attestor.issuer.rotate()
    await until(lambda: attestor.node.node.bundle == attestor.issuer.bundle)
    assert attestor.cache.bundle == attestor.issuer.bundle
    attestor.issuer.put(entry("web"))
    await attestor.let_pass(timedelta(minutes=1), until_then=lambda: attestor.svid("web") is not None)
    assert attestor.svid("web") is not None


async def test_an_entry_past_its_end_is_gone_without_a_word_of_the_issuer(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web", expires_at=attestor.clock.now() + timedelta(minutes=5)))
    await until(lambda: attestor.svid("web") is not None)
    await attestor.let_pass(timedelta(minutes=5))
    assert attestor.cache.view(UID_1000).entries == ()
    assert attestor.svid("web") is None


async def test_a_subscribers_entry_is_minted_before_the_others(issuer: IssuerInMemory, clock: FakeClock) -> None:
    wanted = frozenset({Selector("unix", "uid:7")})
    issuer.put(*(entry(f"e{number}") for number in range(600)), entry("zz", selectors=wanted))
    async with running(issuer, clock) as attestor:
        with attestor.cache.subscribe(wanted, who=SOMEBODY) as subscription:
            while attestor.svid("zz") is None:
                await subscription.changed()
            assert len(attestor.cache.svids) == 1


async def test_an_svid_signed_by_a_stranger_is_not_taken(attestor: Attestor, clock: FakeClock) -> None:
    attestor.issuer.authority = IssuerInMemory(clock, TD).authority
    attestor.issuer.put(entry("web"))
    await attestor.let_pass(timedelta(minutes=2))
    assert attestor.svid("web") is None
    assert len(attestor.issuer.mints) > 1


class FullState(MemoryState):
    """A disk without room for checkpoints."""

    def keep_checkpoint(self, checkpoint: Checkpoint, *, now: datetime) -> str:
        del checkpoint, now
        raise Refused(Kind.UNAVAILABLE, "no space left on device")


async def test_a_checkpoint_that_is_none_or_cannot_be_kept_disturbs_nothing(attestor: Attestor) -> None:
    unsigned = Checkpoint(
        trust_domain=TD, incarnation="i", count=1, head=bytes(32), at=attestor.clock.now(), public_key=b""
    )
    good = unsigned.signed(LocalSigningKey(KeyID("audit-1"), generate_private_key(KeyKind.EC_P256)))
    kept, client = FullState(), attestor.client
    full = KeepNode(
        attestor.node.node,
        state=kept,
        door=client,
        client=client,
        around=surroundings(attestor.clock),
    )
    for node, document in ((attestor.node, b"{}"), (attestor.node, unsigned.to_json()), (full, good.to_json())):
        await node.remember(document)
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)


async def test_when_a_checkpoint_was_heard_is_by_the_clock_of_the_node(attestor: Attestor) -> None:
    key = LocalSigningKey(KeyID("audit-1"), generate_private_key(KeyKind.EC_P256))
    state, around = MemoryState(), surroundings(attestor.clock)
    node = KeepNode(attestor.node.node, state=state, door=attestor.client, client=attestor.client, around=around)
    far = attestor.clock.now() + timedelta(days=10_000)
    heard = Checkpoint(trust_domain=TD, incarnation="i", count=7, head=bytes(32), at=far, public_key=b"")
    await node.remember(heard.signed(key).to_json())
    assert [one.at for one in state.heard] == [attestor.clock.now()]


async def test_a_record_that_was_rewritten_is_told_until_somebody_has_looked(attestor: Attestor) -> None:
    key = LocalSigningKey(KeyID("audit-1"), generate_private_key(KeyKind.EC_P256))
    state, around = MemoryState(), surroundings(attestor.clock)
    node = KeepNode(attestor.node.node, state=state, door=attestor.client, client=attestor.client, around=around)
    heard = Checkpoint(
        trust_domain=TD, incarnation="i", count=7, head=bytes(32), at=attestor.clock.now(), public_key=b""
    )
    await node.remember(heard.signed(key).to_json())
    assert not around.troubles.all()
    await node.remember(replace(heard, head=b"1" * 32).signed(key).to_json())
    await node.remember(replace(heard, count=8, previous=Mark(count=7, head=heard.head)).signed(key).to_json())
    assert [one.count for one in state.checkpoints] == [7, 8]
    (trouble,) = around.troubles.all()
    assert (trouble.what, "cognomen audit verify" in trouble.reason) == ("record of the issuer", True)
    assert "move contradictions.jsonl and checkpoints.jsonl away, both" in trouble.reason
    state.apart.clear()
    await node.remember(replace(heard, count=9, previous=Mark(count=8, head=heard.head)).signed(key).to_json())
    assert not around.troubles.all()


async def test_a_contradiction_that_comes_while_nothing_can_be_kept_is_kept_and_told_later(attestor: Attestor) -> None:
    key = LocalSigningKey(KeyID("audit-1"), generate_private_key(KeyKind.EC_P256))
    state, around = MemoryState(), surroundings(attestor.clock)
    node = KeepNode(attestor.node.node, state=state, door=attestor.client, client=attestor.client, around=around)
    heard = Checkpoint(
        trust_domain=TD, incarnation="i", count=7, head=bytes(32), at=attestor.clock.now(), public_key=b""
    )
    await node.remember(heard.signed(key).to_json())
    state.refuses = Refused(Kind.UNAVAILABLE, "no space left on device")
    other = replace(heard, head=b"1" * 32)
    await node.remember(other.signed(key).to_json())
    following = replace(heard, count=8, previous=Mark(count=7, head=other.head))
    await node.remember(following.signed(key).to_json())
    assert [one.what for one in around.troubles.all()] == ["checkpoint of the issuer"]
    state.refuses = None
    await node.remember(replace(following, count=9, previous=Mark(count=8, head=other.head)).signed(key).to_json())
    assert state.apart[0].head == other.head
    assert state.checkpoints[0].count == 7
    assert "record of the issuer" in [one.what for one in around.troubles.all()]
    assert "checkpoint of the issuer" not in [one.what for one in around.troubles.all()]


async def test_what_the_bundle_does_not_vouch_for_any_more_is_minted_anew_without_the_time_passing(
    attestor: Attestor,
) -> None:
    attestor.issuer.put(entry("web"), entry("db"))
    await until(lambda: len(attestor.cache.svids) == 2)
    attestor.issuer.lose_authorities()

    def is_trusted() -> bool:
        bundle, now = attestor.issuer.bundle, attestor.clock.now()
        return all(is_vouched_for(held.svid, bundle, at=now) for held in attestor.cache.svids.values())

    assert not is_trusted()
    await until(is_trusted)
    assert len(attestor.cache.svids) == 2


async def test_a_bundle_that_ends_the_feed_amidst_a_step_of_many_messages_loses_none_of_them(
    attestor: Attestor,
) -> None:
    before = attestor.client.node
    attestor.issuer.rotate()
    attestor.issuer.put(*(entry(f"e{number}") for number in range(600)))
    expected = Cursor(incarnation="1", number=601)
    assert attestor.cache.cursor is not None
    first, *others = attestor.issuer.steps(attestor.cache.cursor)
    assert others, "the step fills several messages"
    assert first.cursor == attestor.cache.cursor
    await until(lambda: attestor.cache.cursor == expected)
    assert attestor.client.node != before, "speaks as before, over a channel that trusts the other bundle"
    assert len(attestor.cache.entries) == 600
    assert attestor.cache.bundle == attestor.node.node.bundle == attestor.issuer.bundle


async def test_ten_thousand_entries_that_leave_at_once_leave_nothing(attestor: Attestor) -> None:
    stay, leave = entry("stays"), [entry(f"n{number}") for number in range(10_000)]
    first, second = (Cursor(incarnation="1", number=number) for number in (1, 2))
    attestor.cache.apply(Change(cursor=first, snapshot=True, updates=tuple(in_order(entries=[stay, *leave]))))
    gone = in_order(gone=[one.id for one in leave])
    with attestor.cache.subscribe(UID_1000, who=SOMEBODY) as subscription:
        attestor.cache.apply(Change(cursor=second, snapshot=False, updates=tuple(gone)))
        await subscription.changed()
    assert attestor.cache.view(UID_1000).entries == (stay,)


@pytest.mark.parametrize("reason", [Reason.BANNED, Reason.EVICTED])
async def test_a_node_that_was_sent_away_gives_nobody_an_identity_until_a_snapshot_says_otherwise(
    attestor: Attestor, reason: Reason
) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    attestor.issuer.refused_node = Refused(Kind.DENIED, "node: gone").because(reason)
    attestor.issuer.wake()
    await pass_until(attestor.clock, lambda: bool(attestor.cache.withdrawn))
    assert attestor.svid("web") is None
    assert not attestor.cache.view(UID_1000).entries
    assert attestor.cache.cursor is None
    attestor.issuer.refused_node = None
    await pass_until(attestor.clock, lambda: attestor.svid("web") is not None)
    assert not attestor.cache.withdrawn


async def test_a_node_whose_ban_is_lifted_is_no_longer_said_to_be_banned(attestor: Attestor) -> None:
    for reason in (Reason.BANNED, Reason.EVICTED):
        attestor.issuer.refused_node = Refused(Kind.DENIED, "node: gone").because(reason)
        attestor.issuer.wake()
        await pass_until(attestor.clock, lambda: f"({reason})" in attestor.cache.withdrawn)  # noqa: B023 - awaited here


@pytest.mark.parametrize(
    "refused",
    [
        Refused(Kind.DENIED, "node: gone").because(Reason.EVICTED),
        Refused(Kind.DENIED, "node: gone").because(Reason.BANNED),
        Refused(Kind.DENIED, "node: expected one that attested"),
        Refused(Kind.UNAVAILABLE, "issuer: cannot be reached"),
    ],
    ids=["evicted", "banned", "unknown", "unavailable"],
)
async def test_an_attestor_that_the_issuer_refuses_rests_while_no_time_passes(
    attestor: Attestor, refused: Refused
) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    refusals = attestor.client.refused_acknowledgements = [refused] * 2
    attestor.issuer.put(entry("db"))
    await until(lambda: len(refusals) == 1)
    attestor.issuer.refused_node = refused  # while there is something that it could not acknowledge
    attestor.issuer.wake()
    await attestor.let_pass(timedelta(minutes=2))
    await settle()
    before = attestor.clock.sleeps
    for _ in range(500):
        await asyncio.sleep(0)
    assert attestor.clock.sleeps == before


async def test_a_node_that_is_refused_for_another_reason_keeps_what_it_holds(attestor: Attestor) -> None:
    attestor.issuer.put(entry("web"))
    await until(lambda: attestor.svid("web") is not None)
    attestor.issuer.refused_node = Refused(Kind.DENIED, "node: expected one that attested")
    attestor.issuer.wake()
    await attestor.let_pass(timedelta(minutes=1))
    assert attestor.svid("web") is not None
