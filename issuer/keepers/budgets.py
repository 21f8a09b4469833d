"""Keep the minting budgets of nodes and entries, in memory; they are charged before anything is written or signed.

issuer/decisions/budget decides how a budget is charged. Each entry on each node has one, and so has each node, separately for X.509
and for JWT. So the tokens that workloads request without limit take nothing from what attestors renew.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from issuer.decisions.authority import AuthorityKind
from issuer.decisions.budget import Allowance, charge
from svid.clock import Clock

__all__ = ["Budgets", "MintBudgets"]

_MANY = 10_000

WishT = TypeVar("WishT", bound="_Wish")


class _Wish(Protocol):
    """One item of a batch."""

    @property
    def entry_id(self) -> EntryID:
        """The entry that it names."""

    @property
    def cost(self) -> float:
        """What it costs."""


class Budgets:
    """The budgets of one kind, by owner; a budget that nobody has used for long is full and not kept."""

    def __init__(self, allowance: Allowance, clock: Clock) -> None:
        self._allowance = allowance
        self._clock = clock
        self._full_at: dict[tuple[str, ...], float] = {}
        self._many = _MANY

    def take(self, *whose: str, cost: float = 1) -> bool:
        """Charge a budget; False when it does not hold enough."""
        now = self._clock.monotonic()
        after = charge(self._full_at.get(whose, now), cost, self._allowance, now=now)
        if after is None:
            return False
        self._full_at[whose] = after
        if len(self._full_at) > self._many:
            self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
            self._many = max(_MANY, 2 * len(self._full_at))
        return True

    def give_back(self, *whose: str, cost: float) -> None:
        """Undo a charge that was just made."""
        self._full_at[whose] -= cost / self._allowance.per_second

    @property
    def kept(self) -> int:
        """How many budgets are not known to be full."""
        return len(self._full_at)


class MintBudgets:
    """The minting budgets of nodes and their entries.

    Args:
        entry: the allowance of one entry on one node.
        node: the allowance of all entries on one node together.
    """

    def __init__(self, *, entry: Allowance, node: Allowance, clock: Clock) -> None:
        self.entry = entry
        self.node = node
        self.clock = clock
        self._entries = Budgets(self.entry, self.clock)
        self._nodes = Budgets(self.node, self.clock)

    def within(
        self, node_id: NodeID, kind: AuthorityKind, wishes: Sequence[WishT | Refused]
    ) -> Sequence[WishT | Refused]:
        """Charge the wishes of a node; refuse those that exceed its budgets, and let the others pass."""
        return [wish if isinstance(wish, Refused) else self._charged(node_id, kind, wish) for wish in wishes]

    def _charged(self, node_id: NodeID, kind: AuthorityKind, wish: WishT) -> WishT | Refused:
        """Charge the node first: it pays for each budget key that we keep, even for an entry that does not exist."""
        if not self._nodes.take(kind, node_id, cost=wish.cost):
            return _spent("this node", self.node)
        if not self._entries.take(kind, node_id, wish.entry_id, cost=wish.cost):
            self._nodes.give_back(kind, node_id, cost=wish.cost)
            return _spent("this entry", self.entry)
        return wish

    @property
    def kept(self) -> int:
        """How many budgets are not known to be full."""
        return self._entries.kept + self._nodes.kept


def _spent(whose: str, allowance: Allowance) -> Refused:
    svids = "SVID" if allowance.per_second == 1 else "SVIDs"
    return Refused(
        Kind.EXHAUSTED,
        f"budget: expected at most {allowance.per_second:g} {svids} a second for {whose}, found more; try again later",
    )
