"""cognomen/rulebook/exclusion: which sets of selectors a process can show together, held against z3."""

from collections.abc import Sequence
from itertools import combinations

import z3
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.selector import Selector
from cognomen.rulebook.exclusion import compatible_pairs, excludes, facts_of

_VALUES = {"uid": "123", "path": ("/a", "/b"), "user": ("ann", "bob"), "supplementary_gid": "45"}
_TEXTS = [
    *(f"unix:{fact}:{value}" for fact, values in _VALUES.items() for value in values),
    *(
        "join_token:label:team:a",
        "join_token:label:team:b",
        "join_token:label:zone:a",
        "docker:image:x",
        "docker:image:y",
    ),
]
SETS = st.frozensets(st.sampled_from([Selector.parse(text) for text in _TEXTS]), min_size=1, max_size=5)
_OF_ONE = ("unix:uid", "unix:path", "unix:user", "join_token:label:team", "join_token:label:zone")


def z3_compatible(one: frozenset[Selector], other: frozenset[Selector]) -> bool:
    """Whether something shows both, said to z3: a fact of one value is a variable, any other selector is a truth of its own."""
    solver = z3.Solver()
    for selector in one | other:
        text = str(selector)
        fact = next((fact for fact in _OF_ONE if text.startswith(f"{fact}:")), None)
        if fact is None:
            solver.add(z3.Bool(text))
        else:
            solver.add(z3.String(fact) == z3.StringVal(text.removeprefix(f"{fact}:")))
    return bool(solver.check() == z3.sat)


@given(SETS, SETS)
def test_two_sets_exclude_each_other_exactly_when_z3_finds_nothing_that_shows_both(
    one: frozenset[Selector], other: frozenset[Selector]
) -> None:
    # A set that contradicts itself is no rule: registration refuses it.
    if z3_compatible(one, one) and z3_compatible(other, other):
        assert excludes(facts_of(one), facts_of(other)) is not z3_compatible(one, other)


@given(st.lists(SETS, max_size=40))
def test_the_pairs_are_those_of_comparing_everything_with_everything(sets: Sequence[frozenset[Selector]]) -> None:
    facts = [facts_of(one) for one in sets]
    found = list(compatible_pairs(facts))
    assert len(found) == len(set(found))
    assert set(found) == {
        (one, other) for one, other in combinations(range(len(facts)), 2) if not excludes(facts[one], facts[other])
    }


def test_of_many_sets_that_differ_in_one_fact_few_are_compared() -> None:
    count = 0

    class Counting(dict[str, str]):
        def items(self) -> object:  # type: ignore[override]  # counted, not changed
            nonlocal count
            count += 1
            return super().items()

    sets = [Counting({"unix:uid": str(number), "node": "a"}) for number in range(5000)]
    assert list(compatible_pairs(sets)) == []
    assert count < 5000
