"""cognomen/rulebook/mending: what mends it when a process is not a component."""

from collections.abc import Sequence

from cognomen.protocol.selector import Selector
from cognomen.rulebook.engine import Engine, Shown
from cognomen.rulebook.mending import Known, mends, missing_parent
from cognomen.rulebook.rules import ANY_NODE, Nodes
from cognomen.rulebook.tables import AgentState
from tests.unit.cognomen.rulebook.books import book

NODE = "/cognomen/node/join_token/7f3a"
RULES = """\
[agent.a]
owner = "ann"
purpose = "p"
nodes = ["join_token:label:team:travel"]

[agent.a.component.x]
kind = "other"
selectors = [SELECTORS]
"""


def selectors(*texts: str) -> frozenset[Selector]:
    return frozenset(map(Selector.parse, texts))


KNOWN = Known(place=lambda _, key: f"a.toml:{key}")
TEAM = selectors("join_token:label:team:travel")


def told(rules: str, shown: Shown, known: Known = KNOWN) -> Sequence[str]:
    (miss,) = Engine(book(rules)).misses(shown, limit=1)
    return list(mends(miss, shown, known))


def of(*texts: str) -> str:
    return RULES.replace("SELECTORS", ", ".join(f'"{one}"' for one in texts))


def test_each_fact_of_a_process_has_its_own_mend() -> None:
    digest = "0" * 64
    shown = Shown(selectors=selectors("unix:uid:1", "unix:gid:1"), node=TEAM)
    for text, mend in (
        ("unix:uid:2", "run it as uid 2"),
        ("unix:user:ann", "run it as the user ann"),
        ("unix:gid:2", "run it with gid 2"),
        ("unix:group:ann", "run it with the group ann"),
        ("unix:supplementary_gid:2", "give it the supplementary gid 2"),
        ("unix:supplementary_group:ann", "give it the supplementary group ann"),
        ("unix:path:/bin/x", "start /bin/x"),
        (f"unix:sha256:{digest}", f"start the executable with the digest {digest}"),
    ):
        assert told(of(text, "unix:uid:1") if "uid:2" not in text else of(text), shown)[0] == mend
    rules = '[selector_types]\nworkload = ["docker"]\n' + of("docker:image:x", "unix:uid:1")
    assert told(rules, shown)[0] == "make it show docker:image:x"


def test_the_line_that_mends_has_what_the_process_shows_in_place_of_what_it_lacks() -> None:
    shown = Shown(selectors=selectors("unix:uid:1", "unix:path:/bin/y"), node=TEAM)
    assert told(of("unix:uid:2", "unix:path:/bin/x"), shown) == [
        "start /bin/x; run it as uid 2",
        'or, if the rule is wrong: a.toml:selectors: selectors = ["unix:path:/bin/y", "unix:uid:1"]',
    ]
    nothing = Shown(selectors=selectors("unix:gid:7"), node=TEAM)
    assert told(of("unix:uid:2"), nothing) == ["run it as uid 2"]


def test_a_path_that_is_a_link_is_named_with_where_it_leads_because_starting_it_does_not_help() -> None:
    shown = Shown(selectors=selectors("unix:uid:1", "unix:path:/usr/bin/python3.11"), node=TEAM)
    links = {"/opt/crm/bin/python": "/usr/bin/python3.11", "/opt/db": "/opt/db-2"}
    known = Known(place=KNOWN.place, links=links)
    python, db = of("unix:uid:1", "unix:path:/opt/crm/bin/python"), of("unix:uid:1", "unix:path:/opt/db")
    link = "/opt/crm/bin/python is a link to /usr/bin/python3.11: name that, or make the venv with --copies"
    assert told(python, shown, known) == [
        link,
        'or, if the rule is wrong: a.toml:selectors: selectors = ["unix:path:/usr/bin/python3.11", "unix:uid:1"]',
    ]
    assert told(db, shown, known)[0] == "/opt/db is a link to /opt/db-2: name that"
    unlooked = Known(place=KNOWN.place, links=links, looked_at=frozenset({"unix:uid"}))
    assert told(python, shown, unlooked)[1:] == [link]


def test_a_fact_at_which_nobody_looked_is_not_called_missing() -> None:
    shown = Shown(selectors=selectors("unix:uid:1"), node=TEAM)
    known = Known(place=KNOWN.place, looked_at=frozenset({"unix:uid", "unix:gid"}))
    assert told(of("unix:uid:1", "unix:path:/bin/x"), shown, known) == [
        "the attestor did not look at unix:path, because no entry of its node asks for that: give --selector unix:path:… too"
    ]
    assert told(of("unix:uid:2"), shown, known)[0] == "run it as uid 2"


def test_a_node_that_lacks_a_label_is_invited_with_it_or_the_rule_names_this_one() -> None:
    process = selectors("unix:uid:1")
    assert told(of("unix:uid:1"), Shown(selectors=process, node=selectors("join_token:label:team:crm"))) == [
        "cognomen node invite --label team=travel, and join the node with that: a node that joined keeps its labels",
        'or, if the rule is wrong: a.toml:nodes: nodes = ["join_token:label:team:crm"]',
    ]
    assert told(of("unix:uid:1"), Shown(selectors=process, node_path=NODE))[1:] == [
        f'or, if the rule is wrong: a.toml:nodes: nodes = "{NODE}"'
    ]
    elsewhere = of("unix:uid:1").replace('["join_token:label:team:travel"]', '"/cognomen/node/join_token/1"')
    assert told(elsewhere, Shown(selectors=process, node_path=NODE))[0] == (
        "run it on the node /cognomen/node/join_token/1"
    )
    foreign = '[selector_types]\nnode = ["tpm"]\n' + of("unix:uid:1").replace("join_token:label:team:travel", "tpm:v:x")
    assert told(foreign, Shown(selectors=process)) == ["run it on a node that shows tpm:v:x"]


def test_a_node_that_nobody_described_may_show_anything_but_a_second_value() -> None:
    engine = Engine(book(of("unix:uid:1")))
    process = selectors("unix:uid:1")
    assert engine.match(Shown(selectors=process, knows_node=False))
    other = Shown(selectors=process, node=selectors("join_token:label:team:crm"), knows_node=False)
    assert not engine.match(other)
    assert engine.misses(other, limit=1)[0].node_lacks == tuple(TEAM)


def test_the_state_of_the_agent_is_one_line_or_for_good() -> None:
    shown = Shown(selectors=selectors("unix:uid:1"), node=TEAM)
    for state in AgentState:
        if state is AgentState.ACTIVE:
            continue
        expected = "retired is for good: give the agent another name"
        if state is not AgentState.RETIRED:
            expected = 'a.toml:state: state = "active"'
        assert told(of("unix:uid:1").replace("owner", f'state = "{state}"\nowner', 1), shown) == [expected]


def test_what_is_suspended_beside_the_rules_is_resumed_by_a_command() -> None:
    shown = Shown(selectors=selectors("unix:uid:2"), node=TEAM)
    for held in ("a", "a/x"):
        known = Known(place=KNOWN.place, held={held})
        assert told(of("unix:uid:1"), shown, known)[-1] == f"cognomen agent resume {held}"
    assert len(told(of("unix:uid:1"), shown, Known(place=KNOWN.place, held={"b", "a/y"}))) == 2


def test_a_parent_is_missing_if_no_node_is_one_of_these() -> None:
    nodes = [Shown(selectors=frozenset(), node=TEAM, node_path=NODE)]
    known = Known(place=KNOWN.place, nodes=nodes)
    assert missing_parent(Nodes(selectors=TEAM), known) == ""
    assert missing_parent(Nodes(path=NODE), known) == ""
    assert missing_parent(ANY_NODE, Known(place=KNOWN.place, nodes=[])) == ""
    zone = Nodes(selectors=selectors("join_token:label:zone:b"))
    assert missing_parent(zone, known) == "no node shows join_token:label:zone:b"
    assert missing_parent(Nodes(path="/cognomen/node/join_token/1"), known) == (
        "no node is /cognomen/node/join_token/1"
    )
    assert missing_parent(zone, KNOWN) == ""
