"""cognomen/rulebook/places: the lines of keys, in whatever way TOML lets one write them."""

import tomllib
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from cognomen.rulebook.places import Path, line_of, lines

_LITERAL, _BASIC = "'" * 3, '"' * 3
DOCUMENT = (
    "# [not.a.table]\n"
    'top = "x = 1"\n'
    "[agent.concierge]  # comment ]\n"
    f'owner = {_BASIC}a\nkey = "no key"\n[no.table]\n{_BASIC}\n'
    "purpose = 'it\\'\n"
    'labels = { tier = "2", "a.b" = [1, 2] }\n'
    """[agent."travel desk".component.'or"ch'] # x\n"""
    'selectors = [\n  "unix:uid:1", # a ] in a comment\n'
    "  'unix:path:/a]b',\n]\n"
    "when = 2027-03-31\n"
    'a.b."c.d" = 1.5\n'
    f"literal = {_LITERAL}two\nlines'{_LITERAL}\n"
    f'quoted = {_BASIC}ends with two quotes""{_BASIC}\n'
    "after = 1\n"
    '[[case]]\nname = "one"\n'
    '[[case]]\nname = "two"\n'
    "[case.inner]\ndeep = true\n"
    "[[case.list]]\nx = 1\n"
    '[[case]]\nname = "three"\n'
)
EXPECTED: dict[Path, int] = {
    ("top",): 2,
    ("agent",): 3,
    ("agent", "concierge"): 3,
    ("agent", "concierge", "owner"): 4,
    ("agent", "concierge", "purpose"): 8,
    ("agent", "concierge", "labels"): 9,
    ("agent", "travel desk"): 10,
    ("agent", "travel desk", "component"): 10,
    ("agent", "travel desk", "component", 'or"ch'): 10,
    ("agent", "travel desk", "component", 'or"ch', "selectors"): 11,
    ("agent", "travel desk", "component", 'or"ch', "when"): 15,
    ("agent", "travel desk", "component", 'or"ch', "a", "b", "c.d"): 16,
    ("agent", "travel desk", "component", 'or"ch', "literal"): 17,
    ("agent", "travel desk", "component", 'or"ch', "quoted"): 19,
    ("agent", "travel desk", "component", 'or"ch', "after"): 20,
    ("case",): 21,
    ("case", 0): 21,
    ("case", 0, "name"): 22,
    ("case", 1): 23,
    ("case", 1, "name"): 24,
    ("case", 1, "inner"): 25,
    ("case", 1, "inner", "deep"): 26,
    ("case", 1, "list"): 27,
    ("case", 1, "list", 0): 27,
    ("case", 1, "list", 0, "x"): 28,
    ("case", 2): 29,
    ("case", 2, "name"): 30,
}


def test_the_document_is_valid() -> None:
    assert len(tomllib.loads(DOCUMENT)["case"]) == 3


def test_each_table_and_key_has_its_line() -> None:
    assert lines(DOCUMENT) == EXPECTED


def test_with_the_line_ends_of_other_systems_too() -> None:
    assert lines(DOCUMENT.replace("\n", "\r\n")) == EXPECTED


def test_what_has_no_line_of_its_own_has_that_of_what_is_around_it() -> None:
    known = lines(DOCUMENT)
    assert line_of(("agent", "concierge", "labels", "a.b", 1), known) == 9
    assert line_of(("agent", "nobody"), known) == 3
    assert line_of(("nobody",), known) == 1
    assert line_of((), known) == 1


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=6)
VALUES = st.sampled_from(["1", '"[a]\\n\\""', "'''\n[x]\ny = 1\n'''", "[[1], [\n2]]", "{ a = { b = 1 } }", "true # ["])


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=3), max_size=4))
def test_whatever_the_names_and_values_are(document: dict[str, dict[str, str]]) -> None:
    text, expected = "", dict[Path, int]()

    def quoted(name: str) -> str:
        return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'

    for table, keys in document.items():
        expected[(table,)] = text.count("\n") + 1
        text += f"[{quoted(table)}]\n"
        for key, value in keys.items():
            expected[table, key] = text.count("\n") + 1
            text += f"{quoted(key)} = {value}\n"
    assert set(tomllib.loads(text)) == set(document)
    assert lines(text) == expected


def test_long_keys_and_long_texts_cost_no_memory() -> None:
    header = ".".join("a" for _ in range(20_000))
    text = f'[{header}]\nx = "{"y" * 1_000_000}"\nz = """{"y" * 1_000_000}"""\nlast = 1\n'
    tracemalloc.start()
    try:
        found = lines(text)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
    assert max(found.values()) == 4
