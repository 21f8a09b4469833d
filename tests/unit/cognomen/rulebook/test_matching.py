"""Which entries match a caller, and in which order."""

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.selector import Selector
from cognomen.rulebook.matching import Index, in_match_order
from svid.spiffeid import SpiffeID, TrustDomain

EXAMPLE = TrustDomain("example.org")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def entry(entry_id: str, *selectors: str, created_at: datetime | None = NOON) -> RegistrationEntry:
    return RegistrationEntry(
        id=EntryID(entry_id),
        spiffe_id=SpiffeID.from_segments(EXAMPLE, "w", entry_id),
        parent_id=SpiffeID.from_segments(EXAMPLE, "cognomen", "node", "n"),
        selectors=frozenset(map(Selector.parse, selectors)),
        created_at=created_at,
    )


def test_entries_marked_as_default_come_first_and_the_oldest_of_them_before_the_others() -> None:
    old, new = NOON - timedelta(days=1), NOON
    entries = [
        entry("a", "unix:uid:1", created_at=old),
        replace(entry("b", "unix:uid:1", created_at=new), default=True),
        replace(entry("c", "unix:uid:1", created_at=old), default=True),
    ]
    assert ids(in_match_order(entries)) == ["c", "b", "a"]


def shown(*selectors: str) -> frozenset[Selector]:
    return frozenset(map(Selector.parse, selectors))


def ids(entries: Collection[RegistrationEntry]) -> list[str]:
    return [entry.id for entry in entries]


def test_an_entry_matches_who_shows_all_its_selectors_and_more() -> None:
    index = Index([entry("a", "unix:uid:1", "unix:gid:2")])
    assert ids(index.match(shown("unix:uid:1", "unix:gid:2", "unix:path:/x"))) == ["a"]


def test_an_entry_does_not_match_who_shows_only_some_of_its_selectors() -> None:
    index = Index([entry("a", "unix:uid:1", "unix:gid:2")])
    assert index.match(shown("unix:uid:1")) == ()
    assert index.match(shown("unix:gid:2")) == ()


def test_nothing_matches_who_shows_nothing() -> None:
    assert Index([entry("a", "unix:uid:1")]).match(frozenset()) == ()


def test_a_removed_entry_matches_nobody() -> None:
    gone, stays = entry("a", "unix:uid:1"), entry("b", "unix:uid:1")
    index = Index([gone, stays])
    index.remove(gone)
    assert ids(index.match(shown("unix:uid:1"))) == ["b"]


def test_removing_an_entry_that_is_not_there_changes_nothing() -> None:
    index = Index()
    index.remove(entry("a", "unix:uid:1"))
    assert index.match(shown("unix:uid:1")) == ()


def test_an_entry_that_comes_again_replaces_the_one_with_its_id() -> None:
    index = Index([entry("a", "unix:uid:1")])
    index.add(entry("a", "unix:uid:2"))
    assert index.match(shown("unix:uid:1")) == ()
    assert ids(index.match(shown("unix:uid:2"))) == ["a"]


@pytest.mark.clause("WA-43")
def test_the_oldest_entry_comes_first_and_the_id_breaks_ties() -> None:
    young = entry("a", "unix:uid:1", created_at=NOON + timedelta(seconds=1))
    index = Index([entry("c", "unix:uid:1"), young, entry("b", "unix:uid:1")])
    assert ids(index.match(shown("unix:uid:1"))) == ["b", "c", "a"]


def test_an_entry_of_unknown_age_comes_last() -> None:
    assert ids(in_match_order([entry("a", "unix:uid:1", created_at=None), entry("b", "unix:uid:1")])) == ["b", "a"]


def test_entries_that_share_a_selector_stand_under_the_one_that_tells_them_apart() -> None:
    index = Index(entry(f"{number}", "unix:uid:0", f"unix:path:/{number}") for number in range(1000))
    assert max(map(len, index._under.values())) <= 2


SELECTORS = st.frozensets(st.sampled_from([Selector("t", f"{number}") for number in range(6)]))
ENTRIES = st.lists(SELECTORS.filter(bool), max_size=12).map(
    lambda sets: [entry(f"{number}", *map(str, selectors)) for number, selectors in enumerate(sets)]
)


@given(entries=ENTRIES, dropped=st.sets(st.integers(0, 11)), caller=SELECTORS)
def test_the_index_finds_what_a_comparison_with_every_entry_finds(
    entries: list[RegistrationEntry], dropped: set[int], caller: frozenset[Selector]
) -> None:
    index = Index(entries)
    for number in dropped & set(range(len(entries))):
        index.remove(entries[number])
    left = [one for number, one in enumerate(entries) if number not in dropped]
    assert index.match(caller) == in_match_order(one for one in left if one.selectors <= caller)
