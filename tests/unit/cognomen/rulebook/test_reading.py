"""cognomen/rulebook/reading and checks: what is a rulebook, and how each fault is told."""

import time
from datetime import date, timedelta

import pytest

from cognomen.protocol.entry import MAX_CALLERS
from cognomen.protocol.selector import Selector
from cognomen.rulebook.faults import MOST_FAULTS, counted_faults
from cognomen.rulebook.reading import MOST_BYTES
from cognomen.rulebook.rules import ComponentName, Nodes
from cognomen.rulebook.tables import AgentState, ComponentKind, Guard
from cognomen.rulebook.whole import read_whole
from tests.unit.cognomen.rulebook.books import CONCIERGE, book, faults

CRM = ComponentName("concierge", "crm")
AGENT = '[agent.a]\nowner = "o"\npurpose = "p"\nnodes = "any"\n'
COMPONENT = f'{AGENT}[agent.a.component.c]\nkind = "other"\nselectors = ["unix:uid:1"]\n'


def test_a_rulebook_is_read() -> None:
    rulebook = book(CONCIERGE)
    agent = rulebook.agents["concierge"]
    assert (agent.owner, agent.state, agent.review_by) == (
        "travel-platform@example.org",
        AgentState.ACTIVE,
        date(2027, 3, 31),
    )
    crm = agent.components["crm"]
    assert crm.proofs == (
        frozenset({Selector("unix", "uid:1003")}),
        frozenset({Selector("unix", "uid:1004"), Selector("unix", "path:/opt/crm")}),
    )
    assert (crm.kind, crm.path) == (ComponentKind.CONNECTOR, "/agent/concierge/crm")
    assert crm.nodes == Nodes(selectors=frozenset({Selector("join_token", "label:team:travel")}))
    orchestrator = agent.components["orchestrator"]
    assert orchestrator.may_call == (ComponentName("concierge", "reasoning"), CRM)
    assert orchestrator.x509_ttl == timedelta(minutes=30)
    assert rulebook.external_audiences(agent.components["reasoning"]) == {"https://api.anthropic.com"}
    assert [one.name for one in rulebook.cases] == ["the model's layer"]


def test_an_agent_may_call_a_component_of_another_file() -> None:
    other = AGENT.replace("agent.a", "agent.billing") + (
        '[agent.billing.component.ledger]\nkind = "other"\nselectors = ["unix:uid:1"]\nmay_call = ["concierge/crm"]\n'
        'nodes = "/cognomen/node/join_token/7f"\nallow = ["overlap"]\n'
    )
    ledger = book(CONCIERGE, other).agents["billing"].components["ledger"]
    assert ledger.may_call == (CRM,)
    assert ledger.nodes == Nodes(path="/cognomen/node/join_token/7f")
    assert ledger.allow == {Guard.OVERLAP}


def test_all_faults_are_told_in_one_run_each_with_its_place_and_its_mend() -> None:
    document = CONCIERGE.replace('"connector"', '"conector"').replace("owner =", "ownr =").replace('"30m"', '"2d"')
    assert faults(document + "[agents.b]\n") == [
        "a.toml:1: agent.concierge.owner: missing; it is a text that is not empty",
        "a.toml:2: agent.concierge.ownr: unknown key; did you mean owner?",
        "a.toml:11: agent.concierge.component.orchestrator.x509_ttl: expected 1s to 1d, found '2d'",
        (
            "a.toml:20: agent.concierge.component.crm.kind: expected one of orchestrator, reasoning, connector, other,"
            " found 'conector'; did you mean connector?"
        ),
        "a.toml:34: agents: unknown key; did you mean agent?",
    ]


CASES = [
    ("x = ", "a.toml:1: expected a value, found nothing"),
    (b"a = 1\n\xff", "a.toml:2: expected UTF-8, found the byte 0xff; save the file as UTF-8"),
    ("[agent.a]\n[agent.a]\n", "a.toml:2: the table agent.a is there twice; write all its keys below one of the two"),
    ("agent = 1", "a.toml:1: agent: expected tables [agent.NAME], found 1"),
    ("[agent]\na = 1", "a.toml:2: agent.a: expected a table, found 1"),
    ("[agent.Concierge]", "name: expected 1 to 63 of a-z 0-9 . _ -"),
    (f"{AGENT}component = 1", "expected tables [agent.a.component.NAME], found 1"),
    (AGENT, "a.toml:1: agent.a: expected a component, found none; add a table [agent.a.component.…]"),
    (COMPONENT.replace('"any"', '"all"'), "a.toml:4: agent.a.nodes: expected node selectors, the path of a node"),
    (COMPONENT.replace('"any"', '"join_token:label:a:b"'), "write selectors as a list"),
    (COMPONENT.replace('nodes = "any"\n', ""), "agent.a.component.c.nodes: missing; give node selectors"),
    (COMPONENT.replace('"any"', "[]"), "agent.a.nodes: expected 1 to 100 selectors, found 0"),
    (COMPONENT.replace('"any"', '["unix:uid:1"]'), "selectors of nodes go into nodes"),
    (COMPONENT.replace('"any"', "7"), "agent.a.nodes: expected a text or a list of texts, found 7"),
    (COMPONENT.replace('["unix:uid:1"]', "[]"), "a.toml:7: agent.a.component.c.selectors: expected 1 to 100 selectors"),
    (COMPONENT.replace('["unix:uid:1"]', "[1]"), "selectors: expected a list of texts, found a list"),
    (
        COMPONENT.replace("unix:uid", "unxi:uid"),
        "selectors[0]: selector type 'unxi' is unknown here; did you mean unix?",
    ),
    (COMPONENT.replace("unix:uid:1", "uid:1"), "expected type:value, such as unix:uid:…"),
    (COMPONENT.replace("unix:uid:1", "unix:uid:x"), "expected a number from 0 to 4294967294"),
    (COMPONENT.replace("unix:uid:1", "nothing"), "expected type:value, found 'nothing'"),
    (COMPONENT.replace('1"]', '1", "unix:uid:2"]'), "expected at most one unix:uid"),
    (f"{COMPONENT}prove = []", "expected selectors or prove, found both"),
    (COMPONENT.replace("selectors", "prove"), "prove: expected a list of lists of texts, found a list"),
    (COMPONENT.replace('["unix:uid:1"]', "[]").replace("selectors", "prove"), "expected 1 to 64 sets of selectors"),
    (COMPONENT.replace('selectors = ["unix:uid:1"]\n', ""), "expected selectors or prove, found neither"),
    (f'{COMPONENT}x509_ttl = "2d"', "a.toml:8: agent.a.component.c.x509_ttl: expected 1s to 1d, found '2d'"),
    (f'{COMPONENT}jwt_ttl = "5"', "expected a duration such as 90s"),
    (f'{COMPONENT}may_call = ["b", "c", "d/e", "/"]', "may_call[3]: expected COMPONENT or AGENT/COMPONENT, found '/'"),
    (f'{COMPONENT}may_call = ["cc"]', "may_call[0]: no component is called a/cc"),
    (f'{COMPONENT}may_call = ["c"]', "may_call[0]: a/c is the component itself; leave it out"),
    (f'{COMPONENT}may_call = ["a/x"]', "may_call[0]: no component is called a/x"),
    (f'{COMPONENT}may_call = ["b/c"]', "may_call[0]: no component is called b/c; did you mean a/c?"),
    (f'{COMPONENT}dns_names = ["*.x"]', "dns_names: expected a host name without a wildcard, found '*.x'"),
    (f'{COMPONENT}allow = ["overlaps"]', "allow[0]: expected one of overlap,"),
    (f'{COMPONENT}allow = ["overlaps"]', "found 'overlaps'; did you mean overlap?"),
    (f'{COMPONENT}allow = ["overlap", 1]', "allow[1]: expected one of overlap,"),
    (f'{COMPONENT}allow = "overlap"', "allow: expected a list with one of overlap,"),
    (f'{COMPONENT}model = "m"', "model: expected none in a component of the kind other"),
    (COMPONENT.replace("other", "reasoning") + 'model = "m"', "no provider is called 'm'; add a table [provider.m]"),
    (f'{COMPONENT}audiences = [""]', "audiences[0]: expected 1 to 1024 bytes each, found 0"),
    (f'{COMPONENT}audiences = ["spiffe://x/agent/a/b"]', "is a component; name it in may_call"),
    (
        COMPONENT.replace('"o"', '""'),
        "a.toml:2: agent.a.owner: expected a text that is not empty, found ''",
    ),
    (COMPONENT.replace('"o"', '" o"'), "agent.a.owner: expected at most 256 bytes of printable text"),
    (COMPONENT.replace('"o"', "3"), "agent.a.owner: expected a text that is not empty, found 3"),
    (
        COMPONENT.replace('"p"', '"p"\nreview_by = "soon"'),
        "review_by: expected a date such as 2027-03-31, found 'soon'",
    ),
    (COMPONENT.replace('"p"', '"p"\nlabels = { a = 1 }'), "labels: expected a table of texts, found a table"),
    (COMPONENT.replace('"p"', '"p"\nstate = "on"'), "expected one of draft, active, suspended, retired, found 'on'"),
    ('[provider.a]\naudience = "x"\nlongest_life = "x"', "provider.a.longest_life: expected a duration"),
    (
        '[provider.a]\naudience = "x"\n[provider.b]\naudience = "x"',
        "a.toml:4: provider.b.audience: provider a has the same",
    ),
    ('[provider.a]\naudience = "\\u0001"', "provider.a.audience: control characters are not allowed"),
    (
        COMPONENT.replace('"p"', '"p"\nlabels = 0x' + "f" * 9000),
        "labels: expected a table of texts, found a very large",
    ),
    (
        COMPONENT.replace('"p"', '"p"\nlabels = {' + ", ".join(f"l{n} = 'x'" for n in range(65)) + "}"),
        "labels: expected at most 64",
    ),
    (
        f"{COMPONENT}audiences = {[f'https://{n}' for n in range(257)]}",
        "a.toml:8: agent.a.component.c.audiences: expected at most",
    ),
    (
        '[provider.a]\naudience = "spiffe://x/agent/a/b"',
        "provider.a.audience: 'spiffe://x/agent/a/b' is a component; name it in may_call",
    ),
    (
        COMPONENT.replace('"any"', '["node:any"]') + '[selector_types]\nnode = ["node"]',
        "selector type 'node' is unknown here",
    ),
    (
        '[[case]]\nname = "x"\nnode = "join_token:label:a:b"\nselectors = ["unix:uid:1"]\nexpect = []',
        "case[0].node: expected node selectors, the path of a node",
    ),
    ("case = 1", "case: expected tables [[case]], found 1"),
    ('[[case]]\nname = "x"\nselectors = ["unix:uid:1"]\nexpect = ["a"]', "case[0].expect[0]: expected AGENT/COMPONENT"),
    (
        '[[case]]\nname = "x"\nselectors = ["unix:uid:1"]\nexpect = ["a/b"]',
        "case[0].expect: no component is called a/b",
    ),
    ('[[case]]\nselectors = ["unix:uid:1"]', "case[0].name: missing"),
    ("[selector_types]\nworkloads = []", "selector_types.workloads: unknown key; did you mean workload?"),
]


@pytest.mark.parametrize(("document", "said"), CASES, ids=[said for _, said in CASES])
def test_a_fault_is_told_with_what_was_expected(document: str | bytes, said: str) -> None:
    told = faults(document)
    assert [one for one in told if said in one], told


def test_two_files_with_one_agent_are_told() -> None:
    assert faults(COMPONENT, COMPONENT) == ["b.toml:1: agent.a: agent a: it is in a.toml as well; keep one of them"]


def test_a_component_with_too_many_callers_is_told() -> None:
    callers = "".join(
        f'[agent.a.component.c{number}]\nkind = "other"\nselectors = ["unix:uid:{number + 2}"]\nmay_call = ["c"]\n'
        for number in range(MAX_CALLERS + 1)
    )
    assert faults(COMPONENT + callers) == [
        (
            "a.toml:5: agent.a.component.c: expected at most 1024 components that may call a/c, found 1025;"
            " split it, or take it out of the may_call of some of them"
        )
    ]
    assert faults(COMPONENT + callers.replace('may_call = ["c"]', "", 1)) == []


def test_plugins_may_write_selectors_of_other_types() -> None:
    types = '[selector_types]\nworkload = ["docker"]\nnode = ["aws"]\n'
    component = book(types + COMPONENT.replace("unix:uid:1", "docker:image:x").replace('"any"', '["aws:id:1"]'))
    (found,) = component.components()
    assert found.proofs == (frozenset({Selector("docker", "image:x")}),)
    assert str(found.nodes) == "aws:id:1"


def test_a_rulebook_of_100_mb_is_not_read() -> None:
    assert faults(COMPONENT, b"#" * MOST_BYTES) == [
        f"b.toml: expected at most {MOST_BYTES} bytes in all files together, found {MOST_BYTES + len(COMPONENT)}; split the rulebook"
    ]


def test_nothing_is_an_empty_rulebook() -> None:
    assert list(book("").components()) == list(book().components()) == []


BELL = "\\u0007"
PROVIDER = '[provider.p]\naudience = "https://p"\n'
CASE = '[[case]]\nname = "n"\nselectors = ["unix:uid:1"]\nexpect = ["a/c"]\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CASE.replace('"n"', f'"n{BELL}"'), "a.toml:9: case[0].name: expected at most 256 bytes of printable text"),
        (CASE.replace('"n"', '" "'), "case[0].name: expected at most 256 bytes of printable text that shows something"),
        (f'{CASE}audiences = ["{BELL}"]', "case[0].audiences[0]: control characters are not allowed"),
        (f'{PROVIDER}owner = "o{BELL}"', "provider.p.owner: expected at most 256 bytes of printable text"),
        (f'[selector_types]\nnode = ["{BELL}"]', "selector_types.node[0]: expected printable characters"),
        ('[selector_types]\nworkload = ["a:b"]', "selector_types.workload[0]: expected a type without a colon"),
    ],
)
def test_what_is_shown_to_people_is_checked(text: str, told: str) -> None:
    (found,) = faults(COMPONENT + text)
    assert told in found


def test_of_very_many_faults_some_are_kept_and_all_are_counted() -> None:
    unknown = "".join(f"ownr{at} = 1\n" for at in range(MOST_FAULTS + 5))
    _, found = read_whole({"a.toml": f"{COMPONENT}{unknown}".encode()})
    assert (len(found), counted_faults(found)) == (MOST_FAULTS, MOST_FAULTS + 5)
    calls = f"may_call = {[f'x{at}' for at in range(MOST_FAULTS + 5)]}\n"
    _, found = read_whole({"a.toml": f"{COMPONENT}{calls}".encode()})
    too_many_audiences = 1
    assert (len(found), counted_faults(found)) == (MOST_FAULTS, MOST_FAULTS + 5 + too_many_audiences)


def test_suggestions_for_thousands_of_unknown_names_take_a_short_time() -> None:
    count = 3000
    components = "".join(
        f'[agent.a.component.part-number-{at}]\nkind = "other"\nselectors = ["unix:uid:{at}"]\n'
        f'may_call = ["other/part-numbr-{at}"]\n[agent.other.component.part-number-{at}]\nkind = "other"\n'
        f'selectors = ["unix:uid:{count + at}"]\n'
        for at in range(count)
    )
    begin = time.process_time()
    _, found = read_whole({"a.toml": f"{AGENT}{AGENT.replace('agent.a', 'agent.other')}{components}".encode()})
    assert time.process_time() - begin < 15  # 0.7 s on a quiet machine; comparing word by word takes minutes
    assert counted_faults(found) == count
    assert [one.mend for one in found] == [f"did you mean other/part-number-{at}?" for at in range(len(found))]


def test_thousands_of_names_of_one_agent_and_of_types_that_nobody_knows_take_a_short_time() -> None:
    count = 5000
    components = "".join(
        f'[agent.a.component.c{at}]\nkind = "other"\nselectors = ["unix:uid:{at}"]\nmay_call = ["c{at}x"]\n'
        f'[agent.a.component.d{at}]\nkind = "other"\nselectors = ["typ{at}:x"]\n'
        for at in range(count)
    )
    types = f"[selector_types]\nworkload = {[f'type{at}' for at in range(count)]}\n"
    begin = time.process_time()
    _, found = read_whole({"a.toml": f"{types}{AGENT}{components}".encode()})
    assert (found[0].mend, counted_faults(found)) == ("did you mean type0?", count)
    known = components.replace("typ", "type")
    _, found = read_whole({"a.toml": f"{types}{AGENT}{known}".encode()})
    assert time.process_time() - begin < 20  # 2 s on a quiet machine; it took minutes
    assert counted_faults(found) == count
    assert found[0].mend.startswith("did you mean c")
