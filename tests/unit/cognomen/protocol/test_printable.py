import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.printable import printable, unmistakable


@given(st.text(alphabet=st.characters(exclude_categories=[]), max_size=600))
def test_what_comes_out_is_one_bounded_line_that_prints(text: str) -> None:
    told = printable(text)
    assert told.isprintable()
    assert len(told) <= 256 + len("… (600 characters)")
    assert printable(told, most=300) == told


def test_what_prints_and_fits_stays_as_it_is() -> None:
    assert printable("ü" * 256) == "ü" * 256


def test_what_does_not_print_is_escaped_and_what_is_too_long_is_cut_and_says_so() -> None:
    assert printable("a\nb\x1b\u202e\ud800") == r"a\nb\x1b\u202e\ud800"
    assert printable("x" * 257) == "x" * 256 + "… (257 characters)"
    assert printable("\n" * 200) == r"\n" * 128 + "… (200 characters)"


texts = st.text(alphabet=st.characters(exclude_categories=[]) | st.sampled_from(" \u0301\u3164e"), max_size=60)


@given(text=texts, marks=st.booleans())
def test_what_is_unmistakable_ends_no_cell_and_covers_no_other(text: str, *, marks: bool) -> None:
    shown = unmistakable(text, marks=marks)
    assert shown.isprintable()
    assert "  " not in shown
    assert shown == shown.strip(" ")
    assert not set(shown) & set("\u115f\u1160\u2800\u3164\uffa0")
    assert not unicodedata.category(shown[:1] or "x").startswith("M")
    assert not marks or not any(unicodedata.category(one).startswith("M") for one in shown)
    assert unmistakable(shown, marks=marks) == shown


@pytest.mark.parametrize(
    "text", ["", "/usr/bin/db", "two words", "Zoe\u0308", "ti\u1ebfng", "\u0928\u0940", "x\u0301\u0302"]
)
def test_what_can_be_taken_for_nothing_else_stays_as_it_is(text: str) -> None:
    assert unmistakable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a   b", r"a\x20\x20 b"),
        (" a ", r"\x20a\x20"),
        ("  ", r"\x20\x20"),
        ("\u3164", r"\u3164"),
        ("\u0338a", r"\u0338a"),
        ("a \u0338b", r"a \u0338b"),
        ("x\u0301\u0302\u0303\u0304y\u0301", "x\u0301\u0302\\u0303\\u0304y\u0301"),
        ("a\U0001e8d0\U0001e8d0\U0001e8d0", "a\U0001e8d0\U0001e8d0\\U0001e8d0"),
        ("a\nb\u202e", r"a\nb\u202e"),
    ],
)
def test_what_looks_like_something_else_is_escaped(text: str, shown: str) -> None:
    assert unmistakable(text) == shown


def test_a_path_shows_every_mark() -> None:
    assert unmistakable("/usr/bin/e\u0301", marks=True) == r"/usr/bin/e\u0301"
