"""cognomen/rulebook/writing: rules as TOML, which are the same rules when they are read again."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.printable import is_visible
from cognomen.rulebook.reading import read
from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.writing import written
from tests.unit.cognomen.rulebook.books import CONCIERGE, book

_MORE = """\
[selector_types]
workload = ["docker"]
node = ["tpm"]

[agent."a.b"]
owner = "ann"
purpose = 'a "purpose" \\ of its own'
state = "suspended"

[agent."a.b".component.x]
kind = "other"
nodes = "any"
mode = "observe"
selectors = ["docker:image:x", "unix:uid:7"]
allow = ["overlap", "any-user"]
dns_names = ["a.example.org"]
jwt_ttl = "90s"
may_call = ["concierge/crm"]

[agent."a.b".component."y.z"]
kind = "other"
nodes = ["tpm:vendor:x"]
selectors = ["unix:path:/a/very/long/path/of/a/program/in/a/directory/that/somebody/made/bin/python", "unix:uid:12345"]

[agent."a.b".component.w]
kind = "other"
nodes = "/cognomen/node/join_token/7f3a"
selectors = ["unix:uid:8"]
"""
_TEXTS = st.text(min_size=1, max_size=60).filter(
    lambda text: text.isprintable() and is_visible(text) and text == text.strip()
)


def again(rulebook: Rulebook, *comments: str) -> Rulebook:
    found, faults = read({"a.toml": written(rulebook, comments).encode()})
    assert [str(one) for one in faults] == []
    return found


def test_the_same_rules_are_read_again() -> None:
    rulebook = book(CONCIERGE, _MORE)
    found = again(rulebook, "a comment")
    assert found.agents == rulebook.agents
    assert (found.node_types, found.workload_types) == (rulebook.node_types, rulebook.workload_types)
    assert written(found) == written(rulebook)


@given(_TEXTS, _TEXTS)
def test_every_text_is_written_as_it_is(owner: str, label: str) -> None:
    rulebook = book(CONCIERGE)
    agent = replace(rulebook.agents["concierge"], owner=owner, labels={label: label})
    assert again(replace(rulebook, agents={"concierge": agent})).agents == {"concierge": agent}
