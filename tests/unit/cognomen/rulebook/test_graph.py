"""cognomen/rulebook/graph: the declared graph as text, in which nothing hides."""

from cognomen.rulebook.graph import as_dot, as_lines
from tests.unit.cognomen.rulebook.books import book

RULES = """\
[agent.a]
owner = "o"
purpose = "p"
nodes = "any"
[agent.a.component.c]
kind = "connector"
selectors = ["unix:uid:1"]
audiences = ["https://x.example.org/\\u2800y"]
"""


def test_an_audience_with_a_character_that_shows_nothing_is_escaped() -> None:
    rulebook = book(RULES)
    lines = list(as_lines(rulebook))
    assert lines == ["a/c → https://x.example.org/\\u2800y"]
    dot = "\n".join(as_dot(rulebook))
    assert "\u2800" not in dot
    assert '"https://x.example.org/\\\\u2800y"' in dot
