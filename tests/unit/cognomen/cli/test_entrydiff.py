"""What a file of entries and the entries of the issuer differ in."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.cli.entrydiff import in_words
from cognomen.protocol.entry import EntryID, RegistrationEntry, entry_to_document
from cognomen.protocol.entrydifference import Difference, compare
from cognomen.protocol.errors import Kind, Refused
from tests.doubles.issuer_values import NOW, an_entry


def stored(path: str, entry_id: str, **changes: str) -> RegistrationEntry:
    return replace(an_entry(path, entry_id=entry_id, **changes), revision=4, created_at=NOW)


def wanted(entry: RegistrationEntry, **changes: object) -> RegistrationEntry:
    """As a file has it that says neither id nor revision."""
    return replace(entry, id=EntryID(""), revision=0, created_at=None, **changes)  # type: ignore[arg-type]  # the test names the fields


ONE, TWO = stored("/one", "a"), stored("/two", "b")


def test_a_file_of_what_there_is_changes_nothing() -> None:
    difference = compare([wanted(TWO), replace(ONE, revision=1, created_at=None)], [ONE, TWO], prune=lambda _: True)
    assert not difference
    assert difference.unchanged == 2


def test_what_is_only_in_the_file_is_created_without_id_and_revision() -> None:
    new = replace(an_entry("/new", entry_id="elsewhere"), revision=7)
    assert compare([new], [ONE]) == Difference(create=(wanted(new),), update=(), delete=(), unchanged=0)


def test_an_entry_is_found_by_its_id_whatever_else_changes() -> None:
    moved = replace(an_entry("/moved", entry_id="a", of="unix:uid:9"), revision=1)
    difference = compare([moved], [ONE])
    assert difference.update == ((ONE, replace(moved, revision=4, created_at=NOW)),)
    assert not difference.create


def test_an_entry_is_found_by_path_parent_and_selectors() -> None:
    other = stored("/one", "c", of="unix:uid:9")
    difference = compare([wanted(other, owner="ann")], [ONE, other])
    assert difference.update == ((other, replace(other, owner="ann")),)


def test_the_one_left_with_the_same_path_and_parent_gets_other_selectors() -> None:
    other = an_entry("/one", of="unix:uid:9")
    difference = compare([wanted(other)], [ONE, TWO])
    assert difference.update == ((ONE, replace(ONE, selectors=other.selectors)),)


@pytest.mark.parametrize("there", [[ONE, stored("/one", "c", of="unix:uid:8")], [stored("/one", "c", parent="/x")]])
def test_without_exactly_one_left_it_is_a_new_entry(there: list[RegistrationEntry]) -> None:
    other = wanted(an_entry("/one", of="unix:uid:9"))
    assert compare([other], there).create == (other,)


def test_two_in_the_file_with_one_path_are_new_if_one_is_there() -> None:
    two = [wanted(an_entry("/one", of=f"unix:uid:{uid}")) for uid in (8, 9)]
    assert compare(two, [ONE]).create == tuple(two)


def test_an_id_that_nobody_has_is_as_none() -> None:
    assert not compare([replace(ONE, id=EntryID("gone"))], [ONE])


def test_only_what_is_to_be_pruned_is_deleted() -> None:
    assert compare([wanted(ONE)], [ONE, TWO]).delete == ()
    assert compare([wanted(ONE)], [ONE, TWO], prune=lambda entry: entry == TWO).delete == (TWO,)
    assert compare([wanted(ONE)], [ONE, TWO], prune=lambda entry: entry == ONE).delete == ()


@pytest.mark.parametrize(
    ("entries", "detail"),
    [
        ([ONE, TWO, replace(ONE, id=EntryID("c"))], "entries[2]: expected another spiffe_id, parent_id or selectors"),
        ([ONE, replace(TWO, id=ONE.id)], "entries[1]: id: expected another, found that of entries[0]"),
    ],
)
def test_a_file_with_an_entry_twice_is_refused(entries: list[RegistrationEntry], detail: str) -> None:
    with pytest.raises(Refused) as refused:
        compare(entries, [])
    assert refused.value.kind is Kind.INVALID
    assert refused.value.detail.startswith(detail)


def mine(entry: RegistrationEntry) -> bool:
    return entry.owner == "ann"


@pytest.mark.parametrize(
    "entry",
    [
        replace(an_entry("/mine", entry_id="a"), owner="ann"),
        wanted(ONE, owner="ann"),
    ],
    ids=["by id", "by path, parent and selectors"],
)
def test_an_entry_outside_the_scope_is_not_changed(entry: RegistrationEntry) -> None:
    others = replace(ONE, owner="bob")
    with pytest.raises(Refused) as refused:
        compare([wanted(TWO, owner="ann"), entry], [others, TWO], prune=lambda one: mine(one) or one == TWO)
    assert refused.value.kind is Kind.INVALID
    assert refused.value.detail.startswith("entries[1]: expected to change only entries of what --below, --owner and")
    assert refused.value.detail.endswith("would change spiffe://example.org/one of owner 'bob' (id a)")


def test_only_an_entry_of_the_scope_gets_other_selectors() -> None:
    others = replace(ONE, owner="bob")
    new = wanted(an_entry("/one", of="unix:uid:9"), owner="ann")
    assert compare([new], [others], prune=mine) == Difference(create=(new,), update=(), delete=(), unchanged=0)
    own = replace(stored("/one", "c", of="unix:uid:8"), owner="ann")
    difference = compare([new], [others, own], prune=mine)
    assert difference.update == ((own, replace(own, selectors=new.selectors)),)
    assert not difference.create + difference.delete


_ENTRIES = st.lists(
    st.builds(
        lambda path, uid, owner: replace(an_entry(f"/{path}", of=f"unix:uid:{uid}"), owner=owner),
        st.sampled_from("abc"),
        st.integers(0, 3),
        st.sampled_from(["", "ann", "bob"]),
    ),
    unique_by=lambda entry: (entry.spiffe_id, entry.selectors),
    max_size=8,
)


@given(_ENTRIES, _ENTRIES)
def test_once_done_there_is_nothing_to_do_and_the_issuer_has_the_file(
    file: list[RegistrationEntry], there: list[RegistrationEntry]
) -> None:
    file = [wanted(entry) for entry in file]
    before = {f"id{n}": replace(entry, id=EntryID(f"id{n}"), revision=1) for n, entry in enumerate(there)}
    difference = compare(file, before.values(), prune=lambda _: True)
    now = before | {after.id: after for _, after in difference.update}
    for entry in difference.delete:
        del now[entry.id]
    now |= {f"new{n}": replace(entry, id=EntryID(f"new{n}")) for n, entry in enumerate(difference.create)}
    assert sorted(map(_key, now.values())) == sorted(map(_key, file))
    assert not compare(file, now.values(), prune=lambda _: True)


def _key(entry: RegistrationEntry) -> tuple[str, list[str], str]:
    return str(entry.spiffe_id), sorted(map(str, entry.selectors)), entry.owner


def test_changes_are_told_field_by_field_without_what_the_issuer_chooses() -> None:
    after = replace(ONE, owner="ann", default=True, revision=5, labels={"team": "x"})
    changed = in_words(entry_to_document(ONE), entry_to_document(after))
    assert changed == "owner: - → ann; labels: - → team=x; default: - → yes"
    assert in_words(None, entry_to_document(TWO)).startswith("spiffe_id: spiffe://example.org/two; parent_id: ")


@pytest.mark.parametrize(
    "file",
    [
        [replace(ONE, id=TWO.id)],
        [replace(ONE, id=TWO.id), replace(TWO, id=ONE.id)],
        [replace(ONE, id=TWO.id), replace(an_entry("/three"), id=ONE.id)],
    ],
)
def test_an_id_of_another_entry_is_refused_as_that_and_not_as_a_change_meanwhile(file: list[RegistrationEntry]) -> None:
    with pytest.raises(Refused) as refused:
        compare(file, [ONE, TWO])
    assert refused.value.kind is Kind.INVALID
    assert refused.value.detail == (
        f"entries[0]: id: expected a, which has this spiffe_id, parent_id and selectors, found that of {TWO.spiffe_id}"
    )
    assert "leave out the ids" in refused.value.hint


def test_what_another_entry_gives_up_in_the_same_file_is_refused() -> None:
    near = stored("/one", "c", of="unix:uid:9")
    moved = replace(ONE, spiffe_id=an_entry("/moved").spiffe_id)
    with pytest.raises(Refused, match="those of a, which the file changes"):
        compare([moved, wanted(ONE)], [ONE, near])


def test_what_a_deleted_entry_had_can_be_taken() -> None:
    difference = compare([replace(ONE, id=TWO.id)], [ONE, TWO], prune=lambda _: True)
    assert difference.delete == (ONE,)
    assert difference.update == ((TWO, replace(TWO, spiffe_id=ONE.spiffe_id)),)
