"""The declared graph as a picture."""

from itertools import combinations
from xml.etree import ElementTree as ET

import pytest

from cognomen.protocol.errors import Refused
from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.svg import MOST_BOXES, as_svg
from cognomen.rulebook.whole import read_whole

SVG = "{http://www.w3.org/2000/svg}"
COMPONENT = '[agent.{0}.component.{1}]\nkind = "other"\nselectors = ["unix:uid:{2}"]\n{3}\n'


def book(text: str) -> Rulebook:
    agents = {line.split(".")[1] for line in text.splitlines() if line.startswith("[agent.")}
    heads = "".join(f'[agent.{one}]\nowner = "o"\npurpose = "p"\nnodes = "any"\n' for one in sorted(agents))
    rulebook, faults = read_whole({"rules.toml": (heads + text).encode()})
    assert not faults, faults
    return rulebook


def drawn(rulebook: Rulebook) -> ET.Element:
    return ET.fromstring("\n".join(as_svg(rulebook)))  # noqa: S314 - our own


def boxes(picture: ET.Element) -> dict[str, tuple[float, float, float]]:
    """The left and right side and the top of each box, by its label."""
    found = {}
    for group in picture.iter(f"{SVG}g"):
        box, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        assert box is not None
        assert text is not None
        left = float(box.attrib["x"])
        found[text.text or ""] = (left, left + float(box.attrib["width"]), float(box.attrib["y"]))
    return found


def test_callers_stand_left_of_whom_they_call_and_audiences_outside_on_the_right() -> None:
    picture = drawn(
        book(
            COMPONENT.format("a", "crm", 3, 'audiences = ["https://crm.example.org"]')
            + COMPONENT.format("a", "first", 1, 'may_call = ["second", "crm"]')
            + COMPONENT.format("a", "second", 2, 'may_call = ["crm"]')
        )
    )
    left = {name: place[0] for name, place in boxes(picture).items()}
    assert left["a/first"] < left["a/second"] == left["a/crm"] < left["https://crm.example.org"]
    arrows = [one for one in picture.iter(f"{SVG}path") if "marker-end" in one.attrib]
    assert len(arrows) == 4
    assert picture.findtext(f"{SVG}desc") == "1 agent, 3 components, 4 declared calls"


def test_no_label_covers_another_also_in_a_circle() -> None:
    circle = "".join(
        COMPONENT.format("a", f"c{n}", n, f'may_call = ["c{(n + 1) % 9}", "c{(n + 4) % 9}"]') for n in range(9)
    )
    alone = "".join(COMPONENT.format("b", f"a-rather-long-name-{n}", 100 + n, "") for n in range(9))
    places = boxes(drawn(book(circle + alone)))
    assert len(places) == 18
    for one, other in combinations(places.values(), 2):
        assert one[1] < other[0] or other[1] < one[0] or abs(one[2] - other[2]) > 26


def test_what_others_wrote_is_text_and_nothing_else() -> None:
    hostile = 'https://x.example.org/</text><script>alert("1")</script>&amp;'
    rulebook = book(COMPONENT.format("a", "b", 1, f"audiences = ['{hostile}']"))
    picture = drawn(rulebook)
    assert not list(picture.iter(f"{SVG}script"))
    assert hostile in [one.text for one in picture.iter(f"{SVG}title")]
    assert list(as_svg(rulebook)) == list(as_svg(rulebook))


def test_an_empty_rulebook_is_an_empty_picture() -> None:
    assert boxes(drawn(book(""))) == {}


def test_a_picture_that_nobody_could_read_is_refused() -> None:
    many = "".join(COMPONENT.format("a", f"c{n}", n, "") for n in range(MOST_BOXES + 1))
    with pytest.raises(Refused, match="expected at most 200 components") as refused:
        list(as_svg(book(many)))
    assert "--format dot" in refused.value.hint
