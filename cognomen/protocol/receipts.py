"""What the enforcement points of a node have taken, in the words that issuer and attestor share.

Decided here: who counts as enforcing a change, by what a node's attestor says of its points. Who says it: attestor/receipts.
"""

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["MOST_BEHIND", "Behind", "Enforcement", "Point"]

MOST_BEHIND = 20
"""How many of the points that are behind an attestor names."""


class Point(NamedTuple):
    """What enforces denials in a process, by the name that the process gives it."""

    uid: int
    pid: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """A point that has not taken everything, and the last change number that it has; 0: none of this store's."""

    point: Point
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """How far the points of a node are.

    Args:
        number: the last change that its attestor has.
        points: how many there are.
        reached: how many of them have taken every denial up to `number`.
        behind: the others, the slowest first; at most MOST_BEHIND.
    """

    number: int
    points: int = 0
    reached: int = 0
    behind: tuple[Behind, ...] = ()

    @property
    def everywhere(self) -> int:
        """The last change that every point is known to have taken."""
        if self.reached == self.points:
            return self.number
        return self.behind[0].number if self.behind else 0

    def enforcing(self, change: int) -> int:
        """How many points have taken that change, as far as is known: of those that are not named, only what is certain."""
        if change > self.number:
            return 0
        unnamed = self.points - self.reached - len(self.behind)
        is_certain = bool(self.behind) and self.behind[-1].number >= change  # those that are not named are faster
        return self.reached + sum(one.number >= change for one in self.behind) + (unnamed if is_certain else 0)

    def silent(self, change: int) -> tuple[Behind, ...]:
        """The named points that have not taken that change, the slowest first."""
        return tuple(one for one in self.behind if one.number < change)
