"""The rules of a rulebook as values: agents, their components, providers, and tests. Whatever exists here is valid by itself.

How they are written: `tables`. How they are read: `reading`. What they mean together: `checks`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from cognomen.protocol.selector import Selector
from cognomen.rulebook.places import Path
from cognomen.rulebook.tables import AgentState, ComponentKind, Guard, LimitsMode, Mode, OnBurst, OnOverdue

__all__ = [
    "ANY_NODE",
    "Agent",
    "Case",
    "Component",
    "ComponentName",
    "Limits",
    "Nodes",
    "Provider",
    "Rulebook",
    "Where",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where something stands: the file, and the path in it."""

    file: str
    path: Path


@dataclass(frozen=True, slots=True, order=True)
class ComponentName:
    """Which component: `concierge/crm`."""

    agent: str
    component: str

    def __str__(self) -> str:
        return f"{self.agent}/{self.component}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nodes:
    """On which nodes: those that show all the selectors, the one with that path, or, with neither, every node."""

    selectors: frozenset[Selector] = frozenset()
    path: str = ""

    @property
    def is_any(self) -> bool:
        """Whether it is every node."""
        return not self.selectors and not self.path

    def __str__(self) -> str:
        return self.path or ", ".join(map(str, sorted(self.selectors))) or "any"


ANY_NODE = Nodes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the issuer signs for a component, or for an agent. What counts: ADR-0032.

    Args:
        most: by the key of the limit; empty: nothing is limited.
        mode, on_burst: None: as the agent.
    """

    most: Mapping[str, int] = field(default_factory=dict)
    mode: LimitsMode | None = None
    on_burst: OnBurst | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A part of an agent with an identity of its own.

    Args:
        proofs: any one of these sets suffices; none is empty.
        may_call: other components, also of other agents.
        model: the name of a provider; empty: none.
        audiences: external ones, beside the model's.
        mode: observe if its agent says so.
        where: its table.
    """

    name: ComponentName
    kind: ComponentKind
    proofs: tuple[frozenset[Selector], ...]
    nodes: Nodes
    x509_ttl: timedelta | None = None
    jwt_ttl: timedelta | None = None
    dns_names: tuple[str, ...] = ()
    may_call: tuple[ComponentName, ...] = ()
    model: str = ""
    audiences: tuple[str, ...] = ()
    allow: frozenset[Guard] = frozenset()
    limits: Limits = field(default_factory=Limits, hash=False)
    mode: Mode = Mode.ENFORCE
    where: Where = field(compare=False)

    @property
    def path(self) -> str:
        """The path of its SPIFFE ID."""
        return f"/agent/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """An AI agent, and who answers for it.

    Args:
        components: by name.
    """

    name: str
    owner: str
    purpose: str
    state: AgentState
    components: Mapping[str, Component]
    review_by: date | None = None
    on_overdue: OnOverdue = OnOverdue.WARN
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    where: Where = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A relying party outside.

    Args:
        longest_life: of a token that it gives in exchange for ours; None: it gives none.
        owner: who answers for using it; empty: each agent's owner.
    """

    name: str
    audience: str
    longest_life: timedelta | None = None
    owner: str = ""
    where: Where = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A test: a process that shows these selectors, on a node that shows those or has that path.

    Args:
        audiences: all external ones of what it gets; None: not tested.
    """

    name: str
    node: frozenset[Selector]
    node_path: str
    selectors: frozenset[Selector]
    expect: frozenset[ComponentName]
    audiences: frozenset[str] | None
    where: Where = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulebook:
    """All rules.

    Args:
        agents, providers: by name.
        node_types, workload_types: which types of selectors attestors write.
    """

    agents: Mapping[str, Agent] = field(default_factory=dict)
    providers: Mapping[str, Provider] = field(default_factory=dict)
    cases: Sequence[Case] = ()
    node_types: frozenset[str] = frozenset({"join_token"})
    workload_types: frozenset[str] = frozenset({"unix"})

    def components(self) -> Iterator[Component]:
        """Every component, whatever the state of its agent."""
        for agent in self.agents.values():
            yield from agent.components.values()

    def active(self) -> Iterator[Component]:
        """The components of active agents, which get identities."""
        for agent in self.agents.values():
            if agent.state is AgentState.ACTIVE:
                yield from agent.components.values()

    def component(self, name: ComponentName) -> Component | None:
        """The component of that name."""
        agent = self.agents.get(name.agent)
        return None if agent is None else agent.components.get(name.component)

    def external_audiences(self, component: Component) -> frozenset[str]:
        """The audiences outside this trust domain for which it gets tokens."""
        model = self.providers.get(component.model)
        return frozenset(component.audiences) | (frozenset() if model is None else {model.audience})
