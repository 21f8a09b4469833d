"""The demo's picture: words that stay apart and whole, whatever the font; docs/demo.svg is one."""

import itertools
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from rich.text import Text

from cognomen.demo.picture import drawn
from cognomen.demo.scene import Event
from cognomen.demo.view import View, render
from tests.doubles.project import ROOT

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_SVG = "{http://www.w3.org/2000/svg}"
_CELL, _FONT_SIZE = 11, 16
_SMALL, _CAPITAL = 0.62, 0.74
"""Of the font size: how wide letters are on average in a word, where a wide font such as DejaVu Serif is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A word, and where it begins and ends."""

    text: str
    begins: float
    ends: float


def parts(svg: str, name: str) -> Iterator[ET.Element]:
    return ET.fromstring(svg).iter(f"{_SVG}{name}")  # noqa: S314 - what we have drawn ourselves


def rows(svg: str) -> list[list[Placed]]:
    """The words of the terminal, row by row, from left to right."""
    found: dict[float, list[Placed]] = {}
    for one in parts(svg, "text"):
        if "textLength" in one.attrib:  # the window's own title has none
            begins = float(one.attrib["x"])
            word = Placed(text=one.text or "", begins=begins, ends=begins + float(one.attrib["textLength"]))
            found.setdefault(float(one.attrib["y"]), []).append(word)
    return [sorted(row, key=lambda word: word.begins) for _, row in sorted(found.items())]


def said(row: list[Placed]) -> str:
    """The words of a row, with a space where there is one."""
    text = row[0].text
    for before, word in itertools.pairwise(row):
        text += (" " if word.begins > before.ends else "") + word.text
    return text


def demand_words_apart(svg: str) -> None:
    for row in rows(svg):
        for word in row:
            assert word.text == word.text.strip()
            assert not set(" \N{NO-BREAK SPACE}") & set(word.text), "a word is one word, whatever a space is worth"
            assert word.ends - word.begins == pytest.approx(len(word.text) * _CELL)
        for before, word in itertools.pairwise(row):
            gap = word.begins - before.ends
            assert gap == pytest.approx(0) or gap >= _CELL, (before, word)
            if gap > 0:
                letter = (_CAPITAL if before.text.isupper() else _SMALL) * _FONT_SIZE
                assert before.begins + len(before.text) * letter < word.begins - 2, (before, word)


def test_words_of_different_styles_stay_apart() -> None:
    text = Text.assemble(
        ("Cognomen", "bold"), "  the agent  ", ("orchestrator", "cyan"), "  rotated: 1", (", 2", "red")
    )
    svg = drawn(text, columns=80, rows=5, title="make demo")
    demand_words_apart(svg)
    ((*row,),) = rows(svg)
    assert said(row) == "Cognomen the agent orchestrator rotated: 1, 2"


def test_the_bars_are_no_letters() -> None:
    svg = drawn(Text("left ████░░ 12 s"), columns=40, rows=2, title="<&>")
    assert [word.text for row in rows(svg) for word in row] == ["left", "12", "s"]
    widths = [float(one.attrib["width"]) for one in parts(svg, "rect")][1:]
    assert widths == [4 * _CELL, 2 * _CELL]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120])
def test_what_does_not_fit_ends_with_a_whole_word_and_a_sign(width: int) -> None:
    view, text = View(), "called spiffe://example.org/agent/concierge/connector over mTLS with a JWT-SVID: sources"
    view.note(Event(who="orchestrator", at=1.0, name="counted", facts={}), NOW)
    view.tell(1.0, "orchestrator", text)
    svg = drawn(render(view, width=width, height=24, now=NOW + timedelta(seconds=1)), columns=width, rows=24, title="x")
    demand_words_apart(svg)
    *_, row = rows(svg)
    whole = set(text.split()) | {"/agent/concierge/connector", "1.0", "s", "orchestrator", "…"}
    assert {word.text for word in row} <= whole
    assert (row[-1].text == "sources") == (width >= 100)
    assert row[-1].text in {"…", "sources"}


def test_the_picture_of_the_readme_has_its_words_apart_and_whole() -> None:
    svg = (ROOT / "docs" / "demo.svg").read_text()
    demand_words_apart(svg)
    lines = [said(row) for row in rows(svg)]
    assert lines[0].startswith("Cognomen the agent concierge: ")
    assert any(" orchestrator rotated: " in line for line in lines)
    paths = {word.strip(",:;") for line in lines for word in line.split() if "/" in word}
    names = ("orchestrator", "reasoning", "connector", "archivist")
    assert paths <= {f"{agent}/{name}" for agent in ("/agent/concierge", "concierge") for name in names}
