"""cognomen/rulebook/engine, casetests and compiling: who gets what by a rulebook, and what is missing to get more."""

from cognomen.protocol.names import issuer_id
from cognomen.protocol.selector import Selector
from cognomen.rulebook.casetests import run
from cognomen.rulebook.compiling import compiled, group_path
from cognomen.rulebook.engine import Engine, Shown
from cognomen.rulebook.rules import Nodes
from svid.spiffeid import TrustDomain
from tests.unit.cognomen.rulebook.books import CONCIERGE, book

TEAM = frozenset({Selector("join_token", "label:team:travel")})
EXAMPLE = TrustDomain("example.org")


def shown(*texts: str, node: frozenset[Selector] = TEAM, path: str = "") -> Shown:
    return Shown(selectors=frozenset(map(Selector.parse, texts)), node=node, node_path=path)


def names(engine: Engine, process: Shown) -> list[str]:
    return [str(one.name) for one in engine.match(process)]


def test_a_process_is_the_components_whose_selectors_it_shows_on_their_nodes() -> None:
    engine = Engine(book(CONCIERGE))
    assert names(engine, shown("unix:uid:1002", "unix:gid:7")) == ["concierge/reasoning"]
    assert names(engine, shown("unix:uid:1003")) == ["concierge/crm"]
    assert names(engine, shown("unix:uid:1004", "unix:path:/opt/crm")) == ["concierge/crm"]
    assert names(engine, shown("unix:uid:1002", node=frozenset())) == []
    assert names(engine, shown("unix:uid:1004")) == []


def test_what_is_missing_is_named_the_nearest_first() -> None:
    engine = Engine(book(CONCIERGE))
    nearest, *others = engine.misses(shown("unix:uid:1004"), limit=10)
    assert (str(nearest.component.name), list(map(str, nearest.lacks))) == ("concierge/crm", ["unix:path:/opt/crm"])
    assert len(others) == 2
    (elsewhere, *_) = engine.misses(shown("unix:uid:1002", node=frozenset()), limit=10)
    assert (str(elsewhere.component.name), elsewhere.lacks) == ("concierge/reasoning", ())
    assert (elsewhere.node_lacks, elsewhere.is_other_node) == (tuple(TEAM), False)
    assert [str(one.component.name) for one in engine.misses(shown("unix:uid:1002"), limit=1)] == ["concierge/crm"]


def test_one_node_is_that_node_alone() -> None:
    path = "/cognomen/node/join_token/7f"
    engine = Engine(book(CONCIERGE.replace('["join_token:label:team:travel"]\n\n', f'"{path}"\n\n')))
    assert names(engine, shown("unix:uid:1002", node=frozenset(), path=path)) == ["concierge/reasoning"]
    assert names(engine, shown("unix:uid:1002")) == []
    assert engine.misses(shown("unix:uid:1002"), limit=1)[0].is_other_node


def test_the_rules_are_tested_beside_themselves() -> None:
    (outcome,) = run(book(CONCIERGE))
    assert outcome.is_good
    (outcome,) = run(book(CONCIERGE.replace('audiences = ["https://api', 'audiences = ["https://other')))
    assert (outcome.is_good, sorted(outcome.audiences)) == (False, ["https://api.anthropic.com"])
    (outcome,) = run(book(CONCIERGE.replace('expect = ["concierge/reasoning"]', "expect = []")))
    assert (outcome.is_good, [str(one) for one in outcome.found]) == (False, ["concierge/reasoning"])


def test_nodes_that_share_a_part_of_their_digest_are_two_groups() -> None:
    """These two share 64 bits of SHA-256, which somebody found within minutes."""
    one, other = (
        Nodes(selectors=frozenset({Selector("join_token", f"label:team:{value}")}))
        for value in ("12d46deb3e740a02", "bc3a16e62c6dfc5a")
    )
    assert group_path(one) != group_path(other)


def test_equal_rules_give_equal_entries() -> None:
    first, second = (list(compiled(book(CONCIERGE), EXAMPLE)) for _ in range(2))
    assert first == second
    group, *entries = first
    assert (group.parent_id, group.selectors) == (issuer_id(EXAMPLE), TEAM)
    assert group.spiffe_id.path.startswith("/rulebook/nodes/")
    assert [one.spiffe_id.path for one in entries] == [
        "/agent/concierge/orchestrator",
        "/agent/concierge/reasoning",
        "/agent/concierge/crm",
        "/agent/concierge/crm",
    ]
    assert {one.parent_id for one in entries} == {group.spiffe_id}
    assert {(one.owner, one.labels["tier"]) for one in entries} == {("travel-platform@example.org", "2")}


def test_audiences_are_those_that_may_be_called_the_model_and_the_external_ones() -> None:
    found = {one.spiffe_id.path: one.audiences for one in compiled(book(CONCIERGE), EXAMPLE)}
    agent = "spiffe://example.org/agent/concierge"
    assert found["/agent/concierge/orchestrator"] == (f"{agent}/crm", f"{agent}/reasoning")
    assert found["/agent/concierge/reasoning"] == ("https://api.anthropic.com",)
    assert found["/agent/concierge/crm"] == ("https://crm.example.org",)
    alone = CONCIERGE.replace('may_call = ["reasoning", "crm"]\n', "")
    assert next(one for one in compiled(book(alone), EXAMPLE) if "orch" in one.spiffe_id.path).audiences == ()


def test_callers_are_all_components_of_active_agents_that_may_call_it() -> None:
    other = """
[agent.billing]
owner = "o"
purpose = "p"
nodes = "any"
[agent.billing.component.ledger]
kind = "other"
selectors = ["unix:uid:7"]
may_call = ["concierge/crm"]
"""
    agent = "spiffe://example.org/agent"
    for state, callers in (
        ("active", [f"{agent}/billing/ledger", f"{agent}/concierge/orchestrator"]),
        ("suspended", [f"{agent}/concierge/orchestrator"]),
    ):
        both = book(CONCIERGE, other.replace("owner", f'state = "{state}"\nowner'))
        found = {one.spiffe_id.path: one.callers for one in compiled(both, EXAMPLE)}
        assert list(map(str, found["/agent/concierge/crm"] or ())) == callers
        assert found["/agent/concierge/orchestrator"] == ()  # declared: nobody
        assert {callers for path, callers in found.items() if path.startswith("/rulebook")} == {None}


def test_an_agent_that_is_not_active_has_no_entries() -> None:
    assert list(compiled(book(CONCIERGE.replace("review_by", 'state = "suspended"\nreview_by')), EXAMPLE)) == []


def test_an_entry_observes_if_its_component_or_its_agent_does() -> None:
    def observing(document: str) -> list[str]:
        return sorted({one.spiffe_id.path for one in compiled(book(document), EXAMPLE) if one.observe})

    every = ["/agent/concierge/crm", "/agent/concierge/orchestrator", "/agent/concierge/reasoning"]
    component = CONCIERGE.replace('kind = "connector"', 'kind = "connector"\nmode = "observe"')
    agent = CONCIERGE.replace("purpose", 'mode = "observe"\npurpose', 1)
    enforcing = agent.replace('kind = "connector"', 'kind = "connector"\nmode = "enforce"')
    assert [observing(one) for one in (CONCIERGE, component, agent, enforcing)] == [[], every[:1], every, every]
