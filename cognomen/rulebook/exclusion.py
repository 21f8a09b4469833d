"""Which sets of selectors exclude each other, and which pairs of many do not: the base of every proof about rules (ADR-0028).

Two sets exclude each other if, and only if, they demand two values of a fact that has one value. Otherwise a process can show both.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import fact_with_one_value

__all__ = ["Facts", "compatible_pairs", "excludes", "facts_of"]

Facts = Mapping[str, str]
"""The facts with one value that a set of selectors demands, and their values."""

_SMALL = 8  # sets, of which all pairs are compared

_Group = Sequence[int]


def facts_of(selectors: Iterable[Selector]) -> Facts:
    """The facts that have one value for each process or node; other selectors exclude nothing."""
    return {fact: str(one) for one in selectors if (fact := fact_with_one_value(one))}


def excludes(one: Facts, other: Facts) -> bool:
    """Whether no process shows both."""
    if len(one) > len(other):
        one, other = other, one
    return any(other.get(fact, value) != value for fact, value in one.items())


def compatible_pairs(sets: Sequence[Facts]) -> Iterator[tuple[int, int]]:
    """Each pair of sets that some process can show together, by their places, the lower first; in no order.

    Sets are divided by the values of the fact that most of them demand. Two sets with different values of it exclude each other, so that
    only sets with the same value, and those that do not demand it, are compared further: most rules name a uid, and few have the same.
    """
    work: list[tuple[_Group, _Group | None, frozenset[str]]] = [(range(len(sets)), None, frozenset())]
    while work:
        left, right, used = work.pop()
        fact = _dividing_fact(sets, left, right, used)
        if fact is None:
            yield from _compare(sets, left, right)
            continue
        done = used | {fact}
        first = _divide(sets, left, fact)
        second = first if right is None else _divide(sets, right, fact)
        for value, members in first.with_value.items():
            if right is None:
                work.append((members, None, done))
            elif value in second.with_value:
                work.append((members, second.with_value[value], done))
            work.append((members, second.without, done))
        if right is None:
            work.append((first.without, None, done))
        else:
            work.append((first.without, right, done))


class _Divided(NamedTuple):
    with_value: Mapping[str, list[int]]
    without: list[int]


def _divide(sets: Sequence[Facts], members: _Group, fact: str) -> _Divided:
    with_value: defaultdict[str, list[int]] = defaultdict(list)
    without = []
    for number in members:
        value = sets[number].get(fact)
        if value is None:
            without.append(number)
        else:
            with_value[value].append(number)
    return _Divided(with_value, without)


def _dividing_fact(sets: Sequence[Facts], left: _Group, right: _Group | None, used: frozenset[str]) -> str | None:
    """The fact that most of these sets demand; None: there are few of them, or nothing divides them."""
    if len(left) * len(left if right is None else right) <= _SMALL * _SMALL:
        return None
    counts: Counter[str] = Counter()
    for group in (left, right or ()):
        for number in group:
            counts.update(sets[number].keys() - used)
    return counts.most_common(1)[0][0] if counts else None


def _compare(sets: Sequence[Facts], left: _Group, right: _Group | None) -> Iterator[tuple[int, int]]:
    if right is None:
        pairs = ((one, other) for at, one in enumerate(left) for other in left[at + 1 :])
    else:
        pairs = ((one, other) for one in left for other in right)
    for one, other in pairs:
        if not excludes(sets[one], sets[other]):
            yield min(one, other), max(one, other)
