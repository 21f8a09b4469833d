"""Limits on issuance in a rulebook: how they are read, whose they are, and what a change of the rules does to them.

What counts, and what happens beyond a limit, is the issuer's matter (ADR-0032).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from msgspec import UNSET
from msgspec.structs import asdict

from cognomen.rulebook.faults import Tell
from cognomen.rulebook.places import Path
from cognomen.rulebook.rules import Agent, Limits, Rulebook
from cognomen.rulebook.tables import AgentTable, ComponentTable, LimitsMode, OnBurst

__all__ = ["LimitChange", "LimitedScope", "check_limits", "limit_changes", "limited", "limits_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedScope:
    """A component or an agent whose issuance is limited.

    Args:
        path: `/agent/concierge/crm`, or `/agent/concierge` for all components of the agent together.
        most: by the key of the limit; empty: only the agent of this component has limits.
    """

    path: str
    most: Mapping[str, int]
    mode: LimitsMode = LimitsMode.COUNT
    on_burst: OnBurst = OnBurst.REFUSE

    @property
    def name(self) -> str:
        """In words, for a refusal."""
        name = self.path.removeprefix("/agent/")
        return f"component {name}" if "/" in name else f"agent {name}"

    @property
    def agent(self) -> str:
        """The name of its agent."""
        return self.path.removeprefix("/agent/").partition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChange:
    """A component or an agent whose limits a new rulebook changes; None: it has none."""

    path: str
    before: LimitedScope | None
    after: LimitedScope | None


def limits_of(found: AgentTable | ComponentTable) -> Limits:
    """The limits in a table."""
    most = (
        {}
        if found.limits is UNSET
        else {key: value for key, value in asdict(found.limits).items() if value is not UNSET}
    )
    return Limits(
        most=MappingProxyType(most),
        mode=None if found.limits_mode is UNSET else found.limits_mode,
        on_burst=None if found.on_burst is UNSET else found.on_burst,
    )


def check_limits(found: ComponentTable, path: Path, tell: Tell) -> None:
    """Tell of words about limits where there are none: they would do nothing."""
    if found.limits is not UNSET and limits_of(found).most:
        return
    for key in ("limits_mode", "on_burst"):
        if getattr(found, key) is not UNSET:
            tell((*path, key), "expected limits beside it, found none", "write limits = { jwt_per_minute = 120 }")


def limited(rulebook: Rulebook) -> Iterator[LimitedScope]:
    """Every agent with limits, and every component that has limits or whose agent has; whatever the state of the agent."""
    for agent in rulebook.agents.values():
        if agent.limits.most:
            yield _scope(f"/agent/{agent.name}", agent.limits, agent)
        for component in agent.components.values():
            if component.limits.most or agent.limits.most:
                yield _scope(component.path, component.limits, agent)


def limit_changes(before: Rulebook, after: Rulebook) -> Iterator[LimitChange]:
    """What the second of two rulebooks changes, by path."""
    old, new = ({one.path: one for one in limited(each) if one.most} for each in (before, after))
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path):
            yield LimitChange(path=path, before=old.get(path), after=new.get(path))


def _scope(path: str, limits: Limits, agent: Agent) -> LimitedScope:
    return LimitedScope(
        path=path,
        most=limits.most,
        mode=limits.mode or agent.limits.mode or LimitsMode.COUNT,
        on_burst=limits.on_burst or agent.limits.on_burst or OnBurst.REFUSE,
    )
