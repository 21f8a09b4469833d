"""cognomen/rulebook/proving: each finding has the selectors that show it, and disappears where it is allowed."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.selector import Selector
from cognomen.rulebook.engine import Engine, Shown
from cognomen.rulebook.proving import Finding, loosened, prove
from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.tables import Guard
from tests.unit.cognomen.rulebook.books import CONCIERGE, book


def component(name: str, *lines: str, agent: str = "a", kind: str = "other") -> str:
    return "\n".join([f"[agent.{agent}.component.{name}]", f'kind = "{kind}"', *lines, ""])


def agent(name: str = "a", *, owner: str = "o", nodes: str = '"any"', state: str = "active") -> str:
    return f'[agent.{name}]\nowner = "{owner}"\npurpose = "p"\nnodes = {nodes}\nstate = "{state}"\n'


def told(rulebook: Rulebook) -> list[tuple[str, list[str]]]:
    return [(one.guard.value, [str(each.name) for each in one.components]) for one in prove(rulebook)]


def selectors(*texts: str) -> str:
    return f"selectors = {list(texts)}"


def test_a_good_rulebook_has_nothing_to_prove() -> None:
    assert told(book(CONCIERGE)) == []


OVERLAP = agent() + component("x", selectors("unix:uid:1")) + component("y", selectors("unix:uid:1", "unix:gid:2"))


def test_an_overlap_is_shown_by_what_a_process_shows_and_the_node_on_which_it_runs() -> None:
    rulebook = book(OVERLAP)
    (found,) = prove(rulebook)
    assert (found.guard, found.mend) == (Guard.OVERLAP, "add a selector in which they differ, such as unix:uid")
    assert found.selectors == {Selector("unix", "uid:1"), Selector("unix", "gid:2")}
    assert "a process can be a/x and a/y at once" in found.problem


def test_both_must_allow_it() -> None:
    once = OVERLAP.replace("[agent.a.component.y]", '[agent.a.component.y]\nallow = ["overlap"]')
    assert [one for one, _ in told(book(once))] == ["overlap"]
    twice = once.replace("[agent.a.component.x]", '[agent.a.component.x]\nallow = ["overlap"]')
    assert told(book(twice)) == []
    assert [one.guard for one in loosened(book(twice))] == [Guard.OVERLAP]


@pytest.mark.parametrize("state", ["draft", "suspended", "retired"])
def test_what_gets_no_identity_proves_nothing(state: str) -> None:
    assert told(book(OVERLAP.replace('"active"', f'"{state}"'))) == []


@pytest.mark.parametrize(
    ("nodes", "is_overlap"),
    [
        ('["join_token:label:team:b"]', False),
        ('["join_token:label:zone:b"]', True),
        ('"any"', True),
        ('"/cognomen/node/join_token/7f"', True),
    ],
)
def test_on_different_nodes_there_is_no_overlap(nodes: str, *, is_overlap: bool) -> None:
    other = agent("b", nodes=nodes) + component("y", selectors("unix:uid:1"), agent="b")
    rulebook = book(agent(nodes='["join_token:label:team:a"]') + component("x", selectors("unix:uid:1")) + other)
    assert bool(told(rulebook)) is is_overlap


def test_a_path_alone_does_not_tell_apart_what_one_user_runs() -> None:
    two = component("x", selectors("unix:uid:1", "unix:path:/x")) + component(
        "y", selectors("unix:uid:1", "unix:path:/y")
    )
    (found,) = prove(book(agent() + two))
    assert (found.guard, found.mend) == (Guard.SHARED_USER, "give each a uid of its own")
    assert "a/y has unix:uid:1 too" in found.problem


def test_a_rule_without_a_user_is_for_all_of_them() -> None:
    assert told(book(agent() + component("x", selectors("unix:path:/x")))) == [("any-user", ["a/x"])]
    types = '[selector_types]\nworkload = ["docker"]\n'
    assert told(book(types + agent() + component("x", selectors("docker:image:x")))) == []


def test_a_reasoning_component_reaches_its_model_alone() -> None:
    lines = (selectors("unix:uid:1"), 'audiences = ["https://x"]')
    (found,) = prove(book(agent() + component("x", *lines, kind="reasoning")))
    assert found.guard is Guard.EXTERNAL_AUDIENCE
    assert "https://x" in found.problem
    assert told(book(agent() + component("x", *lines, kind="connector"))) == []


def test_an_orchestrator_is_no_connector_of_another_agent() -> None:
    other = agent("b") + component("o", selectors("unix:uid:2"), agent="b", kind="orchestrator")
    caller = agent() + component("x", selectors("unix:uid:1"), 'may_call = ["b/o"]')
    assert told(book(caller + other)) == [("foreign-orchestrator", ["a/x"])]
    assert told(book(caller + other.replace('"orchestrator"', '"connector"'))) == []


def test_an_audience_of_two_owners_needs_one_of_its_own() -> None:
    use = 'audiences = ["https://x"]'
    first = agent() + component("x", selectors("unix:uid:1"), use)
    second = agent("b", owner="else") + component("y", selectors("unix:uid:2"), use, agent="b")
    assert told(book(first + second)) == [("shared-audience", ["b/y", "a/x"])]
    assert told(book(first + second.replace('"else"', '"o"'))) == []
    provider = '[provider.x]\naudience = "https://x"\nowner = "them"\n'
    assert told(book(first + second + provider)) == []


PROOFS = st.lists(
    st.sampled_from(["unix:uid:1", "unix:uid:2", "unix:gid:1", "unix:gid:2", "unix:path:/a", "unix:path:/b"]),
    min_size=1,
    max_size=3,
    unique_by=lambda text: text.split(":")[1],
)
PLACES = st.sampled_from(['"any"', '["join_token:label:t:a"]', '["join_token:label:t:b"]', '["join_token:label:z:a"]'])


@given(st.lists(st.tuples(PROOFS, PLACES), min_size=1, max_size=6))
def test_the_engine_agrees_with_every_proof(rules: Sequence[tuple[list[str], str]]) -> None:
    """What is shown as an overlap matches both rules; where none is shown, no process matches both."""
    rulebook = book(
        agent()
        + "".join(component(f"c{at}", selectors(*proof), f"nodes = {nodes}") for at, (proof, nodes) in enumerate(rules))
    )
    engine = Engine(rulebook)
    overlaps = [one for one in prove(rulebook) if one.guard is Guard.OVERLAP]
    for one in overlaps:
        names = {each.name for each in engine.match(shown(one))}
        assert {each.name for each in one.components} <= names
    pairs = {frozenset(each.name for each in one.components) for one in overlaps}
    for uid in "12":
        for gid in "12":
            for path in "ab":
                for node in ("", "t:a", "t:b", "z:a", "t:a z:a", "t:b z:a"):
                    process = frozenset(
                        Selector("unix", text) for text in (f"uid:{uid}", f"gid:{gid}", f"path:/{path}")
                    )
                    labels = frozenset(Selector("join_token", f"label:{text}") for text in node.split())
                    found = [each.name for each in engine.match(Shown(selectors=process, node=labels))]
                    for at, first in enumerate(found):
                        assert all(frozenset({first, second}) in pairs for second in found[at + 1 :])


def shown(finding: Finding) -> Shown:
    labels = frozenset[Selector]().union(*(one.selectors for one in finding.nodes))
    return Shown(selectors=finding.selectors, node=labels)
