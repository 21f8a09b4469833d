"""cognomen/rulebook/proving: each finding has the selectors that show it, and disappears where it is allowed."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, product

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from cognomen.protocol.selector import Selector
from cognomen.rulebook.engine import Engine, Shown
from cognomen.rulebook.proving import MOST_LISTED, Finding, loosened, prove
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


@given(st.lists(st.tuples(PROOFS, PLACES), min_size=1, max_size=4))
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


ALLOW = st.sets(st.sampled_from(["overlap", "shared-user"]))
SEVERAL = st.lists(PROOFS, min_size=1, max_size=3)
RULES = st.lists(st.tuples(SEVERAL, PLACES, ALLOW), min_size=1, max_size=9)


def rules_of(rules: Sequence[tuple[list[list[str]], str, set[str]]]) -> Rulebook:
    return book(
        agent()
        + "".join(
            component(f"c{at}", f"prove = {proofs}", f"nodes = {nodes}", f"allow = {sorted(allow)}")
            for at, (proofs, nodes, allow) in enumerate(rules)
        )
    )


def z3_shows(one: Iterable[Selector], other: Iterable[Selector]) -> bool:
    """Whether something shows both."""
    solver = z3.Solver()
    for selector in (*one, *other):
        fact, _, value = str(selector).rpartition(":")
        solver.add(z3.String(fact) == z3.StringVal(value))
    return bool(solver.check() == z3.sat)


def z3_pairs(rulebook: Rulebook) -> set[tuple[Guard, str, str]]:
    """Every pair about which there is something to find, allowed or not, by comparing everything with everything."""
    found: set[tuple[Guard, str, str]] = set()
    for one, other in combinations(rulebook.active(), 2):
        if not z3_shows(one.nodes.selectors, other.nodes.selectors):
            continue
        for first, second in product(one.proofs, other.proofs):
            users = [{str(each) for each in proof if str(each).startswith("unix:uid:")} for proof in (first, second)]
            if z3_shows(first, second):
                found.add((Guard.OVERLAP, str(one.name), str(other.name)))
            elif users[0] & users[1]:
                found.add((Guard.SHARED_USER, str(one.name), str(other.name)))
    return found


@settings(deadline=None, max_examples=60)
@given(RULES)
def test_whether_there_is_a_finding_and_how_many_is_exactly_what_z3_finds(
    rules: Sequence[tuple[list[list[str]], str, set[str]]],
) -> None:
    rulebook = rules_of(rules)
    by_name = {str(one.name): one for one in rulebook.active()}
    expected = z3_pairs(rulebook)
    allowed = {one for one in expected if all(one[0] in by_name[name].allow for name in one[1:])}
    for found, wanted in ((list(prove(rulebook)), expected - allowed), (list(loosened(rulebook)), allowed)):
        for guard in (Guard.OVERLAP, Guard.SHARED_USER):
            alike = [one for one in found if one.guard is guard]
            pairs = {(guard, *(str(each.name) for each in one.components)) for one in alike}
            assert len(pairs) == len(alike)
            assert pairs <= {one for one in wanted if one[0] is guard}
            for name in by_name:
                count = sum(1 + one.more for one in alike if str(one.components[0].name) == name)
                assert count == sum(one[:2] == (guard, name) for one in wanted)


@settings(deadline=None, max_examples=60)
@given(RULES, RULES)
def test_what_is_new_is_what_was_not_allowed_before(
    rules: Sequence[tuple[list[list[str]], str, set[str]]], before: Sequence[tuple[list[list[str]], str, set[str]]]
) -> None:
    def allowed(rulebook: Rulebook) -> set[tuple[Guard, str, str]]:
        by_name = {str(one.name): one for one in rulebook.active()}
        return {one for one in z3_pairs(rulebook) if all(one[0] in by_name[name].allow for name in one[1:])}

    rulebook, old = rules_of(rules), rules_of(before)
    now, was = allowed(rulebook), allowed(old)
    found = [one for one in loosened(rulebook, old) if one.guard in {Guard.OVERLAP, Guard.SHARED_USER}]
    for one in found:
        assert one.is_new is ((one.guard, *(str(each.name) for each in one.components)) not in was)
    assert sum(1 + one.more for one in found if one.is_new) == len(now - was)


def test_a_guard_rail_that_was_loosened_before_is_not_new() -> None:
    guard = 'allow = ["external-audience", "foreign-orchestrator", "any-user"]'
    lines = (selectors("unix:gid:1"), guard, 'audiences = ["https://x"]', 'may_call = ["b/o"]')
    other = agent("b") + component("o", selectors("unix:uid:2", "unix:gid:2"), agent="b", kind="orchestrator")
    rulebook = book(agent() + component("x", *lines, kind="reasoning") + other)
    names = {"external-audience", "foreign-orchestrator", "any-user"}
    assert {one.guard for one in loosened(rulebook, Rulebook()) if one.is_new} == names
    assert {one.guard for one in loosened(rulebook, rulebook) if one.is_new} == set()
    assert {one.guard for one in loosened(rulebook) if one.is_new} == set()
    more = book(
        agent()
        + component("x", *(line.replace('"https://x"', '"https://x", "https://y"') for line in lines), kind="reasoning")
        + other
    )
    assert {one.guard for one in loosened(more, rulebook) if one.is_new} == {"external-audience"}


def test_the_user_root_is_the_uid_0() -> None:
    two = component("x", selectors("unix:user:root", "unix:path:/x")) + component(
        "y", selectors("unix:uid:0", "unix:path:/y")
    )
    (found,) = prove(book(agent() + two))
    assert found.guard is Guard.SHARED_USER
    assert "a/y has unix:uid:0 too" in found.problem
    assert told(book(agent() + two.replace("uid:0", "uid:1"))) == []


ALL = 'allow = ["overlap", "shared-user", "any-user"]'
SHAPES: Mapping[str, Callable[[int], str]] = {
    "nobody excludes anybody": lambda at: component(f"c{at}", selectors("unix:gid:1"), ALL),
    "one is not allowed": lambda at: component(f"c{at}", selectors("unix:gid:1"), ALL if at else ""),
    "one user, other programs": lambda at: component(f"c{at}", selectors("unix:uid:1", f"unix:path:/{at}"), ALL),
    "each by another fact": lambda at: component(
        f"c{at}",
        selectors("unix:uid:1"),
        f'nodes = ["join_token:label:l{at}:a", "join_token:label:l{at + 1}:b"]',
        ALL,
    ),
    "half by uid, half by gid": lambda at: component(f"c{at}", selectors(f"unix:{'ug'[at % 2]}id:{at}"), ALL),
}
MANY = 4000


@pytest.mark.parametrize("shape", SHAPES)
def test_many_components_of_any_shape_are_proved_in_a_short_time_and_told_in_few_words(shape: str) -> None:
    rulebook = book(agent() + "".join(map(SHAPES[shape], range(MANY))))
    begin = time.process_time()
    found, allowed = list(prove(rulebook)), list(loosened(rulebook))
    assert time.process_time() - begin < 10  # 0.5 s on a quiet machine; comparing all pairs takes minutes
    for listed in (found, allowed):
        assert max(Counter((one.guard, one.components[0].name) for one in listed).values(), default=0) <= MOST_LISTED
    assert sum(1 + one.more for one in (*found, *allowed)) > MANY * MANY / 9
