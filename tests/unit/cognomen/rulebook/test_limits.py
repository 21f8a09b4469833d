"""cognomen/rulebook/limits: whose limits count, how faults are told, and what a change of the rules changes."""

import pytest

from cognomen.rulebook.limits import LimitedScope, limit_changes, limited
from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.tables import LimitsMode, OnBurst
from tests.unit.cognomen.rulebook.books import CONCIERGE, book, faults

CRM = "/agent/concierge/crm"
AGENT = '[agent.a]\nowner = "o"\npurpose = "p"\nnodes = "any"\n'
COMPONENT = '[agent.a.component.c]\nkind = "other"\nselectors = ["unix:uid:1"]\n'


def test_a_component_has_the_mode_of_its_agent_unless_it_says_another() -> None:
    found = {
        one.path: one
        for one in limited(
            book(
                f'{AGENT}limits = {{ nodes = 20 }}\nlimits_mode = "enforce"\non_burst = "suspend"\n'
                f"{COMPONENT}limits = {{ jwt_per_minute = 120, live_svids = 500 }}\n"
                f"{COMPONENT.replace('.c]', '.d]').replace('uid:1', 'uid:2')}limits = {{ x509_per_minute = 1 }}\n"
                'limits_mode = "count"\non_burst = "refuse"\n'
                f"{COMPONENT.replace('.c]', '.e]').replace('uid:1', 'uid:3')}"
            )
        )
    }
    enforce, suspend = LimitsMode.ENFORCE, OnBurst.SUSPEND
    assert found == {
        "/agent/a": LimitedScope(path="/agent/a", most={"nodes": 20}, mode=enforce, on_burst=suspend),
        "/agent/a/c": LimitedScope(
            path="/agent/a/c", most={"jwt_per_minute": 120, "live_svids": 500}, mode=enforce, on_burst=suspend
        ),
        "/agent/a/d": LimitedScope(path="/agent/a/d", most={"x509_per_minute": 1}),
        "/agent/a/e": LimitedScope(path="/agent/a/e", most={}, mode=enforce, on_burst=suspend),
    }
    assert (found["/agent/a"].name, found["/agent/a/c"].name) == ("agent a", "component a/c")


def test_what_has_no_limits_and_no_agent_with_limits_is_not_limited() -> None:
    document = CONCIERGE.replace(
        "[agent.concierge.component.crm]", "[agent.concierge.component.crm]\nlimits = { nodes = 1 }"
    )
    assert [one.path for one in limited(book(document))] == [CRM]
    assert list(limited(book(CONCIERGE))) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("limits = 3", "limits: expected a table, found 3"),
        ("limits = { nodes = 0 }", "limits.nodes: expected a whole number from 1 to 1000000, found 0"),
        ("limits = { nodes = 1000001 }", "limits.nodes: expected a whole number from 1 to 1000000, found 1000001"),
        ("limits = { nodes = -1 }", "limits.nodes: expected a whole number from 1 to 1000000, found -1"),
        ("limits = { nodes = true }", "limits.nodes: expected a whole number from 1 to 1000000, found true"),
        ("limits = { nodes = 1.5 }", "limits.nodes: expected a whole number from 1 to 1000000, found 1.5"),
        ('limits = { nodes = "20" }', "limits.nodes: expected a whole number from 1 to 1000000, found '20'"),
        ("limits = { node = 1 }", "limits.node: unknown key; did you mean nodes?"),
        (
            'limits = { nodes = 1 }\nlimits_mode = "enforced"',
            "limits_mode: expected one of count, enforce, found 'enforced'; did you mean enforce?",
        ),
        ("limits = { nodes = 1 }\non_burst = 1", "on_burst: expected one of refuse, suspend, found 1"),
        (
            'limits_mode = "enforce"',
            "limits_mode: expected limits beside it, found none; write limits = { jwt_per_minute = 120 }",
        ),
        ('on_burst = "suspend"\nlimits = {}', "on_burst: expected limits beside it, found none; write limits ="),
    ],
)
def test_a_fault_is_told_with_its_line_its_key_and_its_mend(line: str, fault: str) -> None:
    (found,) = faults(f"{AGENT}{COMPONENT}{line}\n")
    place, _, rest = found.partition(": agent.a.component.c.")
    assert place in {"a.toml:8", "a.toml:9"}
    assert rest.startswith(fault)


def test_what_a_rulebook_changes_is_found_also_where_only_the_mode_does() -> None:
    before = book(f"{AGENT}{COMPONENT}limits = {{ nodes = 1 }}\n")
    counts = book(f'{AGENT}limits_mode = "enforce"\n{COMPONENT}limits = {{ nodes = 1 }}\n')
    none = book(f"{AGENT}{COMPONENT}")
    agent = book(f"{AGENT}limits = {{ nodes = 1 }}\n{COMPONENT}")
    assert list(limit_changes(before, before)) == []
    assert [(one.path, one.before is None, one.after is None) for one in limit_changes(none, before)] == [
        ("/agent/a/c", True, False)
    ]
    assert [one.path for one in limit_changes(before, counts)] == ["/agent/a/c"]
    assert [(one.path, one.after is None) for one in limit_changes(before, Rulebook())] == [("/agent/a/c", True)]
    assert [one.path for one in limit_changes(none, agent)] == ["/agent/a"]
