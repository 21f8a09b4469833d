"""Suspensions of which a rulebook does not have the name any more, and which of its components are the same programs by other names.

Such a suspension lasts, and suspends nothing: what was suspended may be back by another name. issuer/keepers/past_agents finds what the
agent was.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cognomen.rulebook.rules import Agent, Component, Rulebook
from issuer.decisions.rulebooks import HeldAgent

__all__ = ["LostHold", "heirs_of", "lost_holds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LostHold:
    """A suspension whose name a rulebook lacks.

    Args:
        heirs: the components of that rulebook that have the selectors of what was suspended, and are not suspended, by name.
    """

    held: HeldAgent
    heirs: tuple[str, ...] = ()


def lost_holds(rulebook: Rulebook, held: Mapping[str, HeldAgent]) -> Iterator[HeldAgent]:
    """Yield the suspensions whose agent or component this rulebook has not, in any state, by name."""
    for name in sorted(held):
        agent, slash, component = name.partition("/")
        found = rulebook.agents.get(agent)
        if found is None or (slash and component not in found.components):
            yield held[name]


def heirs_of(name: str, was: Agent, rulebook: Rulebook, held: Mapping[str, HeldAgent]) -> Iterator[str]:
    """Yield the components that work in this rulebook, and one of whose proofs is one of what was suspended, or more or less of it.

    Args:
        name: of what was suspended: AGENT, or AGENT/COMPONENT.
        was: that agent, as the newest rulebook had it that had what was suspended.
    """
    component = name.partition("/")[2]
    lost = [one for key, one in was.components.items() if not component or key == component]
    for one in rulebook.active():
        if one.name.agent in held or str(one.name) in held:
            continue
        if any(_is_like(one, each) for each in lost):
            yield str(one.name)


def _is_like(one: Component, lost: Component) -> bool:
    return any(new <= old or old <= new for new in one.proofs for old in lost.proofs)
