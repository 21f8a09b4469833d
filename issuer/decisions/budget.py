"""How much somebody may have the store grow: a budget that is used up at once, at the worst, and fills again with time.

Who has which budget, and what one holds now: issuer/flows/keep_budgets.
"""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Allowance", "charge", "mint_cost"]

_BYTES = 512  # of audiences that cost as much as an SVID without any: SQLite fills pages with long rows by half

_ROUNDING = 1e-3  # of many small charges, added up


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a budget holds at most, and what it gets back each second.

    Units: SVIDs without long audiences, each about 1 kB of the ledger and the audit
    """

    burst: float
    per_second: float


def mint_cost(audiences: Iterable[str]) -> float:
    """What a JWT-SVID for these audiences costs."""
    return 1 + sum(len(audience.encode()) for audience in audiences) / _BYTES


def charge(full_at: float, cost: float, allowance: Allowance, *, now: float) -> float | None:
    """Take something from a budget.

    Args:
        full_at: when the budget is full again, by the monotonic clock; one that is full: any moment that has passed.

    Returns:
        When it is full again after that; None: it does not hold as much.
    """
    after = max(full_at, now) + cost / allowance.per_second
    return after if (after - now) * allowance.per_second <= allowance.burst + _ROUNDING else None
