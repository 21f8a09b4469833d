from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from cognomen.cli.layout import Layout

HEADERS = ("id", "path", "selectors")
SHORT = [["3f2a91bc"], ["/web"], ["unix:uid:1001"]]
LONG = [["9b1c22d0"], ["/agent/concierge/reasoning"], ["unix:path:/opt/agents/concierge,", "unix:uid:1001"]]

words = st.lists(st.text(alphabet="abc/:", min_size=1, max_size=30), min_size=1, max_size=4)
tables = st.lists(st.tuples(words, words, words), max_size=5)


def laid(rows: Sequence[Sequence[Sequence[str]]], width: int | None) -> list[str]:
    layout = Layout(HEADERS, rows, width)
    return [line for row in ([[name] for name in HEADERS], *rows) for line in layout.lines(row)]


def test_a_table_that_fits_has_a_line_for_each_row() -> None:
    for width in (80, None):
        assert laid([SHORT, SHORT], width) == [
            "id        path  selectors",
            "3f2a91bc  /web  unix:uid:1001",
            "3f2a91bc  /web  unix:uid:1001",
        ]


def test_a_cell_is_broken_between_its_words() -> None:
    assert laid([SHORT, LONG], 80) == [
        "id        path                        selectors",
        "3f2a91bc  /web                        unix:uid:1001",
        "9b1c22d0  /agent/concierge/reasoning  unix:path:/opt/agents/concierge,",
        "                                      unix:uid:1001",
    ]


def test_a_word_that_is_too_wide_has_a_line_to_itself() -> None:
    assert laid([SHORT, LONG], 50) == [
        "id        path                        selectors",
        "3f2a91bc  /web",
        "                                     unix:uid:1001",
        "9b1c22d0  /agent/concierge/reasoning",
        "    unix:path:/opt/agents/concierge, unix:uid:1001",
    ]


RECORD = ("number", "at", "actor", "action", "subject", "refused")


def record(*rows: str) -> list[str]:
    """A record of 80 columns; two spaces are between cells."""
    cells = [[_moment(cell) for cell in row.split("  ")] for row in rows]
    layout = Layout(RECORD, cells, 80)
    return [line for row in cells for line in layout.lines(row)]


def _moment(cell: str) -> list[str]:
    return [cell] if cell.endswith(" ago") else cell.split(" ")


def test_an_action_stays_together_while_texts_and_paths_can_give_way() -> None:
    assert record(
        "1021  13m ago  fff9472e  entry created  /agent/concierge/reasoning  -",
        "1022  13m ago  fff9472e  node svid first used  fff9472e  -",
        "1023  13m ago  fff9472e  x509 issued  /agent/concierge/connector-of-bookings  -",
    ) == [
        "1021    13m ago  fff9472e  entry created   /agent/concierge/reasoning    -",
        "1022    13m ago  fff9472e  node svid       fff9472e                      -",
        "                           first used",
        "1023    13m ago  fff9472e  x509 issued",
        "                                 /agent/concierge/connector-of-bookings  -",
    ]


def test_a_text_that_does_not_fit_beside_the_rest_has_the_lines_below() -> None:
    id_of_nothing = "5f0c0f3a6c1d4e5b8a7f9e2d1c0b3a49"
    assert record(
        f"1024  13m ago  uid:1000  entry deleted  -  entries[0]: no entry has the id '{id_of_nothing}'",
        "1025  13m ago  uid:1000  entry created  /agent/concierge/reasoning  owner: too long",
    ) == [
        "1024    13m ago  uid:1000  entry deleted  -",
        f"              entries[0]: no entry has the id '{id_of_nothing}'",
        "1025    13m ago  uid:1000  entry created  /agent/concierge/reasoning",
        "                                                                 owner: too long",
    ]


def test_a_comment_gives_way_before_what_was_done() -> None:
    headers = ("revision", "at", "actor", "action", "comment", "changes")
    comment = f"{'3f2a91bc' * 5}: the owners of the travel desk changed"
    row = [["2"], ["13m ago"], ["uid:1000"], ["entry", "updated"], comment.split(" "), ["owner:", "ann", "→", "bob"]]
    assert list(Layout(headers, [row], 80).lines(row)) == [
        "2         13m ago  uid:1000  entry updated",
        f"    {comment}".removesuffix(" changed"),
        "    changed                                                     owner: ann → bob",
    ]


def test_columns_go_on_below_a_word_that_is_too_wide_for_its_own() -> None:
    assert laid([[["3f2a91bc"], ["/" + "p" * 25], ["yes"]]], 40) == [
        "id        path                 selectors",
        "3f2a91bc  /ppppppppppppppppppppppppp",
        "                               yes",
    ]


def test_in_a_pipe_a_very_long_cell_pushes_its_own_row_only() -> None:
    long = [["3f2a91bc"], ["/" + "x" * 252], ["unix:uid:1001"]]
    assert laid([SHORT, long], None) == [
        "id        path  selectors",
        "3f2a91bc  /web  unix:uid:1001",
        f"3f2a91bc  /{'x' * 252}  unix:uid:1001",
    ]


def test_a_pipe_has_no_width() -> None:
    (_, line) = laid([[["x"], ["word"] * 100, ["y"]]], None)
    assert line == f"x   {' '.join(['word'] * 100)}  y"


def test_wide_characters_take_two_columns() -> None:
    lines = laid([[["東京"], ["a"], ["b"]], [["abcd"], ["a"], ["b"]]], 80)
    assert lines[1:] == ["東京  a     b", "abcd  a     b"]


@given(tables, st.integers(20, 100))
def test_no_word_is_ever_cut_and_no_line_is_too_wide_unless_a_word_is(
    rows: list[tuple[list[str], list[str], list[str]]], width: int
) -> None:
    lines = laid(rows, width)
    shown = sorted(word for line in lines for word in line.split())
    assert shown == sorted([*HEADERS, *(word for row in rows for cell in row for word in cell)])
    widest = max([width, *(len(word) for row in rows for cell in row for word in cell)])
    assert all(len(line.rstrip()) <= max(widest, 8 + 2 + 8 + 2 + 9) for line in lines)
