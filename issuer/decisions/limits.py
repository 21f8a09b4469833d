"""What an item of a mint is to the limits on issuance, and what is refused beyond them. ADR-0032 says what counts as new."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from cognomen.rulebook.limits import LimitedScope
from issuer.decisions.breaker import Breaker, BreakerState
from issuer.decisions.ledger import CredentialKind
from svid.keys import KeyID

__all__ = [
    "Asked",
    "BreakerStep",
    "Held",
    "HeldToken",
    "Limit",
    "LiveSVIDs",
    "Standing",
    "over_limits",
    "refusal",
    "renews_token",
]


class Limit(StrEnum):
    """The limits, by their keys in a rulebook."""

    X509_PER_MINUTE = "x509_per_minute"
    JWT_PER_MINUTE = "jwt_per_minute"
    AUDIENCES_PER_HOUR = "audiences_per_hour"
    LIVE_SVIDS = "live_svids"
    NODES = "nodes"

    @property
    def is_rate(self) -> bool:
        """Whether exceeding it is a burst."""
        return self in {Limit.X509_PER_MINUTE, Limit.JWT_PER_MINUTE}


_WORDS: Mapping[Limit, str] = {
    Limit.X509_PER_MINUTE: "new X509-SVIDs a minute",
    Limit.JWT_PER_MINUTE: "new JWT-SVIDs a minute",
    Limit.AUDIENCES_PER_HOUR: "audiences of JWT-SVIDs an hour",
    Limit.LIVE_SVIDS: "live SVIDs at once",
    Limit.NODES: "nodes at once",
}


class HeldToken(NamedTuple):
    """A valid JWT-SVID of an entry on a node: the last one for these audiences."""

    audiences: tuple[str, ...]
    not_after: datetime
    authority_id: KeyID
    serial: str


class LiveSVIDs(NamedTuple):
    """What is valid of a component, or of all components of an agent, and was not revoked, as the ledger has it.

    Args:
        x509: when the last X509-SVID ends, by the path of the component and the node.
        tokens: how many JWT-SVIDs end in that second, counted from 1970.
    """

    x509: Mapping[tuple[str, NodeID], datetime]
    tokens: Mapping[int, int]


class Held(NamedTuple):
    """What a node holds of an entry, as the ledger has it.

    Args:
        x509: when its last X509-SVID ends or ended; None: it has had none for long.
    """

    x509: datetime | None = None
    tokens: Sequence[HeldToken] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An SVID that is about to be recorded.

    Args:
        now, not_after: seconds since 1970, by the issuer's clock.
        monotonic: the same moment, by the monotonic clock.
        serial: the jti of a token.
    """

    kind: CredentialKind
    node_id: NodeID
    audiences: tuple[str, ...]
    authority_id: KeyID
    not_after: float
    now: float
    monotonic: float
    serial: str = ""

    @property
    def rate(self) -> Limit:
        """The limit per minute that it counts for."""
        return Limit.X509_PER_MINUTE if self.kind is CredentialKind.X509 else Limit.JWT_PER_MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStep:
    """A breaker that got into another state.

    Args:
        limit: the one that it guards.
        scope: whose limit, as it was then.
    """

    scope: LimitedScope
    limit: Limit
    breaker: Breaker
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one limit of a component or an agent stands.

    Args:
        used: how much of it is used now.
        over: how often something was refused, or would have been, since the issuer started or the limits were changed.
        last_over: when for the last time.
        breaker: of a limit per minute.
        since, until: the times of the breaker; None: they say nothing.
    """

    scope: LimitedScope
    limit: Limit
    most: int
    used: int
    over: int
    last_over: datetime | None
    breaker: BreakerState = BreakerState.CLOSED
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_tripped(self) -> bool:
        """Whether its breaker is open or half-open."""
        return self.breaker is not BreakerState.CLOSED


def over_limits(standings: Iterable[Standing]) -> Sequence[Standing]:
    """Those that refused something, or would have, or whose breaker is not closed: these first, and of each the newest first."""
    found = [one for one in standings if one.over or one.is_tripped]
    return sorted(
        found, key=lambda one: (one.is_tripped, one.last_over or datetime.min.replace(tzinfo=UTC)), reverse=True
    )


def refusal(scope: LimitedScope, limit: Limit) -> Refused:
    """The refusal of what is over a limit, in a constant text: it is counted by it."""
    more = "; its breaker is open, only renewals pass" if limit.is_rate else ""
    detail = f"limit of {scope.name}: expected at most {scope.most[limit]} {_WORDS[limit]}, found more{more}"
    return Refused(Kind.EXHAUSTED, detail, hint=f"what is used: cognomen agent show {scope.agent}")


def renews_token(*, not_after: float, authority_id: KeyID, free_at: float, asked: Asked) -> bool:
    """Whether a JWT-SVID replaces that one.

    Args:
        free_at: from when on one may be replaced, whoever signed it.
    """
    return not_after > asked.now and (authority_id != asked.authority_id or asked.now >= free_at)
