"""Rulebooks for tests."""

from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.whole import read_whole

__all__ = ["CONCIERGE", "book", "faults"]

CONCIERGE = """\
[agent.concierge]
owner = "travel-platform@example.org"
purpose = "books trips for employees"
review_by = 2027-03-31
labels = { tier = "2" }
nodes = ["join_token:label:team:travel"]

[agent.concierge.component.orchestrator]
kind = "orchestrator"
selectors = ["unix:uid:1001", "unix:path:/srv/concierge/bin/python"]
x509_ttl = "30m"
may_call = ["reasoning", "crm"]

[agent.concierge.component.reasoning]
kind = "reasoning"
selectors = ["unix:uid:1002"]
model = "anthropic"

[agent.concierge.component.crm]
kind = "connector"
prove = [["unix:uid:1003"], ["unix:uid:1004", "unix:path:/opt/crm"]]
audiences = ["https://crm.example.org"]

[provider.anthropic]
audience = "https://api.anthropic.com"
longest_life = "1h"

[[case]]
name = "the model's layer"
node = ["join_token:label:team:travel"]
selectors = ["unix:uid:1002", "unix:gid:1002"]
expect = ["concierge/reasoning"]
audiences = ["https://api.anthropic.com"]
"""


def book(*documents: str) -> Rulebook:
    """The rules of these files, in which there is no fault."""
    rulebook, found = read_whole(_files(documents))
    assert [str(one) for one in found] == []
    return rulebook


def faults(*documents: str | bytes) -> list[str]:
    """What is wrong in these files: a.toml, b.toml and so on."""
    return [str(one) for one in read_whole(_files(documents))[1]]


def _files(documents: tuple[str | bytes, ...]) -> dict[str, bytes]:
    names = (f"{letter}.toml" for letter in "abcdefgh")
    return {name: one.encode() if isinstance(one, str) else one for name, one in zip(names, documents, strict=False)}
