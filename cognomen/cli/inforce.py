"""The rulebook in force, and what operators and the issuer did to its agents since it was applied."""

from collections.abc import Mapping
from dataclasses import dataclass

from cognomen.cli.admin import Admin
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.places import line_of, lines
from cognomen.rulebook.rules import Agent, Rulebook
from cognomen.rulebook.suggesting import suggestion
from cognomen.rulebook.tables import AgentState
from cognomen.rulebook.whole import read_whole
from cognomen.wire.pb import admin_pb2 as pb
from svid.spiffeid import TrustDomain

__all__ = ["InForce", "agent_of", "in_force", "in_force_or_none", "line_of_key", "said_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The rulebook in force.

    Args:
        held: the agents that are suspended beside it, by name.
        retired: the names of agents that are retired, also if it does not have them.
    """

    trust_domain: TrustDomain
    applied: pb.Rulebook
    rulebook: Rulebook
    held: Mapping[str, pb.HeldAgent]
    retired: Mapping[str, pb.RetiredAgent]

    def state(self, name: str) -> AgentState:
        """The state of one of its agents, whatever it says."""
        said = self.rulebook.agents[name].state
        if name in self.retired:
            return AgentState.RETIRED
        return AgentState.SUSPENDED if name in self.held and said is AgentState.ACTIVE else said

    def has(self, name: str) -> bool:
        """Whether it has this agent, or this component of an agent."""
        agent, slash, component = name.partition("/")
        found = self.rulebook.agents.get(agent)
        return found is not None and (not slash or component in found.components)


def in_force(admin: Admin) -> InForce:
    """Ask the issuer.

    Raises:
        Refused: NOT_FOUND if no rulebook was applied yet.
    """
    applied = admin.get_rulebook(pb.GetRulebookRequest())
    rulebook, _ = read_whole({name: text.encode() for name, text in applied.files.items()})
    return InForce(
        trust_domain=admin.trust_domain,
        applied=applied,
        rulebook=rulebook,
        held={one.name: one for one in admin.list_held_agents().agents},
        retired={one.name: one for one in admin.list_retired_agents().agents},
    )


def in_force_or_none(admin: Admin) -> InForce | None:
    """The rulebook in force; None: none was applied yet."""
    try:
        return in_force(admin)
    except Refused as e:
        if e.kind is Kind.NOT_FOUND:
            return None
        raise


def agent_of(found: InForce, name: str) -> Agent:
    """One of its agents.

    Raises:
        Refused: NOT_FOUND
    """
    agent = found.rulebook.agents.get(name)
    if agent is None:
        raise Refused(
            Kind.NOT_FOUND,
            f"agent: none of the rulebook in force is called {name!r}"
            + (f"; it is suspended: {said_of(found.held[name])}" if name in found.held else ""),
            hint=suggestion(name, found.rulebook.agents) or "list them: cognomen agent list",
        )
    return agent


def line_of_key(found: InForce, agent: Agent, key: str) -> str:
    """Where a key of an agent stands, or else its table: rules.toml:12."""
    where = agent.where
    return f"{where.file}:{line_of((*where.path, key), lines(found.applied.files[where.file]))}"


def said_of(one: pb.HeldAgent | pb.RetiredAgent) -> str:
    """Who did that to an agent, and why."""
    return f"{one.actor} {one.comment}".strip()
