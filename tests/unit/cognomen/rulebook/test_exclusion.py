"""cognomen/rulebook/exclusion: which sets of selectors a process can show together, held against z3."""

from collections.abc import Sequence

import z3
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.selector import Selector
from cognomen.rulebook.exclusion import Alike, Compatible, excludes, facts_of

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
def test_what_is_compatible_is_that_of_comparing_everything_with_everything(
    sets: Sequence[frozenset[Selector]],
) -> None:
    facts = [facts_of(one) for one in sets]
    found = Compatible(facts)
    for number, one in enumerate(facts):
        assert [found[number] >> at & 1 for at in range(len(facts))] == [not excludes(one, other) for other in facts]


@given(st.lists(st.sampled_from("abc"), max_size=300))
def test_those_that_have_something_are_known_however_many_they_are(letters: Sequence[str]) -> None:
    alike = Alike(len(letters))
    for number, letter in enumerate(letters):
        alike.add(letter, number)
    for letter in "abcd":
        expected = sum(1 << number for number, one in enumerate(letters) if one == letter)
        assert (alike[letter], alike[letter], alike.count(letter)) == (expected, expected, letters.count(letter))
