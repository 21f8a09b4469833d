import json
import sys

import pytest

from cognomen.cli.output import Columns, View, json_text, print_document, print_json, print_prose, print_table, warn

Printed = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("/web\x1b[2J: 1 of 2", "/web\\x1b[2J: 1 of 2"),
        ("/web\nerror: forged", "/web\\nerror: forged"),
        ("/web\u202eten", "/web\\u202eten"),
        ("für alle", "für alle"),
    ],
)
def test_a_warning_is_one_line_that_does_not_control_the_terminal(text: str, line: str, capsys: Printed) -> None:
    warn(text)
    assert capsys.readouterr().err == f"warning: {line}\n"


def test_a_long_warning_is_whole(capsys: Printed) -> None:
    text = " ".join(["0123456789abcdef"] * 1000)
    warn(text)
    assert capsys.readouterr().err == f"warning: {text}\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_prose_fits_a_terminal_and_is_one_line_in_a_file(
    *, is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    text = " ".join(["checkpoint-key"] * 20)
    print_prose(text, indent="  ")
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(line.strip() for line in lines) == text
    assert all(line.startswith("  ") for line in lines)
    assert (max(map(len, lines)) <= 80) is is_terminal


@pytest.mark.parametrize(
    ("width", "lines"), [(20, ["name  web", "text  a b c d e f g h i j k l m"]), (80, ["name  text"])]
)
def test_a_broad_table_has_a_line_for_each_field_where_it_does_not_fit(
    width: int, lines: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    columns = Columns(table=("name", "text"), wide=("name", "text"), is_broad=True)
    print_table(columns, [{"name": "web", "text": "a b c d e f g h i j k l m"}], View(output="table"))
    assert capsys.readouterr().out.splitlines()[: len(lines)] == lines


@pytest.mark.parametrize("text", ["\x1b[2J\n", "\x7f", "\x9b31m", "\u202eten", "\U000e0041", "\ud800", "\\x7f"])
def test_a_text_in_json_controls_no_terminal_and_is_the_same_text(text: str, capsys: Printed) -> None:
    document = {text: [text, "für alle 🙂"]}
    print_json(document)
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.split("\n"))
    assert "für alle 🙂" in out
    assert json.loads(out) == json.loads(json_text(document)) == document
    assert json_text(document).isprintable()


def test_the_keys_of_a_document_control_no_terminal(capsys: Printed) -> None:
    print_document({"a\x1b[2J": "b\x9b"})
    assert capsys.readouterr().out == "a\\x1b[2J  b\\x9b\n"
