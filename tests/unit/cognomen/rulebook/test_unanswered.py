"""cognomen/rulebook/unanswered: what an import leaves to people is a fault until they have written it."""

from tests.unit.cognomen.rulebook.books import CONCIERGE, faults


def test_an_owner_and_a_purpose_that_are_to_be_written_are_faults_with_their_lines() -> None:
    text = CONCIERGE.replace('"travel-platform@example.org"', '"TODO: who answers for it?"')
    found = "found what an import wrote"
    assert faults(text.replace('"books trips for employees"', '"TODO"')) == [
        f"a.toml:2: agent.concierge.owner: expected who answers for the agent, {found}; write a person or a team that can be reached",
        f"a.toml:3: agent.concierge.purpose: expected what the agent is for, {found}; write it in a few words",
    ]
    assert faults(CONCIERGE) == []
