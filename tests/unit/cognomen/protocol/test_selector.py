from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.selector import MAX_SELECTOR_BYTES, Selector, SelectorError

printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=50)


@given(printable.filter(lambda text: ":" not in text), printable)
def test_a_selector_written_and_parsed_is_the_same(kind: str, value: str) -> None:
    selector = Selector(kind, value)
    assert Selector.parse(str(selector)) == selector


@given(st.text())
def test_any_text_is_a_selector_or_our_error(text: str) -> None:
    with suppress(SelectorError):
        assert str(Selector.parse(text)) == text


def test_the_type_ends_at_the_first_colon() -> None:
    assert Selector.parse("join_token:label:team:travel") == Selector("join_token", "label:team:travel")


@pytest.mark.parametrize("text", ["", "unix", ":", "unix:", ":uid"])
def test_a_text_without_type_or_value_is_refused(text: str) -> None:
    with pytest.raises(SelectorError, match="expected type:value"):
        Selector.parse(text)


def test_a_type_with_a_colon_is_refused() -> None:
    with pytest.raises(SelectorError, match="expected a type without a colon, found 'unix:uid'"):
        Selector("unix:uid", "1000")


@pytest.mark.parametrize("byte", range(256))
def test_a_value_holds_only_printable_characters(byte: int) -> None:
    character = chr(byte)
    if character.isprintable():
        assert Selector("unix", character).value == character
    else:
        with pytest.raises(SelectorError, match="expected printable characters"):
            Selector("unix", character)


def test_a_selector_is_bounded_in_bytes() -> None:
    room = MAX_SELECTOR_BYTES - len("unix:")
    Selector("unix", "a" * room)
    with pytest.raises(SelectorError, match="expected at most 4096 bytes, found 4097"):
        Selector("unix", "a" * (room - 1) + "é")


def test_selectors_sort_by_type_and_value() -> None:
    assert sorted([Selector("unix", "uid:2"), Selector("unix", "uid:1"), Selector("k8s", "z")]) == [
        Selector("k8s", "z"),
        Selector("unix", "uid:1"),
        Selector("unix", "uid:2"),
    ]
