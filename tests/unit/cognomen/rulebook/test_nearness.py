"""cognomen/rulebook/nearness: what a program lacks, and what an ordinary user is told."""

from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.selector import Selector
from cognomen.rulebook.nearness import Near, concerns, nearest
from tests.doubles.entries import entry

UID, OTHER_UID = Selector("unix", "uid:1000"), Selector("unix", "uid:2")
PATH, DIGEST, GID = Selector("unix", "path:/bin/db"), Selector("unix", "sha256:00"), Selector("unix", "gid:5")
SHOWN = frozenset({UID, GID})


def test_what_lacks_least_comes_first_and_each_says_what() -> None:
    far = entry("far", selectors=frozenset({UID, PATH, DIGEST}))
    close = entry("close", selectors=frozenset({UID, PATH}))
    assert nearest([far, close], SHOWN, limit=9) == (
        Near(entry=close, lacks=(PATH,)),
        Near(entry=far, lacks=(PATH, DIGEST)),
    )


def test_of_two_that_lack_as_much_the_one_that_shares_more_comes_first() -> None:
    more, less = entry("z", selectors=frozenset({UID, GID, PATH})), entry("a", selectors=frozenset({UID, PATH}))
    assert [one.entry.id for one in nearest([less, more], SHOWN, limit=9)] == ["z", "a"]


def test_what_matches_is_not_near_and_what_shares_nothing_comes_last() -> None:
    matching, strange = entry("a", selectors=frozenset({UID})), entry("b", selectors=frozenset({OTHER_UID}))
    shares = entry("c", selectors=frozenset({UID, PATH, DIGEST}))
    assert [one.entry.id for one in nearest([matching, strange, shares], SHOWN, limit=9)] == ["c", "b"]


@given(st.lists(st.frozensets(st.sampled_from([UID, OTHER_UID, PATH, DIGEST, GID]), min_size=1), max_size=30))
def test_never_more_than_the_limit_and_what_is_near_lacks_something(sets: list[frozenset[Selector]]) -> None:
    entries = [entry(f"e{number}", selectors=selectors) for number, selectors in enumerate(sets)]
    near = nearest(entries, SHOWN, limit=3)
    assert len(near) <= 3
    assert all(one.lacks and set(one.lacks) == one.entry.selectors - SHOWN for one in near)


def test_an_entry_that_names_the_user_is_no_secret_to_that_user() -> None:
    assert concerns(entry("a", selectors=frozenset({UID, PATH})), SHOWN)
    assert not concerns(entry("a", selectors=frozenset({GID, PATH})), SHOWN)
    assert not concerns(entry("a", selectors=frozenset({OTHER_UID, GID})), SHOWN)
