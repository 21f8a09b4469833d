"""The keys of a rulebook: one struct for each kind of table. The JSON Schema and the reference are made from these.

What values mean together is decided in `reading` and `checks`.
"""

from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = [
    "AgentState",
    "AgentTable",
    "CaseTable",
    "ComponentKind",
    "ComponentTable",
    "Guard",
    "LimitsMode",
    "LimitsTable",
    "Mode",
    "OnBurst",
    "OnOverdue",
    "ProviderTable",
    "RulebookTable",
    "SelectorTypesTable",
    "schema",
]


class AgentState(StrEnum):
    """Where an agent is in its life."""

    DRAFT = "draft"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    RETIRED = "retired"


class ComponentKind(StrEnum):
    """What a component does in its agent; the guard rails depend on it."""

    ORCHESTRATOR = "orchestrator"
    REASONING = "reasoning"
    CONNECTOR = "connector"
    OTHER = "other"


class Mode(StrEnum):
    """Whether a rule does what it says."""

    ENFORCE = "enforce"
    OBSERVE = "observe"


class OnOverdue(StrEnum):
    """What follows when the review of an agent is overdue."""

    WARN = "warn"
    SUSPEND = "suspend"


class Guard(StrEnum):
    """What is usually a mistake, and can be meant: a component may `allow` it."""

    OVERLAP = "overlap"
    SHARED_USER = "shared-user"
    ANY_USER = "any-user"
    EXTERNAL_AUDIENCE = "external-audience"
    FOREIGN_ORCHESTRATOR = "foreign-orchestrator"
    SHARED_AUDIENCE = "shared-audience"


class LimitsMode(StrEnum):
    """What a limit on issuance does with what is over it."""

    COUNT = "count"
    ENFORCE = "enforce"


class OnBurst(StrEnum):
    """What happens when a limit per minute is exceeded and enforced."""

    REFUSE = "refuse"
    SUSPEND = "suspend"


_Duration = Annotated[str, Meta(pattern="^([0-9]+[dhms])+$", examples=["90s", "30m", "1h", "1d"])]
_Selector = Annotated[str, Meta(examples=["unix:uid:1001"])]
_Nodes = Annotated[
    str | list[str],
    Meta(
        description="On which nodes: a list of node selectors, all of which a node must show; the path of one node; or the word any.",
        examples=[["join_token:label:team:travel"], "/cognomen/node/join_token/7f3a", "any"],
    ),
]


_Most = Annotated[int, Meta(ge=1, le=1_000_000)]
_LimitsMode = Annotated[
    LimitsMode,
    Meta(
        description="count: what is over a limit is counted only; enforce: it is refused. Default: as its agent, which counts."
    ),
]
_OnBurst = Annotated[
    OnBurst,
    Meta(
        description="If an enforced limit per minute is exceeded: refuse, or also suspend the agent. Default: as its agent, which refuses."
    ),
]


class LimitsTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much the issuer signs for a component, or for all components of an agent together. Renewals do not count."""

    x509_per_minute: Annotated[_Most, Meta(description="New X509-SVIDs in a minute.")] | UnsetType = UNSET
    jwt_per_minute: Annotated[_Most, Meta(description="New JWT-SVIDs in a minute.")] | UnsetType = UNSET
    audiences_per_hour: (
        Annotated[_Most, Meta(description="Different audiences of its JWT-SVIDs in an hour.")] | UnsetType
    ) = UNSET
    live_svids: (
        Annotated[
            _Most,
            Meta(
                description="SVIDs at once: one X509-SVID for each node, and each JWT-SVID until it expires or is revoked."
            ),
        ]
        | UnsetType
    ) = UNSET
    nodes: Annotated[_Most, Meta(description="Nodes at once that hold an X509-SVID of it.")] | UnsetType = UNSET


_Limits = Annotated[
    LimitsTable,
    Meta(
        description="How much the issuer signs for it.",
        examples=[{"jwt_per_minute": 120, "nodes": 20}],
    ),
]


class ComponentTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of an agent, with an identity of its own: `/agent/AGENT/COMPONENT`."""

    kind: Annotated[ComponentKind, Meta(description="What it does in its agent. The guard rails depend on it.")]
    selectors: Annotated[
        list[_Selector] | UnsetType,
        Meta(
            description="What a process must show, all of it. Give this, or prove."
            " unix:path is where the kernel finds the executable: a link, such as bin/python of a venv, matches nothing."
        ),
    ] = UNSET
    prove: Annotated[
        list[list[_Selector]] | UnsetType,
        Meta(
            description="Several sets of selectors, for a component that runs in several ways: any one of them suffices."
        ),
    ] = UNSET
    nodes: _Nodes | UnsetType = UNSET
    x509_ttl: (
        Annotated[_Duration, Meta(description="How long its X509-SVIDs live, at most 1d. Default: the issuer's.")]
        | UnsetType
    ) = UNSET
    jwt_ttl: (
        Annotated[_Duration, Meta(description="How long its JWT-SVIDs live, at most 1d. Default: the issuer's.")]
        | UnsetType
    ) = UNSET
    dns_names: Annotated[list[str], Meta(description="DNS names in its X509-SVIDs, beside the SPIFFE ID.")] = []
    may_call: Annotated[
        list[str],
        Meta(
            description="Which components it may call: COMPONENT of the same agent, or AGENT/COMPONENT.",
            examples=[["reasoning", "billing/ledger"]],
        ),
    ] = []
    model: Annotated[
        str,
        Meta(
            description="The provider of its model, by name: the only external audience that a reasoning component gets."
        ),
    ] = ""
    audiences: Annotated[
        list[str],
        Meta(description="External audiences of its JWT-SVIDs, beside the components that it may call."),
    ] = []
    allow: Annotated[
        list[Guard],
        Meta(description="Guard rails that this component knowingly goes without. Each plan shows them."),
    ] = []
    limits: _Limits | UnsetType = UNSET
    limits_mode: _LimitsMode | UnsetType = UNSET
    on_burst: _OnBurst | UnsetType = UNSET
    mode: Annotated[
        Mode,
        Meta(
            description="observe: nothing is issued; what would have been is reported. It suffices if the agent or the component says so."
        ),
    ] = Mode.ENFORCE


class AgentTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An AI agent, which belongs to somebody."""

    owner: Annotated[str, Meta(description="Who answers for it: a person or a team that can be reached.", min_length=1)]
    purpose: Annotated[str, Meta(description="What it is for, in a few words.", min_length=1)]
    state: Annotated[
        AgentState,
        Meta(description="draft: planned only; active; suspended: no identities for now; retired: none ever again."),
    ] = AgentState.ACTIVE
    review_by: Annotated[date, Meta(description="When its owner must have looked at it again.")] | UnsetType = UNSET
    on_overdue: Annotated[
        OnOverdue,
        Meta(
            description="What follows if nobody did: warn; suspend: 14 days later the issuer does that, until a later review_by is applied"
            " or an operator resumes it."
        ),
    ] = OnOverdue.WARN
    labels: Annotated[Mapping[str, str], Meta(description="For people and for filters; they decide nothing.")] = {}
    nodes: _Nodes | UnsetType = UNSET
    limits: _Limits | UnsetType = UNSET
    limits_mode: _LimitsMode | UnsetType = UNSET
    on_burst: _OnBurst | UnsetType = UNSET
    component: Annotated[Mapping[str, ComponentTable], Meta(description="Its components, by name.")] = {}
    mode: Annotated[Mode, Meta(description="observe: all its components only observe.")] = Mode.ENFORCE


class ProviderTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A relying party outside, such as the provider of a model, that takes our JWT-SVIDs."""

    audience: Annotated[str, Meta(description="The audience of the JWT-SVIDs for it.", min_length=1)]
    longest_life: (
        Annotated[
            _Duration,
            Meta(description="How long a token lives at most that it gives in exchange. Default: it gives none."),
        ]
        | UnsetType
    ) = UNSET
    owner: Annotated[str, Meta(description="Who answers for using it; needed if agents of several owners use it.")] = ""


class CaseTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A test of the rules: a process on a node, and what it must get."""

    name: Annotated[str, Meta(description="What it shows, for people.", min_length=1)]
    node: Annotated[
        str | list[str], Meta(description="The selectors that the node shows, or the path of the node.")
    ] = []
    selectors: Annotated[list[_Selector], Meta(description="The selectors that the process shows.")]
    expect: Annotated[
        list[str],
        Meta(
            description="The identities that it gets, as AGENT/COMPONENT; an empty list: none.",
            examples=[["concierge/crm"], []],
        ),
    ]
    audiences: Annotated[
        list[str] | UnsetType,
        Meta(description="The external audiences for which these identities get tokens, all of them."),
    ] = UNSET


class SelectorTypesTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Types of selectors that plugins write, beside our own."""

    workload: Annotated[list[str], Meta(description="Types of workload attestors' plugins, beside unix.")] = []
    node: Annotated[list[str], Meta(description="Types of node attestors' plugins, beside join_token.")] = []


class RulebookTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of a rulebook."""

    agent: Annotated[Mapping[str, AgentTable], Meta(description="Agents, by name.")] = {}
    provider: Annotated[Mapping[str, ProviderTable], Meta(description="Relying parties outside, by name.")] = {}
    case: Annotated[list[CaseTable], Meta(description="Tests of the rules.")] = []
    selector_types: SelectorTypesTable = SelectorTypesTable()


def schema() -> dict[str, object]:
    """The JSON Schema of a file of a rulebook, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(RulebookTable)}
