"""Which sets of selectors exclude each other, and which of many do not: the base of every proof about rules (ADR-0028).

Two sets exclude each other if, and only if, they demand two values of a fact that has one value. Otherwise a process can show both.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence

from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import fact_with_one_value

__all__ = ["Alike", "Compatible", "Facts", "excludes", "facts_of"]

Facts = Mapping[str, str]
"""The facts with one value that a set of selectors demands, and their values."""

_FEW, _SHARE = 8, 1000  # bits that are set anew each time: so many, and one more for so many sets


def facts_of(selectors: Iterable[Selector]) -> Facts:
    """The facts that have one value for each process or node; other selectors exclude nothing."""
    return {fact: str(one) for one in selectors if (fact := fact_with_one_value(one))}


def excludes(one: Facts, other: Facts) -> bool:
    """Whether no process shows both."""
    if len(one) > len(other):
        one, other = other, one
    return any(other.get(fact, value) != value for fact, value in one.items())


class Alike:
    """Which of many things have something in common.

    An answer is a number whose n-th bit is about the n-th thing, so that one operation of Python is about all of them.

    Args:
        count: how many things there are.
    """

    def __init__(self, count: int) -> None:
        self._members: dict[Hashable, list[int]] = {}
        self._kept: dict[Hashable, int] = {}
        self._most_built = _FEW + count // _SHARE

    def add(self, key: Hashable, number: int) -> None:
        """The thing of that number has it, and those before it are added already."""
        self._members.setdefault(key, []).append(number)

    def count(self, key: Hashable) -> int:
        """How many have it."""
        return len(self._members.get(key, ()))

    def __getitem__(self, key: Hashable) -> int:
        """Those that have it. The number is kept where it takes long to make; there are few of those."""
        members = self._members.get(key, [])
        if len(members) <= self._most_built:
            return _bits(members)
        if (found := self._kept.get(key)) is None:
            self._kept[key] = found = _bits(members)
        return found


class Compatible:
    """Which of many sets some process can show together with one of them, in bits as those of `Alike`.

    To compare each of 10,000 sets with each takes a few hundredths of a second, whatever they demand.
    """

    def __init__(self, sets: Sequence[Facts]) -> None:
        self._sets = sets
        self._demand: Alike = Alike(len(sets))
        for number, one in enumerate(sets):
            for fact, value in one.items():
                self._demand.add((fact,), number)
                self._demand.add((fact, value), number)

    def __getitem__(self, number: int) -> int:
        """The sets that the set of that number does not exclude; itself is one of them."""
        excluded = 0
        demand = self._demand
        for fact, value in self._sets[number].items():
            if demand.count((fact,)) > demand.count((fact, value)):
                excluded |= demand[(fact,)] ^ demand[(fact, value)]
        return ((1 << len(self._sets)) - 1) ^ excluded


def _bits(numbers: Sequence[int]) -> int:
    """A number that has these bits, which are in order."""
    if len(numbers) == 1:
        return 1 << numbers[0]
    if not numbers:
        return 0
    found = bytearray(numbers[-1] // 8 + 1)
    for number in numbers:
        found[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(found, "little")
