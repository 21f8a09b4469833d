"""Limit how much a caller may make the store grow: a budget that can be used up at once, and refills with time.

issuer/keepers/budgets decides who has which budget, and keeps what each holds now.
"""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Allowance", "charge", "mint_cost"]

_BYTES = 512  # of audiences that cost as much as an SVID without any: long rows fill a store's pages only by half

_ROUNDING = 1e-3  # the rounding error of many small charges


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How much a budget can hold, and how much it gets back each second.

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
        full_at: when the budget is full again, by the monotonic clock; if it is full, any time in the past.

    Returns:
        When it is full again after that; None: it does not hold enough.
    """
    after = max(full_at, now) + cost / allowance.per_second
    return after if (after - now) * allowance.per_second <= allowance.burst + _ROUNDING else None
