"""issuer/flows/hold_agents, suspend_overdue and review_agents: the end of an agent, overdue reviews, and what a review says: in memory."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pytest

from cognomen.protocol.agentreview import SignedReview
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.filters import EntryFilter
from issuer.decisions.operator import Operator
from issuer.flows.apply_rulebook import ApplyRulebook, RulebookPlan
from issuer.flows.hold_agents import HoldAgents
from issuer.flows.review_agents import ReviewAgents
from issuer.flows.suspend_overdue import SuspendOverdue
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.review_dates import ReviewDates
from issuer.queries import Queries
from svid.keys import KeyID, KeyKind, LocalSigningKey, SigningKey, generate_private_key
from tests.doubles.clock import FakeClock
from tests.doubles.issuancelimits import issuance_limits
from tests.doubles.issuer_values import TRUST_DOMAIN
from tests.doubles.issuersurroundings import around
from tests.doubles.uses import a_use
from tests.unit.cognomen.rulebook.books import CONCIERGE

ACTOR = Operator("uid:0", login="uid:1000", comment="PR 7")
KEY = LocalSigningKey(KeyID("audit-1"), generate_private_key(KeyKind.EC_P256))
RULES = CONCIERGE.partition("[[case]]")[0]
BILLING = RULES.partition("[provider")[0].replace("concierge", "billing").replace("unix:uid:1", "unix:uid:2")
BILLING = BILLING.replace('model = "anthropic"\n', "").replace('audiences = ["https://crm.example.org"]\n', "")
DAY = timedelta(days=1)


def due(review_by: str, on_overdue: str = "suspend", rules: str = RULES) -> str:
    return rules.replace("review_by = 2027-03-31", f'review_by = {review_by}\non_overdue = "{on_overdue}"')


@dataclass(frozen=True, kw_only=True)
class House:
    clock: FakeClock
    store: SQLiteDatastore
    rules: ApplyRulebook
    agents: HoldAgents
    dates: ReviewDates
    overdue: SuspendOverdue
    review: ReviewAgents

    async def plan(self, *documents: str) -> RulebookPlan:
        return await self.rules.plan(_files(documents), actor=ACTOR)

    async def apply(self, *documents: str) -> int:
        files, plan = _files(documents), await self.plan(*documents)
        return (await self.rules(files, plan.digest, actor=ACTOR)).revision

    async def live(self) -> set[str]:
        """The agents that have entries."""
        found = await self.store.read(lambda tx: tx.entries.find(EntryFilter(), after="", limit=1000))
        return {one.spiffe_id.path.split("/")[2] for one in found if one.spiffe_id.path.startswith("/agent/")}

    async def audit(self, action: str) -> list[dict[str, object]]:
        rows = await self.store.read(lambda tx: tx.audit.rows(after=0, limit=1000))
        return [event for row in rows if (event := json.loads(row.body))["action"] == action]


def _files(documents: Sequence[str]) -> dict[str, str]:
    return {f"{number}.toml": document for number, document in enumerate(documents)}


def house_on(store: SQLiteDatastore, clock: FakeClock) -> House:
    own = around(clock)
    watch = EnforcementWatch(around=own)
    rules = ApplyRulebook(
        datastore=store,
        around=own,
        trust_domain=TRUST_DOMAIN,
        node_attestors=("join_token",),
        watch=watch,
        limits=issuance_limits(clock),
    )
    agents = HoldAgents(
        datastore=store, around=own, trust_domain=TRUST_DOMAIN, node_attestors=("join_token",), watch=watch
    )
    dates = ReviewDates(datastore=store, clock=clock)
    guard = ClockGuard(datastore=store, around=own)
    overdue = SuspendOverdue(suspend=agents.suspend_overdue, reviews=dates, around=own, guard=guard)

    async def key() -> SigningKey:
        return KEY

    review = ReviewAgents(
        datastore=store,
        nodes=Queries(store, TRUST_DOMAIN),
        around=own,
        trust_domain=TRUST_DOMAIN,
        seen=lambda node: node,
        uses_kept=90 * DAY,
        key=key,
    )
    return House(clock=clock, store=store, rules=rules, agents=agents, dates=dates, overdue=overdue, review=review)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await SQLiteDatastore.open(None)
    yield house_on(store, FakeClock())
    await store.close()


async def test_an_active_agent_is_retired_only_by_force_and_a_suspended_one_without(house: House) -> None:
    await house.apply(RULES, BILLING)
    with pytest.raises(Refused, match="expected one that is suspended, found concierge, which is active") as refused:
        await house.agents.retire("concierge", actor=ACTOR)
    assert refused.value.kind is Kind.CONFLICT
    assert await house.live() == {"concierge", "billing"}
    await house.agents.retire("concierge", at_once=True, actor=ACTOR)
    assert await house.live() == {"billing"}
    await house.agents.suspend("billing", actor=ACTOR)
    await house.agents.retire("billing", actor=ACTOR)
    found = {one.name: one for one in await house.agents.retired()}
    assert [(one.owner, one.actor, one.login, one.comment, one.revision) for one in found.values()] == [
        ("travel-platform@example.org", "uid:0", "uid:1000", "PR 7", 1)
    ] * 2
    assert not await house.agents.held()
    assert [one["decision"] for one in await house.audit("agent retired")] == ["refused", "allowed", "allowed"]


async def test_a_retired_name_stays_so_whatever_is_applied_and_the_refusal_names_the_line(house: House) -> None:
    await house.apply("# empty", RULES)
    await house.agents.retire("concierge", at_once=True, actor=ACTOR)
    for document in (RULES, RULES.replace("purpose", 'state = "suspended"\npurpose', 1)):
        with pytest.raises(Refused, match=r"^1.toml:[13]: agent concierge: retired by uid:0 on 2026-01-01") as refused:
            await house.apply("# empty", document)
        assert 'say so there: state = "retired"' in refused.value.hint
    await house.apply("# empty", RULES.replace("purpose", 'state = "retired"\npurpose', 1))
    await house.apply("")
    with pytest.raises(Refused, match="a retired name never comes back"):
        await house.apply(RULES)
    with pytest.raises(Refused, match="agent concierge: retired by uid:0"):
        await house.agents.resume("concierge", actor=ACTOR)
    record = await house.audit("agent retired")
    await house.agents.retire("concierge", actor=ACTOR)
    assert await house.audit("agent retired") == record, "a second time leaves no trace"


async def test_others_are_suspended_and_resumed_although_the_rulebook_in_force_has_a_retired_agent(
    house: House,
) -> None:
    await house.apply(RULES, BILLING)
    await house.agents.retire("concierge", at_once=True, actor=ACTOR)
    await house.agents.suspend("billing", actor=ACTOR)
    assert await house.live() == set()
    await house.agents.resume("billing", actor=ACTOR)
    assert await house.live() == {"billing"}


async def test_an_agent_that_is_suspended_and_has_left_the_files_is_retired_with_its_last_owner(house: House) -> None:
    await house.apply(RULES, BILLING.replace("travel-platform@example.org", "ann@example.org"))
    await house.apply(RULES, BILLING.replace("travel-platform@example.org", "bob@example.org"))
    await house.agents.suspend("billing", actor=ACTOR)
    await house.apply(RULES)
    await house.apply(RULES.replace("books trips", "books all trips"))
    await house.agents.retire("billing", actor=ACTOR)
    assert [one.owner for one in await house.agents.retired()] == ["bob@example.org"]
    with pytest.raises(Refused, match=r"agent billing: retired by uid:0 on .* \(owner bob@example\.org\)"):
        await house.apply(RULES, BILLING)


async def test_a_plan_names_each_suspension_whose_name_it_lacks_and_what_has_its_selectors(house: House) -> None:
    await house.apply(RULES, BILLING)
    await house.agents.suspend("concierge/crm", actor=ACTOR)
    await house.agents.suspend("billing", actor=ACTOR)
    assert (await house.plan(RULES, BILLING)).lost == (), "it has both"
    renamed = RULES.replace("component.crm]", "component.c9]").replace('"crm"]', '"c9"]')
    plan = await house.plan(renamed, BILLING.replace("agent.billing", "agent.paying"))
    found = {one.held.name: one.heirs for one in plan.lost}
    paying = tuple(f"paying/{name}" for name in ("crm", "orchestrator", "reasoning"))
    assert found == {"billing": paying, "concierge/crm": ("concierge/c9",)}
    # It is also said once that rulebook is in force, and of a name that was suspended with it.
    await house.apply(renamed)
    await house.agents.suspend("concierge/c9", actor=ACTOR)
    await house.agents.retire("billing", actor=ACTOR)
    plan = await house.plan(renamed)
    assert [(one.held.name, one.heirs) for one in plan.lost] == [("concierge/crm", ())]
    # Less of its selectors is the same program, and so is more of them.
    await house.agents.resume("concierge/c9", actor=ACTOR)
    more = renamed.replace('["unix:uid:1003"]', '["unix:uid:1003", "unix:gid:7"]').replace(
        '"unix:path:/opt/crm"', '"unix:gid:7"'
    )
    assert [one.heirs for one in (await house.plan(more)).lost] == [("concierge/c9",)]
    other = renamed.replace("unix:uid:1003", "unix:uid:1033").replace("unix:uid:1004", "unix:uid:1044")
    assert [one.heirs for one in (await house.plan(other)).lost] == [()]


async def test_what_nobody_knows_is_not_retired(house: House) -> None:
    await house.apply(RULES)
    with pytest.raises(Refused, match="is called 'concierg'") as refused:
        await house.agents.retire("concierg", actor=ACTOR)
    assert (refused.value.kind, refused.value.hint) == (Kind.NOT_FOUND, "did you mean concierge?")


async def test_an_overdue_agent_is_suspended_after_fourteen_days_where_that_is_asked_for(house: House) -> None:
    await house.apply(due("2026-01-01"), due("2026-01-01", "warn", BILLING))
    await house.overdue()
    assert not await house.dates.overdue(), "the day itself is not overdue"
    house.clock.advance(14 * DAY)
    await house.overdue()
    assert await house.live() == {"concierge", "billing"}
    assert [one.name for one in await house.dates.overdue()] == ["billing", "concierge"]
    house.clock.advance(DAY)
    for _ in range(2):
        await house.overdue()
    assert await house.live() == {"billing"}
    (row,) = await house.audit("agent suspended")
    assert (row["actor"], row["subject"]) == ("issuer", "concierge")
    assert [one.is_suspended for one in await house.dates.overdue()] == [False, True]
    (held,) = await house.agents.held()
    assert (held.actor, held.comment) == ("issuer", "its review was due on 2026-01-01")


async def test_an_issuer_that_starts_again_suspends_nobody_twice_and_whom_it_had_not(house: House) -> None:
    await house.apply(due("2026-01-01"))
    house.clock.advance(15 * DAY)
    await house_on(house.store, house.clock).overdue()
    await house_on(house.store, house.clock).overdue()
    assert (len(await house.audit("agent suspended")), await house.live()) == (1, set())


async def test_while_the_clock_is_in_doubt_nobody_is_suspended(house: House) -> None:
    await house.apply(due("2026-01-01"))
    await house.overdue.guard.is_trusted()
    house.clock.jump(30 * DAY)
    await house.overdue()
    assert await house.live() == {"concierge"}


@pytest.mark.parametrize(
    ("later", "is_resumed"),
    [
        (due("2026-06-30"), True),
        (due("2026-01-02"), False),  # past its grace as well
        (due("2026-01-02", "warn"), True),
        (due("2025-12-31"), False),
        (f"# reviewed\n{due('2026-01-01')}", False),
    ],
)
async def test_a_later_review_resumes_what_the_issuer_suspended(later: str, is_resumed: bool, house: House) -> None:  # noqa: FBT001 - a row of the table
    await house.apply(due("2026-01-01"))
    house.clock.advance(17 * DAY)
    await house.overdue()
    await house.apply(later)
    await house.overdue()
    assert ("concierge" in await house.live()) is is_resumed
    assert bool(await house.agents.held()) is not is_resumed
    assert len(await house.audit("agent resumed")) == is_resumed


async def test_an_operator_resumes_it_for_that_review_and_suspends_it_whatever_its_review(house: House) -> None:
    await house.apply(due("2026-01-01"))
    house.clock.advance(15 * DAY)
    await house.overdue()
    await house.agents.resume("concierge", actor=ACTOR)
    await house.overdue()
    assert await house.live() == {"concierge"}
    await house.apply(due("2026-01-16"))
    house.clock.advance(16 * DAY)
    await house.overdue()
    assert await house.live() == set(), "that is another review"
    await house.agents.suspend("concierge", actor=ACTOR)
    await house.apply(due("2026-12-31"))
    assert await house.live() == set(), "an operator's suspension ends by an operator alone"


async def test_an_operator_who_suspends_it_after_the_issuer_leaves_both_reasons(house: House) -> None:
    await house.apply(due("2026-01-01"))
    house.clock.advance(15 * DAY)
    await house.overdue()
    await house.agents.suspend("concierge", actor=ACTOR)
    (held,) = await house.agents.held()
    assert (held.actor, held.comment, str(held.review_by)) == (
        "uid:0",
        "PR 7; before that by the issuer: its review was due on 2026-01-01",
        "2026-01-01",
    )
    assert [(one.is_suspended, one.is_for_review) for one in await house.dates.overdue()] == [(True, True)]
    await house.agents.suspend("concierge", actor=Operator("uid:0", login="", comment="again"))
    assert await house.agents.held() == [held], "the first operator's reason stays"
    await house.apply(due("2026-12-31"))
    (held,) = await house.agents.held()
    assert (await house.live(), held.actor, held.review_by) == (set(), "uid:0", None)
    await house.agents.resume("concierge", actor=ACTOR)
    assert await house.live() == {"concierge"}


async def test_an_overdue_agent_that_an_operator_or_the_rulebook_suspends_is_said_to_be_suspended(house: House) -> None:
    await house.apply(
        due("2026-01-01", "warn"),
        due("2026-01-01", "warn", BILLING).replace("purpose", 'state = "suspended"\npurpose', 1),
    )
    house.clock.advance(2 * DAY)
    await house.agents.suspend("concierge", actor=ACTOR)
    assert [(one.name, one.is_suspended, one.is_for_review) for one in await house.dates.overdue()] == [
        ("billing", True, False),
        ("concierge", True, False),
    ]


async def test_a_review_says_by_owner_what_is_unused_overdue_and_broad(house: House) -> None:
    rules = RULES.replace('["join_token:label:team:travel"]\n\n', '"any"\n\n').replace("2027-03-31", "2026-01-31")
    await house.apply(rules, BILLING.replace("travel-platform@example.org", "ann@example.org"))
    await house.agents.retire("billing", at_once=True, actor=ACTOR)
    young = await house.review(30 * DAY)
    assert [owner["owner"] for owner in _rows(young, "owners")] == ["ann@example.org", "travel-platform@example.org"]
    (concierge,) = _rows(_rows(young, "owners")[1], "agents")
    assert {one["use"] for one in _rows(concierge, "components")} == {"new"}
    house.clock.advance(40 * DAY)
    old = await house.review(30 * DAY)
    billing, concierge = (_rows(owner, "agents")[0] for owner in _rows(old, "owners"))
    assert (billing["state"], concierge["state"], concierge["is_overdue"]) == ("retired", "active", True)
    assert {one["use"] for one in _rows(billing, "components")} == {"no identity"}
    assert {(one["use"], one["last_minted"], one["last_fetched"]) for one in _rows(concierge, "components")} == {
        ("unused", None, None)
    }
    assert {broad["finding"] for one in _rows(concierge, "components") for broad in _rows(one, "broad")} == {"any-node"}
    assert [(one["agent"], one["by"]) for one in _rows(old, "retired")] == [("billing", "uid:0")]
    assert (old["trust_domain"], old["revision"], old["unused_for"]) == (str(TRUST_DOMAIN), 1, "30d")
    with pytest.raises(Refused, match="unused_for: expected at most 90d"):
        await house.review(91 * DAY)


async def test_a_review_has_components_that_are_suspended_alone_and_says_who_did_that(house: House) -> None:
    await house.apply(RULES)
    before = {
        str(one["component"])
        for one in _rows(_rows(_rows(await house.review(DAY), "owners")[0], "agents")[0], "components")
    }
    alone = min(before)
    await house.agents.suspend(f"concierge/{alone}", actor=ACTOR)
    signed = await house.review.export(DAY, actor=ACTOR)
    (concierge,) = _rows(_rows(signed.document, "owners")[0], "agents")
    found = {
        one["component"]: (one["state"], one["suspended_by"], one["suspended_because"], one["use"])
        for one in _rows(concierge, "components")
    }
    assert (concierge["state"], concierge["suspended_by"]) == ("active", "")
    assert found.pop(alone) == ("suspended", "uid:0", "PR 7", "no identity")
    assert found == dict.fromkeys(before - {alone}, ("active", "", "", "new"))
    await house.agents.retire("concierge", at_once=True, actor=ACTOR)
    (concierge,) = _rows(_rows(await house.review(DAY), "owners")[0], "agents")
    assert {(one["state"], one["suspended_by"]) for one in _rows(concierge, "components")} == {("retired", "")}


async def test_what_is_suspended_has_no_identity_and_its_last_use_is_still_shown(house: House) -> None:
    await house.apply(RULES)
    entries = await house.store.read(lambda tx: tx.entries.find(EntryFilter(), after="", limit=1000))
    used = next(one for one in entries if one.spiffe_id.path.startswith("/agent/concierge/"))
    use = a_use(entry_id=used.id, first_at=house.clock.now(), last_at=house.clock.now())
    await house.store.write(lambda tx: tx.uses.note(NodeID("n1"), [use], most=10, most_bytes=10_000))

    async def of_it() -> tuple[object, bool]:
        (concierge,) = _rows(_rows(await house.review(DAY), "owners")[0], "agents")
        (one,) = (one for one in _rows(concierge, "components") if one["path"] == used.spiffe_id.path)
        return one["use"], one["last_fetched"] is not None

    assert await of_it() == ("used", True)
    await house.agents.suspend("concierge", actor=ACTOR)
    assert await of_it() == ("no identity", True)


async def test_an_exported_review_is_signed_and_on_record(house: House) -> None:
    await house.apply(RULES)
    signed = await house.review.export(DAY, actor=ACTOR)
    read = SignedReview.parse(signed.to_json())
    read.check_signature()
    assert read.document == signed.document
    (row,) = await house.audit("review exported")
    facts = row["facts"]
    assert isinstance(facts, dict)
    assert (row["actor"], facts["public_key_sha256"]) == ("uid:0", signed.key_thumbprint)


def _rows(document: object, key: str) -> list[dict[str, object]]:
    assert isinstance(document, dict)
    found = document[key]
    assert isinstance(found, list)
    return found
