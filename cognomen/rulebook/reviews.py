"""When the owner of an agent must have looked at it again, and what follows if nobody did.

The day that `review_by` names is the last one on which the review is not overdue. Days are those of UTC.
"""

from collections.abc import Iterator
from datetime import date, timedelta

from cognomen.rulebook.rules import Agent, Rulebook
from cognomen.rulebook.tables import AgentState, OnOverdue

__all__ = ["GRACE", "is_overdue", "is_past_grace", "overdue"]

GRACE = timedelta(days=14)
"""How long an agent goes on after its review was due, if the rulebook asks to suspend it then."""


def is_overdue(agent: Agent, today: date) -> bool:
    """Whether its review is overdue; nobody has to look at an agent that is retired."""
    return agent.state is not AgentState.RETIRED and agent.review_by is not None and agent.review_by < today


def is_past_grace(agent: Agent, today: date) -> bool:
    """Whether it is to be suspended, because its review was due and the rulebook asks for that."""
    if agent.on_overdue is not OnOverdue.SUSPEND or agent.state is not AgentState.ACTIVE:
        return False
    return agent.review_by is not None and today - agent.review_by > GRACE


def overdue(rulebook: Rulebook, today: date) -> Iterator[Agent]:
    """The agents whose review is overdue, by name."""
    return (rulebook.agents[name] for name in sorted(rulebook.agents) if is_overdue(rulebook.agents[name], today))
