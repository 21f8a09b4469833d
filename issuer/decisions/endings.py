"""What of each identity ends when entries are changed or deleted: how many credentials, for whom, and until when they would have lived."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from issuer.decisions.ledger import CredentialKind
from svid.spiffeid import SpiffeID

__all__ = ["MOST_AUDIENCES", "MOST_IDENTITIES", "Alike", "Ending", "Endings", "endings_of"]

MOST_IDENTITIES = 1000
MOST_AUDIENCES = 20
"""How many are listed: this keeps an answer small, no matter how much ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Live credentials that are alike.

    Args:
        is_later: they end once they are replaced.
        audiences: of tokens.
        ends_at: when the last of them expires.
    """

    spiffe_id: SpiffeID
    kind: CredentialKind
    count: int
    is_later: bool
    audiences: tuple[str, ...]
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What of one identity ends.

    Args:
        later: how many of both kinds end once they are replaced; the others end at once.
        audiences: those that may have been shown the tokens, in order; the first MOST_AUDIENCES.
        more_audiences: how many more there are.
        ends_at: when the last of them would have expired.
    """

    spiffe_id: SpiffeID
    x509: int
    jwt: int
    later: int
    audiences: tuple[str, ...]
    more_audiences: int
    ends_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Endings:
    """What ends.

    Args:
        identities: by SPIFFE ID; the first MOST_IDENTITIES.
        more: how many more identities there are.
    """

    identities: Sequence[Ending] = ()
    more: int = 0


@dataclass(slots=True)
class _Sum:
    ends_at: datetime
    counts: dict[CredentialKind, int] = field(default_factory=dict)
    later: int = 0
    audiences: set[str] = field(default_factory=set)


def endings_of(found: Iterable[Alike]) -> Endings:
    """Sum them up by identity."""
    sums: dict[SpiffeID, _Sum] = {}
    for one in found:
        known = sums.setdefault(one.spiffe_id, _Sum(one.ends_at))
        known.ends_at = max(known.ends_at, one.ends_at)
        known.counts[one.kind] = known.counts.get(one.kind, 0) + one.count
        known.later += one.count if one.is_later else 0
        known.audiences.update(one.audiences)
    listed = sorted(sums, key=str)[:MOST_IDENTITIES]
    return Endings(identities=[_ending(one, sums[one]) for one in listed], more=len(sums) - len(listed))


def _ending(spiffe_id: SpiffeID, known: _Sum) -> Ending:
    audiences = sorted(known.audiences)
    return Ending(
        spiffe_id=spiffe_id,
        x509=known.counts.get(CredentialKind.X509, 0),
        jwt=known.counts.get(CredentialKind.JWT, 0),
        later=known.later,
        audiences=tuple(audiences[:MOST_AUDIENCES]),
        more_audiences=len(audiences[MOST_AUDIENCES:]),
        ends_at=known.ends_at,
    )
