"""What a review of agents says: by owner, which identities nobody used, which reviews are overdue, and which rules are broad.

cognomen/rulebook decides what an overdue review and a broad rule are; issuer/flows/review_agents reads what was minted and used.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cognomen.protocol.agentreview import MARK, VERSION
from cognomen.protocol.moments import moment_in_words
from cognomen.rulebook.proving import loosened
from cognomen.rulebook.reviews import is_overdue
from cognomen.rulebook.rules import Agent, Component, ComponentName, Rulebook
from cognomen.rulebook.tables import AgentState
from issuer.decisions.agentlife import as_it_works, with_retired
from issuer.decisions.rulebooks import HeldAgent, RetiredAgent
from svid.encoding import JSON

__all__ = ["ANY_NODE", "Broad", "ReviewedAgents", "Seen", "Use", "broad_rules", "review_document"]

ANY_NODE = "any-node"
"""The rule is for every node; the other names of broad rules are those of the guard rails that a component goes without."""

Broad = Mapping[ComponentName, Sequence[tuple[str, str]]]
"""Which rules are broad: the name of the finding, and what it is, of each component."""


class Use(StrEnum):
    """Whether a component's identity was used in the time that was asked for."""

    USED = "used"
    UNUSED = "unused"
    NEW = "new"
    NOT_KNOWN = "not known"
    NONE = "no identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a component's identity.

    Args:
        last_minted: by the ledger, for any node; None: never.
        last_fetched: as attestors report it; None: no use was reported.
        use: no identity: it has none now, whatever it had before; new: the entry is younger than the time in question; not known: a node
            that has it did not report all of that time.
    """

    last_minted: datetime | None = None
    last_fetched: datetime | None = None
    use: Use = Use.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewedAgents:
    """What a review is made of.

    Args:
        rulebook: the one in force, as it was applied.
        about: what names the review: the issuer, the rulebook, the time, and what uses are known.
    """

    rulebook: Rulebook
    held: Mapping[str, HeldAgent]
    retired: Mapping[str, RetiredAgent]
    seen: Mapping[ComponentName, Seen]
    broad: Broad
    at: datetime
    about: Mapping[str, JSON]


def broad_rules(rulebook: Rulebook) -> Broad:
    """Find the broad rules of active agents."""
    found: dict[ComponentName, list[tuple[str, str]]] = defaultdict(list)
    for component in rulebook.active():
        if component.nodes.is_any:
            found[component.name].append((ANY_NODE, "it is for every node"))
    for finding in loosened(rulebook):
        for component in finding.components:
            if (said := (finding.guard.value, finding.problem)) not in found[component.name]:
                found[component.name].append(said)
    return found


def review_document(review: ReviewedAgents) -> dict[str, JSON]:
    """Write a review.

    Shape: owners by name, each with its agents by name; times as RFC 3339 with Z, to the second; then the retired names. Each agent has all
    components of the rulebook, also those that are suspended alone.
    """
    today = review.at.date()
    whole = {name: one for name, one in review.held.items() if "/" not in name}
    working = as_it_works(with_retired(review.rulebook, review.retired.keys()), whole, today)
    by_owner: dict[str, list[JSON]] = defaultdict(list)
    for name in sorted(working.agents):
        by_owner[working.agents[name].owner].append(_agent(review, working.agents[name]))
    owners: list[JSON] = [{"owner": owner, "agents": by_owner[owner]} for owner in sorted(by_owner)]
    return {MARK: VERSION, **review.about, "owners": owners, "retired": list(_retired(review))}


def _agent(review: ReviewedAgents, agent: Agent) -> dict[str, JSON]:
    held = review.held.get(agent.name) if agent.state is AgentState.SUSPENDED else None
    components: list[JSON] = [
        _component(review, agent.components[name], agent.state, held) for name in sorted(agent.components)
    ]
    return {
        "agent": agent.name,
        "purpose": agent.purpose,
        "state": agent.state.value,
        **_suspended(held),
        "review_by": None if agent.review_by is None else agent.review_by.isoformat(),
        "on_overdue": agent.on_overdue.value,
        "is_overdue": is_overdue(agent, review.at.date()),
        "components": components,
    }


def _component(
    review: ReviewedAgents, component: Component, state: AgentState, of_agent: HeldAgent | None
) -> dict[str, JSON]:
    alone = review.held.get(str(component.name)) if state is not AgentState.RETIRED else None
    seen = review.seen.get(component.name, Seen())
    broad: list[JSON] = [
        {"finding": finding, "problem": problem} for finding, problem in review.broad.get(component.name, ())
    ]
    return {
        "component": component.name.component,
        "kind": component.kind.value,
        "path": component.path,
        "state": (state if alone is None else AgentState.SUSPENDED).value,
        **_suspended(alone or of_agent),
        "use": seen.use.value,
        "last_minted": _moment(seen.last_minted),
        "last_fetched": _moment(seen.last_fetched),
        "broad": broad,
    }


def _suspended(held: HeldAgent | None) -> dict[str, JSON]:
    return {
        "suspended_by": "" if held is None else held.actor,
        "suspended_because": "" if held is None else held.comment,
    }


def _retired(review: ReviewedAgents) -> Iterator[dict[str, JSON]]:
    for name in sorted(review.retired):
        one = review.retired[name]
        yield {
            "agent": name,
            "owner": one.owner,
            "at": moment_in_words(one.at),
            "revision": one.revision,
            "by": one.actor or "the rulebook",
            "comment": one.comment,
        }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment_in_words(moment)
