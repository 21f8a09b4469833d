"""How far the enforcement points of a node have come, as values that issuer and attestor share.

Decided here: which points count as enforcing a change, according to the node's attestor. How the attestor knows: attestor/receipts.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

__all__ = ["MOST_BEHIND", "Behind", "Enforcement", "Point", "in_turns"]

T = TypeVar("T")

MOST_BEHIND = 20
"""The most points that an attestor names of those that are behind."""


class Point(NamedTuple):
    """Something in a process that enforces denials, with the name that the process gives it."""

    uid: int
    pid: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """A point that has not taken everything, and the last change number that it has; 0: it has no change of this store."""

    point: Point
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Enforcement:
    """How far the points of a node have come.

    Args:
        number: the last change that its attestor has.
        points: how many there are.
        reached: how many of them have taken every denial up to `number`.
        behind: at most MOST_BEHIND of the others, the slowest first; chosen so that each uid has one before any uid has a second.
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
        """How many points are known to have taken that change; points that are not named count only if it is certain."""
        if change > self.number:
            return 0
        unnamed = self.points - self.reached - len(self.behind)
        is_certain = bool(self.behind) and self.behind[0].number >= change  # no point is slower, named or not
        return self.reached + sum(one.number >= change for one in self.behind) + (unnamed if is_certain else 0)

    def silent(self, change: int) -> tuple[Behind, ...]:
        """The named points that have not taken that change, the slowest first."""
        return tuple(one for one in self.behind if one.number < change)


def in_turns(items: Iterable[T], whose: Callable[[T], Hashable]) -> list[T]:
    """The first item of each owner, then the second of each, and so on: an owner of many does not crowd others out of a short list."""
    had = Counter[Hashable]()
    turns = []
    for item in items:
        turns.append((had[whose(item)], item))
        had[whose(item)] += 1
    return [item for _, item in sorted(turns, key=lambda one: one[0])]
