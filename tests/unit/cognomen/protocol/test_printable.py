import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognomen.protocol.printable import is_visible, printable


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


@pytest.mark.parametrize(
    "text", ["", " ", "\u3164", "\u115f\u1160", "\uffa0", "\u2800", "\u034f\ufe0f", "\n\u200b", " \u3164 "]
)
def test_a_text_of_spaces_fillers_and_marks_shows_nothing(text: str) -> None:
    assert not is_visible(text)


@pytest.mark.parametrize("text", ["a", " a", "-", "é", "e\u0301", "경", "\u3164x", "❤\ufe0f"])
def test_one_character_that_is_drawn_is_enough(text: str) -> None:
    assert is_visible(text)
