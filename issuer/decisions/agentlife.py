"""What becomes of agents beside the rulebook: those that operators suspended or retired, and those whose review was due.

cognomen/rulebook/reviews decides when a review is overdue; issuer/decisions/rulebooks what a rulebook may say about a retired name.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime

from cognomen.rulebook.reviews import is_past_grace
from cognomen.rulebook.rules import Agent, Rulebook
from cognomen.rulebook.tables import AgentState
from issuer.decisions.rulebooks import HeldAgent

__all__ = [
    "ISSUER",
    "as_it_works",
    "held_for_review",
    "released",
    "reviewed",
    "still_held",
    "to_suspend",
    "with_retired",
]

ISSUER = "issuer"
"""Who suspends an agent for its review."""


def as_it_works(rulebook: Rulebook, held: Mapping[str, HeldAgent], today: date) -> Rulebook:
    """The rulebook as it works while these are held: agents that are active are suspended, unless it releases them, and components gone."""
    if not held:
        return rulebook
    kept = {one.name for one in still_held(rulebook, held, today)}
    return replace(rulebook, agents={name: _without(one, kept) for name, one in rulebook.agents.items()})


def still_held(rulebook: Rulebook, held: Mapping[str, HeldAgent], today: date) -> Iterator[HeldAgent]:
    """Those of its active agents, and of their components, that are suspended and that it does not release, by name."""
    gone = {one.name for one in released(rulebook, held, today)}
    for name in sorted(held.keys() - gone):
        agent, slash, component = name.partition("/")
        found = rulebook.agents.get(agent)
        if found is None or found.state is not AgentState.ACTIVE:
            continue
        if not slash or component in found.components:
            yield held[name]


def _without(agent: Agent, held: Collection[str]) -> Agent:
    if agent.name in held and agent.state is AgentState.ACTIVE:
        return replace(agent, state=AgentState.SUSPENDED)
    left = {name: one for name, one in agent.components.items() if str(one.name) not in held}
    return agent if len(left) == len(agent.components) else replace(agent, components=left)


def with_retired(rulebook: Rulebook, retired: Collection[str]) -> Rulebook:
    """The rulebook in force as it is since these agents were retired: an operator may have done that after it was applied."""
    agents = {
        name: replace(one, state=AgentState.RETIRED) if name in retired else one
        for name, one in rulebook.agents.items()
    }
    return replace(rulebook, agents=agents)


def released(rulebook: Rulebook, held: Mapping[str, HeldAgent], today: date) -> list[HeldAgent]:
    """Those that the issuer alone suspended for a review, and that this rulebook resumes: their next review is a later one."""
    return [one for one in reviewed(rulebook, held, today) if one.actor == ISSUER]


def reviewed(rulebook: Rulebook, held: Mapping[str, HeldAgent], today: date) -> list[HeldAgent]:
    """Those that the issuer suspended for a review after which this rulebook has a later one, also if an operator suspended them since."""
    found = ((held[name], rulebook.agents[name]) for name in sorted(held.keys() & rulebook.agents.keys()))
    return [one for one, agent in found if _is_reviewed(agent, one.review_by) and not is_past_grace(agent, today)]


def _is_reviewed(agent: Agent, due: date | None) -> bool:
    return due is not None and agent.review_by is not None and agent.review_by > due


def to_suspend(
    agents: Iterable[Agent], *, held: Collection[str], excused: Mapping[str, date], today: date
) -> Iterator[Agent]:
    """Those of these agents that the issuer suspends now, because their review was due and the rulebook asks for that.

    Args:
        held: those that are suspended already.
        excused: the reviews despite which an operator resumed an agent.
    """
    for agent in agents:
        if is_past_grace(agent, today) and agent.name not in held and excused.get(agent.name) != agent.review_by:
            yield agent


def held_for_review(agent: Agent, *, at: datetime) -> HeldAgent:
    """How it is held."""
    comment = f"its review was due on {agent.review_by}"
    return HeldAgent(name=agent.name, actor=ISSUER, login="", comment=comment, at=at, review_by=agent.review_by)
