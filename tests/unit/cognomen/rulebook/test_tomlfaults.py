"""cognomen/rulebook/tomlfaults: what is no TOML is told in plain words."""

import tomllib

import pytest

from cognomen.rulebook.tomlfaults import not_toml


@pytest.mark.parametrize(
    ("text", "line", "problem", "mend"),
    [
        ("[agent.a]\nx = 1\n[agent.a]\n", 3, "the table agent.a is there twice", "write all its keys below one of the two"),
        ("[[case]]\n[case]\n", 2, "the table case is there twice", "write all its keys below one of the two"),
        ("a = 1\na = 2", 2, "the key a is there twice", "keep one of them"),
        ("[x]\nb = 1\nc = 3\nb = [\n  2,\n]\n", 4, "the key b is there twice", "keep one of them"),
        ("a.b = 1\n[a.b]\n", 2, "the key a.b is there twice", "keep one of them"),
        ("x = { c = 1, c = 2 }", 1, "the key c is there twice", "keep one of them"),
        ("x = []\n[[x]]\n", 2, "the key x is there twice", "keep one of them"),
        ("\ufeffa = 1", 1, "expected TOML, found a byte order mark before it", "save the file as UTF-8 without BOM"),
        ("a = 1\nkind = connector\n", 2, "expected a value, found 'connector'", 'a text has quotation marks: "connector"'),
        ("x = [unix:uid:1]", 1, "expected a value, found 'unix:uid:1'", 'a text has quotation marks: "unix:uid:1"'),
        ("x = \ny = 1\n", 1, "expected a value, found nothing", ""),
        ("x = # why", 1, "expected a value, found '# why'", ""),
        ("= 1", 1, "expected KEY = VALUE or [TABLE], found '= 1'", ""),
        ("x = 'a' b", 1, "expected the end of the line after a value, found 'b'", ""),
        ('x = "abc\n', 1, "a text has no quotation mark at its end", ""),
        ("x = [1, 2", 1, "expected TOML: unclosed array", ""),
        (' {"a": 1}', 1, "expected TOML, found JSON", "rules are TOML, and a plan is what plan --save wrote"),
        ('{"cognomen_plan": 1}', 1, "expected TOML, found JSON", "it is a saved plan, which cognomen apply takes"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line_and_its_mend(text: str, line: int, problem: str, mend: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as error:
        tomllib.loads(text)
    assert not_toml(text, error.value) == (line, problem, mend)


@pytest.mark.parametrize("text", ["[\x00", "x = \x1b[2J", "[a]\n['a']\n", "'a\\'.b = 1\n'a\\'.b = 2\n", "[\n", "]"])
def test_nothing_that_cannot_be_read_stops_us_or_controls_the_terminal(text: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as error:
        tomllib.loads(text)
    assert not_toml(text, error.value).problem.isprintable()
