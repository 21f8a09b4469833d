"""attestor/decisions/sync: what a step of the feed changes."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestor.decisions.sync import Change, diff, keeps_svid
from cognomen.protocol.feed import Cursor
from svid.entry import EntryID, RegistrationEntry
from svid.selector import Selector
from svid.spiffeid import SpiffeID
from tests.doubles.entries import entry

CURSOR = Cursor(incarnation="a", number=1)
A, B, C = entry("a"), entry("b"), entry("c")


def known(*entries: RegistrationEntry) -> dict[EntryID, RegistrationEntry]:
    return {one.id: one for one in entries}


def change(*entries: RegistrationEntry, snapshot: bool = False, gone: tuple[RegistrationEntry, ...] = ()) -> Change:
    return Change(cursor=CURSOR, snapshot=snapshot, entries=entries, gone=tuple(one.id for one in gone))


def test_a_snapshot_takes_away_what_it_does_not_name() -> None:
    step = diff(known(A, B), change(B, C, snapshot=True))
    assert step.put == (C,)
    assert step.left == (A,)


def test_a_change_leaves_what_it_does_not_name() -> None:
    step = diff(known(A, B), change(C, gone=(A,)))
    assert step.put == (C,)
    assert step.left == (A,)


def test_what_is_the_same_is_not_put_again() -> None:
    assert diff(known(A), change(A)).put == ()


def test_what_was_never_known_cannot_leave() -> None:
    assert diff(known(A), change(gone=(B,))).left == ()


def test_an_entry_both_named_and_gone_is_there() -> None:
    step = diff(known(A), change(A, B, gone=(A, B)))
    assert step.put == (B,)
    assert step.left == ()


def test_only_an_entry_that_was_known_has_a_stale_svid() -> None:
    other = entry("a", dns_names=("a.example.org",))
    step = diff(known(A), change(other, B))
    assert step.put == (other, B)
    assert step.stale == {A.id}


@dataclass(frozen=True, kw_only=True)
class Row:
    name: str
    changes: dict[str, object]
    keeps: bool


ROWS = [
    Row(name="spiffe id", changes={"spiffe_id": SpiffeID.parse("spiffe://example.org/x")}, keeps=False),
    Row(name="dns names", changes={"dns_names": ("x",)}, keeps=False),
    Row(name="selectors", changes={"selectors": frozenset({Selector("unix", "uid:1")})}, keeps=False),
    Row(name="hint", changes={"hint": "x"}, keeps=True),
    Row(name="owner", changes={"owner": "x"}, keeps=True),
    Row(name="revision", changes={"revision": 9}, keeps=True),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_svid_is_kept_when_neither_its_names_nor_its_holders_change(row: Row) -> None:
    assert keeps_svid(A, entry("a", **row.changes)) is row.keeps


NAMES = st.lists(st.sampled_from("abcdef"), unique=True)


@given(NAMES, NAMES, NAMES, st.booleans())
def test_applying_a_diff_gives_what_the_step_says(
    before: list[str],
    named: list[str],
    gone: list[str],
    snapshot: bool,  # noqa: FBT001 - hypothesis passes it
) -> None:
    had = known(*(entry(name) for name in before))
    new = [entry(name, revision=2) for name in named]
    step = diff(had, change(*new, snapshot=snapshot, gone=tuple(entry(name) for name in gone)))
    after = {**{i: e for i, e in had.items() if e not in step.left}, **known(*step.put)}
    expected = {} if snapshot else {i: e for i, e in had.items() if i not in gone}
    assert after == expected | known(*new)
