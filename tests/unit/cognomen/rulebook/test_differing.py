"""cognomen/rulebook/differing: what two rulebooks differ in beside what their entries show."""

import pytest

from cognomen.rulebook.differing import Difference, differences
from cognomen.rulebook.rules import Rulebook
from tests.unit.cognomen.rulebook.books import CONCIERGE, book

DRAFT = CONCIERGE.replace("purpose", 'state = "draft"\npurpose', 1).partition("[[case]]")[0]


def told(before: str, after: str, *, held: tuple[str, ...] = ()) -> list[Difference]:
    return list(differences(book(before), book(after), held))


def test_equal_rules_do_not_differ_wherever_they_are_written() -> None:
    assert told(CONCIERGE, f"# a comment\n{CONCIERGE}") == []


def test_the_first_rulebook_brings_agents_providers_and_tests_and_its_entries_show_the_rest() -> None:
    found = list(differences(Rulebook(), book(CONCIERGE)))
    assert [(one.what, one.name, one.before) for one in found] == [
        ("agent", "concierge", None),
        ("provider", "anthropic", None),
        ("test", "the model's layer", None),
    ]
    assert found[0].after == {
        "owner": "travel-platform@example.org",
        "purpose": "books trips for employees",
        "state": "active",
        "review_by": "2027-03-31",
        "labels": {"tier": "2"},
    }
    assert found[1].after == {"audience": "https://api.anthropic.com", "longest_life": "1h"}
    assert [(one.what, one.after) for one in differences(book(CONCIERGE), Rulebook())] == [
        ("agent", None),
        ("provider", None),
        ("test", None),
    ]


@pytest.mark.parametrize(
    ("old", "new", "what", "before", "after"),
    [
        ("travel-platform@", "trips@", "agent", "travel-platform@example.org", "trips@example.org"),
        ("2027-03-31", "2027-04-30", "agent", "2027-03-31", "2027-04-30"),
        ('longest_life = "1h"', 'longest_life = "90m"', "provider", "1h", "90m"),
        ('"connector"', '"other"', "component", "connector", "other"),
        ('["unix:uid:1002", "unix:gid:1002"]', '["unix:uid:1002"]', "test", ["unix:gid:1002", "unix:uid:1002"], ["unix:uid:1002"]),
    ],
)  # fmt: skip
def test_a_change_that_no_entry_shows_has_both_values(
    old: str, new: str, what: str, before: object, after: object
) -> None:
    (found,) = told(CONCIERGE, CONCIERGE.replace(old, new))
    assert (found.what, list((found.before or {}).values()), list((found.after or {}).values())) == (
        what,
        [before],
        [after],
    )


def test_what_entries_show_of_an_agent_that_works_is_no_difference() -> None:
    other = CONCIERGE.replace("1003", "2003").replace('"30m"', '"20m"').replace("/opt/crm", "/opt/other")
    assert told(CONCIERGE, other) == []


def test_a_draft_has_no_entries_and_an_agent_that_is_held_has_none_either() -> None:
    other = DRAFT.replace('["unix:uid:1003"]', '["unix:uid:2003"]')
    (found,) = told(DRAFT, other)
    assert (found.what, found.name) == ("component", "concierge/crm")
    assert found.before == {"proofs": ["unix:uid:1003", "unix:path:/opt/crm unix:uid:1004"]}
    assert found.after == {"proofs": ["unix:uid:2003", "unix:path:/opt/crm unix:uid:1004"]}
    active = [one.replace('state = "draft"\n', "") for one in (DRAFT, other)]
    assert told(active[0], active[1]) == []
    assert told(active[0], active[1], held=("concierge",)) == [found]


def test_components_that_come_and_go_in_a_draft_are_told() -> None:
    more = '[agent.concierge.component.more]\nkind = "other"\nselectors = ["unix:uid:9"]\nallow = ["overlap"]\n'
    (found,) = told(DRAFT, DRAFT + more)
    assert (found.name, found.before, found.after) == (
        "concierge/more",
        None,
        {"kind": "other", "proofs": ["unix:uid:9"], "nodes": "join_token:label:team:travel", "allow": ["overlap"]},
    )
    assert told(DRAFT + more, DRAFT) == [Difference(what="component", name=found.name, before=found.after, after=None)]


def test_types_of_selectors_and_tests_of_one_name_are_told() -> None:
    types = '[selector_types]\nworkload = ["docker"]\n'
    (found,) = told(CONCIERGE, types + CONCIERGE)
    assert (found.what, found.after) == (
        "selector types",
        {"node": ["join_token"], "workload": ["docker", "unix"]},
    )
    (twice,) = told(CONCIERGE, f"{CONCIERGE}[[case]]{CONCIERGE.partition('[[case]]')[2]}")
    assert (twice.name, twice.before) == ("the model's layer (2)", None)
