"""What the issuer asks of its datastore about rulebooks and the life of agents, as parts of a transaction."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Protocol

from issuer.decisions.rulebooks import AppliedRulebook, HeldAgent, RetiredAgent

__all__ = ["HeldAgents", "Rulebooks"]


class Rulebooks(Protocol):
    """Rulebooks that were applied, and the names of agents that are retired."""

    def revision(self) -> int:
        """That of the rulebook in force; 0: there is none."""

    def get(self, revision: int) -> AppliedRulebook | None:
        """The rulebook of that revision."""

    def newest(self, limit: int) -> Sequence[AppliedRulebook]:
        """The newest ones, the newest first, without their files."""

    def add(self, applied: AppliedRulebook) -> None:
        """Add a rulebook; its revision is new."""

    def retired(self) -> Mapping[str, RetiredAgent]:
        """The retired agents, by name."""

    def retire(self, agents: Sequence[RetiredAgent]) -> None:
        """Add names to the retired ones."""


class HeldAgents(Protocol):
    """Agents that were suspended beside the rulebook."""

    def held(self) -> Mapping[str, HeldAgent]:
        """All of them, by name."""

    def hold(self, agent: HeldAgent) -> None:
        """Add an agent, or overwrite it."""

    def release(self, name: str) -> None:
        """Remove an agent, if it is there."""

    def excuse(self, name: str, review_by: date) -> None:
        """Note that an operator resumed an agent although that review is overdue."""

    def excused(self) -> Mapping[str, date]:
        """The overdue reviews for which the issuer does not suspend, by the names of the agents."""
