"""issuer/flows/apply_rulebook: a rulebook becomes entries exactly as it was planned, and nothing else touches them: in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import EVERY_NODE
from issuer.api.admin.planmessages import plan_to_pb
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.filters import EntryFilter
from issuer.decisions.ledger import Credential, CredentialKind, CredentialState
from issuer.decisions.operator import Operator
from issuer.decisions.rulebooks import rules_digest
from issuer.flows.apply_rulebook import Applied, ApplyRulebook
from issuer.flows.change_entries import ChangeEntries
from issuer.flows.hold_agents import NOTHING_LEFT, HoldAgents
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.works.planreach import Reach
from issuer.works.rulebookplans import RulebookPlan
from svid.keys import KeyID
from svid.spiffeid import SpiffeID
from tests.doubles.clock import FakeClock
from tests.doubles.issuancelimits import issuance_limits
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN, a_node, an_entry
from tests.doubles.issuersurroundings import around
from tests.unit.cognomen.rulebook.books import CONCIERGE

HOUR = timedelta(hours=1)
MIB = 1024 * 1024
ACTOR = Operator("uid:0", login="uid:1000", comment="PR 7")
PATHS = ["/agent/concierge/crm", "/agent/concierge/crm", "/agent/concierge/orchestrator", "/agent/concierge/reasoning"]


@dataclass(frozen=True, kw_only=True)
class House:
    store: SQLiteDatastore
    rules: ApplyRulebook
    agents: HoldAgents
    entries: ChangeEntries

    async def plan(self, *documents: str) -> RulebookPlan:
        return await self.rules.plan(files(*documents), actor=ACTOR)

    async def apply(self, *documents: str) -> Applied:
        plan = await self.plan(*documents)
        return await self.rules(files(*documents), plan.digest, actor=ACTOR)

    async def stored(self) -> list[RegistrationEntry]:
        found = await self.store.read(lambda tx: tx.entries.find(EntryFilter(), after="", limit=1000))
        return sorted(found, key=lambda one: one.spiffe_id.path)

    async def paths(self) -> list[str]:
        return [one.spiffe_id.path for one in await self.stored()]

    async def audit(self) -> list[str]:
        rows = await self.store.read(lambda tx: tx.audit.rows(after=0, limit=1000))
        return [row.body.decode() for row in rows]


def files(*documents: str) -> dict[str, str]:
    return {f"{number}.toml": document for number, document in enumerate(documents)}


def plain(path: str, parent: str, *selectors: str) -> RegistrationEntry:
    """An entry that somebody wrote by hand."""
    return an_entry(path, parent=parent, of=" ".join(f"unix:{one}" for one in selectors))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store, own = await SQLiteDatastore.open(None), around(FakeClock())
    watch = EnforcementWatch(around=own)
    rules = ApplyRulebook(
        datastore=store,
        around=own,
        trust_domain=TRUST_DOMAIN,
        node_attestors=("join_token",),
        watch=watch,
        limits=issuance_limits(own.clock),
    )
    agents = HoldAgents(
        datastore=store, around=own, trust_domain=TRUST_DOMAIN, node_attestors=("join_token",), watch=watch
    )
    entries = ChangeEntries(
        datastore=store, around=own, trust_domain=TRUST_DOMAIN, node_attestors=("join_token",), watch=watch
    )
    yield House(store=store, rules=rules, agents=agents, entries=entries)
    await store.close()


async def test_what_is_planned_is_applied(house: House) -> None:
    plan = await house.plan(CONCIERGE)
    assert plan.plan is not None
    unshown = "nodes: no node shows join_token:label:team:travel now"
    assert (plan.in_force, len(plan.plan.steps), plan.plan.warnings) == (0, 5, (unshown,))
    assert await house.paths() == []
    applied = await house.rules(files(CONCIERGE), plan.digest, actor=ACTOR)
    assert applied.revision == 1
    *entries, group = await house.stored()
    assert [one.spiffe_id.path for one in entries] == PATHS
    assert group.selectors == {Selector("join_token", "label:team:travel")}
    assert {one.owner for one in entries} == {"travel-platform@example.org"}
    kept = await house.rules.get(0)
    assert (kept.revision, kept.files, kept.components, kept.actor, kept.comment) == (
        1,
        files(CONCIERGE),
        3,
        "uid:0",
        "PR 7",
    )


async def test_what_was_planned_is_not_read_and_proved_again_when_it_is_applied(house: House) -> None:
    plan = await house.plan(CONCIERGE)
    digest = rules_digest(files(CONCIERGE))
    planned = house.rules.rulebooks.get(digest)
    assert planned is not None
    assert (await house.rules(files(CONCIERGE), plan.digest, actor=ACTOR)).revision == 1
    assert house.rules.rulebooks.get(digest) is planned


async def test_a_rulebook_that_is_refused_is_not_kept(house: House) -> None:
    with pytest.raises(Refused):
        await house.plan("[agent")
    assert not house.rules.rulebooks


async def test_the_record_names_the_revision(house: House) -> None:
    await house.apply(CONCIERGE)
    *changes, applied = await house.audit()
    assert '"action":"rulebook applied"' in applied
    assert all('"rulebook":"1"' in one for one in changes)


async def test_applying_again_changes_nothing_and_leaves_no_trace(house: House) -> None:
    await house.apply(CONCIERGE)
    before, record = await house.stored(), await house.audit()
    assert (await house.plan(CONCIERGE)).plan is None
    assert (await house.apply(CONCIERGE)).revision == 1
    assert (await house.stored(), await house.audit()) == (before, record)


async def test_other_words_are_another_revision_and_the_same_entries(house: House) -> None:
    await house.apply(CONCIERGE)
    before = await house.stored()
    assert (await house.apply(f"# reviewed\n{CONCIERGE}")).revision == 2
    assert await house.stored() == before
    assert [one.revision for one in await house.rules.newest(10)] == [2, 1]
    assert (await house.rules.get(1)).files == files(CONCIERGE)


async def test_a_component_that_changes_keeps_its_entry(house: House) -> None:
    await house.apply(CONCIERGE)
    before = {one.id: one for one in await house.stored()}
    await house.apply(CONCIERGE.replace("unix:uid:1002", "unix:uid:2002").replace("30m", "20m"))
    after = {one.id: one for one in await house.stored()}
    assert before.keys() == after.keys()
    changed = [after[one].spiffe_id.path for one in after if after[one] != before[one]]
    assert sorted(changed) == ["/agent/concierge/orchestrator", "/agent/concierge/reasoning"]


async def test_what_is_no_longer_in_it_is_deleted_and_nothing_else(house: House) -> None:
    web = RegistrationEntry(
        spiffe_id=SpiffeID(trust_domain=TRUST_DOMAIN, path="/web"),
        parent_id=SpiffeID(trust_domain=TRUST_DOMAIN, path="/cognomen/node/join_token/7f"),
        selectors=frozenset({Selector("unix", "uid:1")}),
    )
    await house.entries.create([web], actor=ACTOR)
    await house.apply(CONCIERGE)
    await house.apply("")
    assert await house.paths() == ["/web"]


@pytest.mark.parametrize("state", ["draft", "suspended", "retired"])
async def test_an_agent_that_is_not_active_has_no_entries(state: str, house: House) -> None:
    await house.apply(CONCIERGE)
    plan = await house.plan(CONCIERGE.replace("purpose", f'state = "{state}"\npurpose', 1).partition("[[case]]")[0])
    assert plan.plan is not None
    assert [step.after for step in plan.plan.steps] == [None] * 5


async def test_a_plan_is_refused_if_the_rulebook_or_an_entry_has_changed_since(house: House) -> None:
    plan = await house.plan(CONCIERGE)
    await house.apply(CONCIERGE.replace("30m", "20m"))
    with pytest.raises(Refused, match="expected the plan of what is in force now") as refused:
        await house.rules(files(CONCIERGE), plan.digest, actor=ACTOR)
    assert refused.value.kind is Kind.CONFLICT
    assert (await house.rules.get(0)).revision == 1
    with pytest.raises(Refused, match="expected the plan"):
        await house.rules(files(f"{CONCIERGE}# more"), (await house.plan(CONCIERGE)).digest, actor=ACTOR)


async def test_of_two_at_once_one_is_refused(house: House) -> None:
    other = CONCIERGE.replace("30m", "20m")
    plans = [await house.plan(document) for document in (CONCIERGE, other)]
    done = await asyncio.gather(
        *(
            house.rules(files(document), plan.digest, actor=ACTOR)
            for document, plan in zip((CONCIERGE, other), plans, strict=True)
        ),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in done) == ["Applied", "Refused"]
    assert [one.revision for one in await house.rules.newest(10)] == [1]


async def test_a_retired_name_never_comes_back(house: House) -> None:
    retired = CONCIERGE.replace("purpose", 'state = "retired"\npurpose', 1).partition("[[case]]")[0]
    await house.apply(CONCIERGE)
    await house.apply(retired)
    assert await house.paths() == []
    for document in (CONCIERGE, CONCIERGE.replace("travel-platform", "somebody-else")):
        with pytest.raises(Refused, match=r"retired in revision 2 .owner travel-platform@example.org."):
            await house.plan(document)
    await house.apply("")
    with pytest.raises(Refused, match="a retired name never comes back"):
        await house.plan(CONCIERGE)
    assert (await house.plan(retired)).plan is None


async def test_a_fault_or_a_finding_is_refused_and_put_on_record_when_it_was_to_be_applied(house: House) -> None:
    overlap = CONCIERGE.replace("unix:uid:1002", "unix:uid:1001").partition("[[case]]")[0]
    for document, words in (("x = 1", "0.toml:1: x: unknown key"), (overlap, "at once .overlap, 0.toml:10.")):
        with pytest.raises(Refused, match=words):
            await house.plan(document)
        with pytest.raises(Refused, match=words):
            await house.rules(files(document), "", actor=ACTOR)
    assert len([one for one in await house.audit() if '"action":"rulebook applied"' in one]) == 2


async def test_once_there_is_a_rulebook_nobody_else_touches_what_belongs_to_it(house: House) -> None:
    plain = RegistrationEntry(
        spiffe_id=SpiffeID(trust_domain=TRUST_DOMAIN, path="/agent/old/part"),
        parent_id=SpiffeID(trust_domain=TRUST_DOMAIN, path="/cognomen/node/join_token/7f"),
        selectors=frozenset({Selector("unix", "uid:1")}),
    )
    made = await house.entries.create([plain], actor=ACTOR)
    assert ["will belong to the rulebook" in one for one in made.warnings] == [True, False]
    await house.apply(CONCIERGE)
    assert "/agent/old/part" not in await house.paths(), "the rulebook prunes what is below /agent"
    for command in (
        house.entries.create([plain], actor=ACTOR),
        house.entries.delete([(await house.stored())[0].id], actor=ACTOR),
    ):
        with pytest.raises(Refused, match="belongs to the rulebook") as refused:
            await command
        assert refused.value.kind is Kind.DENIED
        assert '"subject":"spiffe://example.org/agent/' in (await house.audit())[-1], (
            "the record says whose entry it is"
        )


async def test_a_component_on_any_node_is_below_a_group_of_every_node(house: House) -> None:
    await house.apply(CONCIERGE.replace('["join_token:label:team:travel"]\n\n', '"any"\n\n').partition("[[case]]")[0])
    group = (await house.stored())[-1]
    assert group.selectors == {EVERY_NODE}


async def test_an_agent_that_an_operator_suspends_stays_so_through_each_rulebook_until_it_is_resumed(
    house: House,
) -> None:
    await house.apply(CONCIERGE)
    done = await house.agents.suspend("concierge", actor=ACTOR)
    assert (sum(done.counts.values()), await house.paths()) == (5, [])
    assert [(one.name, one.actor, one.comment) for one in await house.agents.held()] == [("concierge", "uid:0", "PR 7")]
    record = await house.audit()
    assert sum((await house.agents.suspend("concierge", actor=ACTOR)).counts.values()) == 0
    assert await house.audit() == record
    assert (await house.apply(CONCIERGE.replace("30m", "20m"))).revision == 2
    assert await house.paths() == []
    await house.agents.resume("concierge", actor=ACTOR)
    assert (await house.paths())[:4] == PATHS
    assert [one for one in await house.audit() if '"action":"agent resumed"' in one]


async def test_a_component_that_an_operator_suspends_stays_so_until_it_is_resumed_and_the_others_stay(
    house: House,
) -> None:
    await house.apply(CONCIERGE)
    gone = next(one for one in PATHS if one.startswith("/agent/concierge/"))
    name = gone.removeprefix("/agent/")
    await house.agents.suspend(name, actor=ACTOR)
    assert (await house.paths())[:-1] == [one for one in PATHS if one != gone]
    assert [one.name for one in await house.agents.held()] == [name]
    await house.apply(CONCIERGE.replace("30m", "20m"))
    assert gone not in await house.paths()
    await house.agents.suspend("concierge", actor=ACTOR)
    await house.agents.resume("concierge", actor=ACTOR)
    assert gone not in await house.paths(), "a component's own suspension is a thing of its own"
    await house.agents.resume(name, actor=ACTOR)
    assert (await house.paths())[:-1] == PATHS


@pytest.mark.parametrize(
    ("name", "problem", "hint"),
    [
        ("concierge/cmr", "concierge has no component 'cmr'", "did you mean crm?"),
        ("concierg/crm", "none of the rulebook in force is called 'concierg'", "did you mean concierge?"),
        ("concierge/", "concierge has no component ''", "known: crm"),
        ("concierge/crm/x", "concierge has no component 'crm/x'", "crm"),
    ],
)
async def test_a_component_that_is_not_there_cannot_be_suspended(
    house: House, name: str, problem: str, hint: str
) -> None:
    await house.apply(CONCIERGE)
    with pytest.raises(Refused, match=problem) as refused:
        await house.agents.suspend(name, actor=ACTOR)
    assert hint in refused.value.hint
    assert await house.agents.held() == []


async def test_what_cannot_be_suspended_or_resumed_is_refused_and_recorded(house: House) -> None:
    with pytest.raises(Refused, match="none was applied yet"):
        await house.agents.suspend("concierge", actor=ACTOR)
    await house.apply(CONCIERGE)
    with pytest.raises(Refused, match="none of the rulebook in force is called 'concierg'") as refused:
        await house.agents.suspend("concierg", actor=ACTOR)
    assert refused.value.hint == "did you mean concierge?"
    with pytest.raises(Refused, match="'concierge' is not suspended by an operator"):
        await house.agents.resume("concierge", actor=ACTOR)
    assert len([one for one in await house.audit() if '"action":"agent ' in one]) == 3


async def test_a_plan_warns_of_what_it_leaves_without_nodes_and_of_nodes_that_nobody_knows(house: House) -> None:
    await house.apply(CONCIERGE)
    group = (await house.stored())[-1].spiffe_id
    plain = RegistrationEntry(
        spiffe_id=SpiffeID(trust_domain=TRUST_DOMAIN, path="/web"),
        parent_id=group,
        selectors=frozenset({Selector("unix", "uid:1")}),
    )
    await house.entries.create([plain], actor=ACTOR)
    plan = (await house.plan("")).plan
    assert plan is not None
    assert [group.path in one for one in plan.warnings] == [True]
    elsewhere = CONCIERGE.replace(
        '["join_token:label:team:travel"]\n\n', '"/cognomen/node/join_token/7f"\n\n'
    ).partition("[[case]]")
    plan = (await house.plan(elsewhere[0])).plan
    assert plan is not None
    assert [one for one in plan.warnings if "no node or node group is" in one]


async def test_a_plan_warns_of_a_label_that_no_node_shows(house: House) -> None:
    await house.store.write(lambda tx: tx.nodes.put(a_node(of="join_token:label:team:travel join_token:label:site:a")))
    plan = (await house.plan(CONCIERGE)).plan
    assert plan is not None
    assert plan.warnings == ()
    rules = CONCIERGE.partition("[[case]]")[0]
    misspelt = rules.replace('team:travel"]', 'team:travle", "join_token:label:site:a"]')
    await house.apply(rules)
    plan = (await house.plan(misspelt)).plan
    assert plan is not None
    assert plan.warnings == ("nodes: no node shows join_token:label:site:a, join_token:label:team:travle now",)
    plan = (await house.plan(rules.replace('["join_token:label:team:travel"]', '"any"'))).plan
    assert plan is not None
    assert plan.warnings == ()


@pytest.mark.parametrize("audience", [f"spiffe://{TRUST_DOMAIN}", f"spiffe://{TRUST_DOMAIN}/web"])
async def test_what_is_ours_is_no_external_audience(audience: str, house: House) -> None:
    with pytest.raises(Refused, match="concierge/crm: expected external audiences, found spiffe://"):
        await house.plan(CONCIERGE.replace("https://crm.example.org", audience))


async def test_suspending_needs_no_rulebook_that_this_release_can_read_and_touches_no_other_agent(house: House) -> None:
    other = CONCIERGE.replace("concierge", "billing").partition("[provider")[0].replace("unix:uid:1", "unix:uid:2")
    await house.apply(CONCIERGE, other)
    newer = replace(
        await house.rules.get(0), revision=2, files=files(CONCIERGE, other.replace("connector", "new kind"))
    )
    await house.store.write(lambda tx: tx.rulebooks.add(newer))
    await house.agents.suspend("concierge", actor=ACTOR)
    assert [one for one in await house.paths() if "/agent/" in one] == [
        one.replace("concierge", "billing") for one in PATHS
    ]
    with pytest.raises(Refused, match="this release cannot read the one in force"):
        await house.agents.resume("concierge", actor=ACTOR)


async def test_an_agent_that_was_suspended_and_left_the_files_can_be_suspended_again(house: House) -> None:
    await house.apply(CONCIERGE)
    await house.agents.suspend("concierge", actor=ACTOR)
    await house.apply("")
    record = await house.audit()
    await house.agents.suspend("concierge", actor=ACTOR)
    assert await house.audit() == record


async def test_limits_are_in_force_with_the_transaction_that_applies_them_and_go_with_them(house: House) -> None:
    limited = CONCIERGE.replace(
        "[agent.concierge.component.crm]", "[agent.concierge.component.crm]\nlimits = { nodes = 3 }"
    )
    limits = house.rules.limits
    await house.apply(CONCIERGE)
    assert list(limits.standings()) == []
    plan = await house.plan(limited)
    assert plan.plan is None, "no entry changes"
    applied = await house.apply(limited)
    assert (applied.revision, [(one.scope.path, one.most) for one in limits.standings()]) == (
        2,
        [("/agent/concierge/crm", 3)],
    )
    stored = await house.store.read(lambda tx: tx.limits.list(2))
    assert [(one.path, dict(one.most)) for one in stored] == [("/agent/concierge/crm", {"nodes": 3})]
    await house.apply(limited)
    assert len(limits.standings()) == 1, "nothing was new"
    await house.apply(CONCIERGE)
    assert list(limits.standings()) == []
    assert await house.store.read(lambda tx: tx.limits.list(3)) == []


async def test_a_plan_says_whether_applying_it_leaves_a_revision(house: House) -> None:
    draft = CONCIERGE.replace("purpose", 'state = "draft"\npurpose', 1).partition("[[case]]")[0]
    for document, is_new in ((draft, True), (draft, False), (f"# reviewed\n{draft}", True), (CONCIERGE, True)):
        plan = await house.plan(document)
        revision = (await house.apply(document)).revision
        assert plan.is_new is is_new is (revision > plan.in_force)


async def test_a_plan_names_what_it_retires_and_who_is_held(house: House) -> None:
    retired = CONCIERGE.replace("purpose", 'state = "retired"\npurpose', 1).partition("[[case]]")[0]
    await house.apply(CONCIERGE)
    await house.agents.suspend("concierge", actor=ACTOR)
    plan = await house.plan(f"# other\n{CONCIERGE}")
    assert (plan.retired, [(one.name, one.comment) for one in plan.held]) == ((), [("concierge", "PR 7")])
    plan = await house.plan(retired)
    assert (plan.retired, plan.held, plan.is_new) == (("concierge",), (), True)
    await house.apply(retired)
    assert (await house.plan(retired)).retired == ()


async def test_the_list_of_revisions_has_no_files(house: House) -> None:
    await house.apply(CONCIERGE)
    (found,) = await house.rules.newest(10)
    assert (found.revision, found.components, found.files) == (1, 3, {})
    assert (await house.rules.get(1)).files == files(CONCIERGE)


async def test_a_plan_says_what_of_whom_it_ends_and_what_it_does_not_reach(house: House) -> None:
    await house.apply(CONCIERGE)
    crm, *_, reasoning, _ = await house.stored()
    model = "https://api.anthropic.com"
    tokens = [(crm, "https://crm.example.org"), (reasoning, model)]
    await house.store.write(lambda tx: tx.ledger.record([token(*one) for one in tokens]))
    plan = await house.plan(CONCIERGE.replace("unix:uid:1002", "unix:uid:2002").partition("[[case]]")[0])
    (ending,) = plan.reach.endings.identities
    assert (ending.spiffe_id.path, ending.jwt, ending.x509, ending.audiences) == (
        "/agent/concierge/reasoning",
        1,
        0,
        (model,),
    )
    ((audience, until),) = plan.reach.exchanged
    assert (audience, until) == (model, NOW + 2 * HOUR)
    longer = await house.rules.plan(files(""), actor=ACTOR, longest_lives={model: 5 * HOUR})
    assert [one.spiffe_id.path for one in longer.reach.endings.identities] == [
        "/agent/concierge/crm",
        "/agent/concierge/reasoning",
    ]
    assert [one.until for one in longer.reach.exchanged] == [NOW + 6 * HOUR]
    left = await house.rules.plan(files(""), actor=ACTOR, let_expire=True)
    assert left.reach == Reach()


async def test_a_revocation_that_an_apply_makes_names_its_agents_and_the_component_if_it_is_one(house: House) -> None:
    await house.apply(CONCIERGE)
    crm, *_, reasoning, _ = await house.stored()
    tokens = [(crm, "https://crm.example.org"), (reasoning, "https://api.anthropic.com")]
    await house.store.write(lambda tx: tx.ledger.record([token(*one) for one in tokens]))
    await house.apply(CONCIERGE.replace("unix:uid:1002", "unix:uid:2002").partition("[[case]]")[0])
    await house.apply("")
    revoked = [json.loads(one)["facts"] for one in await house.audit() if '"action":"revoked"' in one]
    assert [(one["kind"], one["of_agents"], one.get("of_component")) for one in revoked] == [
        ("update", "concierge", "concierge/reasoning"),
        ("deletion", "concierge", None),
    ]


async def test_providers_of_the_rulebook_in_force_say_how_long_their_tokens_live(house: House) -> None:
    assert await house.rules.longest_lives() == {}
    await house.apply(CONCIERGE)
    assert await house.rules.longest_lives() == {"https://api.anthropic.com": HOUR}
    await house.apply(CONCIERGE.replace('longest_life = "1h"', 'longest_life = "90m"'))
    assert await house.rules.longest_lives() == {"https://api.anthropic.com": 1.5 * HOUR}
    await house.apply("")
    assert await house.rules.longest_lives() == {}


async def test_a_plan_that_is_too_large_for_one_answer_comes_in_parts(house: House) -> None:
    labels = ", ".join(f'l{number} = "{"x" * 250}"' for number in range(40))
    components = "".join(
        f'[agent.a.component.c{number}]\nkind = "other"\nprove = '
        f"{[[f'unix:uid:{64 * number + at}'] for at in range(64)]}\n"
        for number in range(60)
    )
    document = f'[agent.a]\nowner = "o"\npurpose = "p"\nnodes = "any"\nlabels = {{ {labels} }}\n{components}'
    plan = await house.plan(document)
    assert plan.plan is not None
    first = await plan_to_pb(plan, skip=0)
    assert 16 * MIB < first.ByteSize() < 33 * MIB, "an answer has 64 MiB"
    assert (len(first.changes) + first.more_changes, first.digest) == (len(plan.plan.steps), plan.digest)
    rest = await plan_to_pb(plan, skip=len(first.changes))
    assert (len(rest.changes), rest.more_changes) == (first.more_changes, 0)
    assert first.more_changes
    assert (await plan_to_pb(plan, skip=10**6)).more_changes == 0


def token(entry: RegistrationEntry, audience: str) -> Credential:
    return Credential(
        kind=CredentialKind.JWT,
        serial=audience,
        spiffe_id=entry.spiffe_id,
        authority_id=KeyID("jwt-1"),
        issued_at=NOW,
        not_after=NOW + HOUR,
        entry_id=entry.id,
        node_id=NodeID("n1"),
        audiences=(audience,),
        state=CredentialState.ISSUED,
    )


async def test_what_observes_is_known_since_when_and_no_longer_once_it_is_enforced_or_gone(house: House) -> None:
    async def observing() -> list[str]:
        found = await house.store.read(lambda tx: tx.observations.find(None, after="", limit=99))
        return sorted(one.spiffe_id.path for one in found)

    crm = CONCIERGE.replace('kind = "connector"', 'kind = "connector"\nmode = "observe"')
    await house.apply(crm)
    assert await observing() == ["/agent/concierge/crm"] * 2
    await house.apply(CONCIERGE.replace("purpose", 'mode = "observe"\npurpose', 1))
    assert await observing() == PATHS
    await house.agents.suspend("concierge", actor=ACTOR)
    assert await observing() == []
    await house.agents.resume("concierge", actor=ACTOR)
    assert await observing() == PATHS
    await house.apply(CONCIERGE)
    assert await observing() == []


async def test_a_plain_entry_below_the_rulebooks_nodes_is_warned_of(house: House) -> None:
    await house.apply(CONCIERGE)
    group = next(path for path in await house.paths() if path.startswith("/rulebook/nodes/"))
    made = await house.entries.create([plain("/backdoor", group, "uid:0")], actor=ACTOR)
    said = f"parent_id: {group} is a node group of the rulebook, and the entry is not the rulebook's"
    assert [one.startswith(said) for one in made.warnings] == [True]
    plan = (await house.plan(CONCIERGE.replace("unix:uid:1002", "unix:uid:1012"))).plan
    assert plan is not None
    assert not plan.warnings, "the rulebook's own entries are below them"


async def test_the_plain_entries_that_the_programs_of_what_is_suspended_still_have_are_found(house: House) -> None:
    await house.apply(CONCIERGE)
    group = next(path for path in await house.paths() if path.startswith("/rulebook/nodes/"))
    every, node = "/every", a_node("7f")
    await house.store.write(lambda tx: tx.nodes.put(node))
    elsewhere = a_node("8f", of="join_token:label:team:other")
    await house.store.write(lambda tx: tx.nodes.put(elsewhere))
    groups = [
        an_entry(every, parent="/cognomen/issuer", of=str(EVERY_NODE)),
        an_entry("/others", parent="/cognomen/issuer", of="join_token:label:team:other"),
    ]
    both = ("uid:1004", "path:/opt/crm")
    entries = [
        plain("/same", group, "uid:1003"),
        plain("/wide", every, "path:/opt/crm"),
        plain("/whole", group, *both),
        plain("/node", node.spiffe_id.path, "uid:1003"),
        plain("/narrow", group, "uid:1003", "gid:7"),
        plain("/others-nodes", "/others", "uid:1003"),
        plain("/other-node", elsewhere.spiffe_id.path, "uid:1003"),
        plain("/no-node", "/nowhere", "uid:1003"),
        plain("/other-program", group, "uid:1001"),
        replace(plain("/over", group, "uid:1003"), expires_at=NOW - 24 * HOUR),
    ]
    await house.entries.create(groups, actor=ACTOR)
    await house.entries.create(entries[:-1], actor=ACTOR)
    await house.store.write(lambda tx: tx.entries.insert([replace(entries[-1], id=EntryID("over"), revision=1)]))
    await house.agents.suspend("concierge/crm", actor=ACTOR)
    found = await house.agents.left("concierge/crm")
    assert [one.spiffe_id.path for one in found.entries] == ["/node", "/same", "/whole", "/wide"]
    assert (found.more, found.is_cut) == (0, False)
    # Of the whole agent those of the other components as well; below a group that is gone nobody gets anything.
    await house.agents.suspend("concierge", actor=ACTOR)
    assert group not in await house.paths()
    assert [one.spiffe_id.path for one in (await house.agents.left("concierge")).entries] == ["/node", "/wide"]
    await house.entries.create([plain("/admin", every, "uid:1001")], actor=ACTOR)
    assert len((await house.agents.left("concierge")).entries) == 3
    # Also if the rulebook has it no more; and of nobody there is nothing.
    await house.apply("")
    assert len((await house.agents.left("concierge")).entries) == 3
    assert await house.agents.left("nobody") == NOTHING_LEFT
    many = [plain(f"/many{at}", every, "uid:1001") for at in range(30)]
    await house.entries.create(many, actor=ACTOR)
    found = await house.agents.left("concierge")
    assert (len(found.entries), found.more) == (20, 13)
