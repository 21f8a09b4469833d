"""cognomen/cli/eventnames: of which agent and component a row of the record is."""

import pytest

from cognomen.cli.eventnames import names_of
from svid.encoding import JSON


@pytest.mark.parametrize(
    ("event", "agent", "component"),
    [
        ({"action": "agent suspended", "subject": "librarian/catalog"}, "librarian", "catalog"),
        ({"action": "agent resumed", "subject": "librarian"}, "librarian", ""),
        (
            {"action": "entry created", "subject": "spiffe://example.org/agent/librarian/catalog"},
            "librarian",
            "catalog",
        ),
        ({"action": "revoked", "subject": "spiffe://example.org/agent/librarian/…"}, "librarian", ""),
        ({"action": "revoked", "subject": "spiffe://example.org/agent/librarian/catalog/…"}, "librarian", "catalog"),
        ({"action": "revoked", "subject": "spiffe://example.org/agents/librarian/…"}, "", ""),
        ({"action": "revoked", "subject": "e1", "facts": {"of_agents": "a", "of_component": "a/b"}}, "a", "b"),
        ({"action": "revoked", "subject": "e1 and 1 more", "facts": {"of_agents": "a"}}, "a", ""),
        ({"action": "revoked", "subject": "e1 and 1 more", "facts": {"of_agents": "a b"}}, "", ""),
        ({"action": "rulebook applied", "subject": "rulebook", "facts": {"agents": "1", "components": "1"}}, "", ""),
        ({"action": "node renamed", "subject": "librarian/catalog", "facts": None}, "", ""),
    ],
)
def test_a_row_is_of_the_agent_and_the_component_that_it_names(
    event: dict[str, JSON], agent: str, component: str
) -> None:
    assert names_of(event) == {"agent": agent, "component": component}
