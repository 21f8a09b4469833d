"""Find how far a plan reaches: which live credentials it ends, and until when tokens live that were exchanged for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from issuer.datastore.port import Transaction
from issuer.decisions.endings import Endings, endings_of
from issuer.decisions.exchanged import Exchanged
from issuer.decisions.revocation import Live
from issuer.works.entryplans import Plan

__all__ = ["Reach", "reach_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far a plan reaches.

    Args:
        endings: what it ends, by identity.
        exchanged: what it does not reach, by audience.
    """

    endings: Endings = field(default_factory=Endings)
    exchanged: Sequence[Exchanged] = ()


def reach_in(tx: Transaction, plan: Plan, *, longest_lives: Mapping[str, timedelta], now: datetime) -> Reach:
    """Find it.

    Args:
        longest_lives: by audience, how long the tokens of declared providers live.
    """
    named = {*plan.ended, *(one.entry_id for one in plan.superseded)}
    if not named:
        return Reach()
    return Reach(
        endings=endings_of(tx.supersessions.ending(plan.ended, plan.superseded, now=now)),
        exchanged=tx.denials.exchanged(Live(entry_ids=named), longest_lives=longest_lives, now=now),
    )
