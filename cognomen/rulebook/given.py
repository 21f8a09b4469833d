"""Entries that come from elsewhere, and what the operator decided about them: the input of `importing`.

Which documents have such entries: `spire`, `manifests`, and cognomen/cli/importsources for the issuer's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from cognomen.protocol.selector import Selector
from cognomen.rulebook.rules import ComponentName, Nodes
from cognomen.rulebook.tables import ComponentKind
from svid.spiffeid import SpiffeID

__all__ = ["EVERY_AGENT", "SPIRE_AGENTS", "SPIRE_SERVER", "Choices", "Extra", "GivenEntry", "LeftOut"]

SPIRE_SERVER = "/spire/server"
"""The path of SPIRE's server: the parent of its node aliases."""

SPIRE_AGENTS = "/spire/agent/"
"""The paths of SPIRE's agents begin with this."""

EVERY_AGENT = "/spire/agent"
"""The path that we give to all agents of a cluster together: no agent has it."""


class Extra(StrEnum):
    """What entries can have and a rulebook has no word for; of `callers`, those that no `may_call` says."""

    HINT = "hint"
    DEFAULT = "default"
    CALLERS = "callers"
    EXPIRES_AT = "expires_at"
    FEDERATES_WITH = "federates_with"
    ADMIN = "admin"
    DOWNSTREAM = "downstream"
    STORE_SVID = "store_svid"
    ADDITIONAL_ATTRIBUTES = "additional_attributes"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenEntry:
    """An entry as it is elsewhere.

    Args:
        where: the place in its document, for messages: "entries.json: entries[3]".
        audiences: None: its JWT-SVIDs may be for anybody.
        callers: the SPIFFE IDs that may call it; None: not declared.
        observe: whether nothing is issued for it.
        extras: what it has that a rulebook cannot say.
        is_spire: whether its parent may be the ID of another workload, whose nodes it is then on.
        problem: why it cannot be a rule, whatever the operator decides; empty: it may be one.
    """

    where: str
    spiffe_id: SpiffeID
    parent_id: SpiffeID
    selectors: frozenset[Selector]
    x509_ttl: timedelta | None = None
    jwt_ttl: timedelta | None = None
    dns_names: tuple[str, ...] = ()
    audiences: tuple[str, ...] | None = None
    callers: tuple[str, ...] | None = None
    observe: bool = False
    owner: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    extras: frozenset[Extra] = frozenset()
    is_spire: bool = True
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the operator decided.

    Args:
        owner, purpose: of agents of which nothing else says it; empty: to be written in.
        names: what becomes of a SPIFFE ID, by its path.
        nodes: which nodes a parent is here, by its path.
        other_nodes: which nodes SPIRE's agents are that `nodes` does not name; None: each has a label of its own.
        people: owner and purpose by the name of the agent.
        agent: the agent of all components whose path does not name one.
        agent_from, component_from: which segment of a path names them, from 1; None: none, and the last one.
        renames: whether SPIFFE IDs may change.
        keeps_types: whether selectors are kept of types that no attestor of ours writes.
        drops: what entries may lose.
    """

    owner: str = ""
    purpose: str = ""
    kind: ComponentKind = ComponentKind.OTHER
    names: Mapping[str, ComponentName] = field(default_factory=dict)
    nodes: Mapping[str, Nodes] = field(default_factory=dict)
    other_nodes: Nodes | None = None
    people: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    agent: str = ""
    agent_from: int | None = None
    component_from: int | None = None
    renames: bool = False
    keeps_types: bool = False
    drops: frozenset[Extra] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something that is not in the rulebook, and why.

    Args:
        where: its place, as that of an entry.
        what: its SPIFFE ID, or the template of it.
        mend: what to do to have it; empty: nothing helps.
    """

    where: str
    what: str
    reason: str
    mend: str = ""
