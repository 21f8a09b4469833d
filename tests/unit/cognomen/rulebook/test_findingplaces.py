"""cognomen/rulebook/findingplaces: where stands what a finding is about."""

import pytest

from cognomen.rulebook.findingplaces import FindingPlaces
from cognomen.rulebook.proving import prove
from tests.unit.cognomen.rulebook.books import book

AGENT = '[agent.a]\nowner = "o"\npurpose = "p"\nnodes = "any"\n'
PART = '[agent.a.component.c]\nkind = "other"\n'


@pytest.mark.parametrize(
    ("rest", "place"),
    [
        ('selectors = ["unix:gid:1"]\n', "a.toml:7"),
        ('x509_ttl = "1h"\nprove = [\n  ["unix:gid:1"],\n]\n', "a.toml:8"),
        ('selectors = ["unix:uid:1"]\naudiences = ["https://x"]\n', "a.toml:8"),
        ("# the call of another agent's orchestrator\nselectors = ['unix:uid:1']\nmay_call = ['b/o']\n", "a.toml:9"),
    ],
)
def test_the_line_is_that_of_the_key_that_it_is_about(rest: str, place: str) -> None:
    part = PART.replace("other", "reasoning") if "audiences" in rest else PART
    other = (
        AGENT.replace("agent.a", "agent.b")
        + '[agent.b.component.o]\nkind = "orchestrator"\nselectors = ["unix:uid:9"]\n'
    )
    files = {"a.toml": AGENT + part + rest, "b.toml": other}
    found = [one for one in prove(book(*files.values())) if one.components[0].name.agent == "a"]
    assert place in {FindingPlaces(files.items()).place(one) for one in found}


def test_directories_do_not_count_and_a_file_that_is_not_known_has_the_first_line() -> None:
    (finding,) = prove(book(AGENT + PART + "selectors = ['unix:gid:1']"))
    assert FindingPlaces([("/rules/a.toml", AGENT + PART + "selectors = ['unix:gid:1']")]).line(finding) == 7
    assert FindingPlaces([]).line(finding) == 1
