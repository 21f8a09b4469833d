"""Questions that an import leaves to people: who answers for an agent, and what it is for. Until that is written, nothing works with it."""

from collections.abc import Iterator

from cognomen.rulebook.checks import Found
from cognomen.rulebook.rules import Agent, Rulebook

__all__ = ["TODO_OWNER", "TODO_PURPOSE", "is_unanswered", "unanswered"]

_TODO = "TODO"
TODO_OWNER = "TODO: who answers for it?"
TODO_PURPOSE = "TODO: what is it for?"


def unanswered(rulebook: Rulebook) -> Iterator[Found]:
    """Yield each owner and each purpose that is still to be written."""
    for agent in rulebook.agents.values():
        if agent.owner.startswith(_TODO):
            problem = "expected who answers for the agent, found what an import wrote"
            yield agent.where, ("owner",), problem, "write a person or a team that can be reached"
        if agent.purpose.startswith(_TODO):
            problem = "expected what the agent is for, found what an import wrote"
            yield agent.where, ("purpose",), problem, "write it in a few words"


def is_unanswered(agent: Agent) -> bool:
    """Whether its owner or its purpose is still to be written."""
    return any(text.startswith(_TODO) for text in (agent.owner, agent.purpose))
