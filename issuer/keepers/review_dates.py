"""Which reviews of agents are due, by the rulebook in force: it is read again only when another one is applied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from cognomen.process.ownthreads import in_own_thread
from cognomen.rulebook.reading import read
from cognomen.rulebook.reviews import is_overdue, is_past_grace
from cognomen.rulebook.rules import Agent
from cognomen.rulebook.tables import AgentState
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.agentlife import to_suspend
from issuer.decisions.rulebooks import HeldAgent
from svid.clock import Clock

__all__ = ["OverdueAgent", "ReviewDates"]

_KEY = "review_by"


@dataclass(frozen=True, slots=True, kw_only=True)
class OverdueAgent:
    """An agent whose review is overdue.

    Args:
        is_suspended: whoever suspended it, and wherever: the issuer, an operator, or the rulebook.
        is_for_review: the issuer suspended it for that.
    """

    name: str
    owner: str
    review_by: date
    is_suspended: bool
    is_for_review: bool


class ReviewDates:
    """Knows when reviews are due."""

    def __init__(self, *, datastore: Datastore, clock: Clock) -> None:
        self._datastore = datastore
        self._clock = clock
        self._revision = 0
        self._agents: Sequence[Agent] = ()

    async def agents(self) -> Sequence[Agent]:
        """The agents that have a review, without their components.

        Raises:
            Refused: UNAVAILABLE, from the store.
        """
        known = self._revision
        applied = await self._datastore.read(
            lambda tx: None if tx.rulebooks.revision() == known else tx.rulebooks.get(tx.rulebooks.revision())
        )
        if applied is not None:
            self._agents = await in_own_thread(_with_reviews, applied.files)
            self._revision = applied.revision
        return self._agents

    async def to_suspend(self) -> Sequence[Agent]:
        """Those that the issuer suspends now.

        Raises:
            Refused: UNAVAILABLE, from the store.
        """
        today = self._clock.now().date()
        due = [one for one in await self.agents() if is_past_grace(one, today)]
        if not due:
            return ()

        def work(tx: Transaction) -> Sequence[Agent]:
            held = {**tx.agents.held(), **tx.rulebooks.retired()}
            return list(to_suspend(due, held=held, excused=tx.agents.excused(), today=today))

        return await self._datastore.read(work)

    async def overdue(self) -> Sequence[OverdueAgent]:
        """Those whose review is overdue, by name; not those that an operator retired.

        Raises:
            Refused: UNAVAILABLE, from the store.
        """
        agents, today = await self.agents(), self._clock.now().date()
        due = [one for one in agents if is_overdue(one, today)]
        if not due:
            return ()

        def work(tx: Transaction) -> Sequence[OverdueAgent]:
            held, retired = tx.agents.held(), tx.rulebooks.retired()
            return [
                OverdueAgent(
                    name=one.name,
                    owner=one.owner,
                    review_by=one.review_by,
                    is_suspended=one.name in held or one.state is AgentState.SUSPENDED,
                    is_for_review=_is_for(held, one),
                )
                for one in due
                if one.name not in retired and one.review_by is not None
            ]

        return await self._datastore.read(work)


def _is_for(held: Mapping[str, HeldAgent], agent: Agent) -> bool:
    return agent.name in held and held[agent.name].review_by is not None


def _with_reviews(files: Mapping[str, str]) -> Sequence[Agent]:
    """Read only the files that can have a review: a large rulebook takes long."""
    some = {name: text.encode() for name, text in files.items() if _KEY in text or "\\" in text}
    rulebook, _ = read(some)
    found = (rulebook.agents[name] for name in sorted(rulebook.agents))
    return [replace(one, components={}) for one in found if one.review_by is not None]
