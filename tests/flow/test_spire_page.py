"""docs/how-to/move-from-spire.md, typed as it stands; both streams of a command are what a terminal shows."""

import re
import shlex
import textwrap
from pathlib import Path

import pytest

from cognomen.cli.main import run
from cognomen.rulebook.given import Extra
from tests.doubles.project import ROOT

_PAGE = (ROOT / "docs" / "how-to" / "move-from-spire.md").read_text()
_BLOCK = re.compile(r"^   ```(\w+)\n(.*?)^   ```", re.DOTALL | re.MULTILINE)
_CODES = [1, 0, 0]


def test_the_page_is_right_to_the_last_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    codes = []
    for kind, indented in _BLOCK.findall(_PAGE):
        text = textwrap.dedent(indented)
        match kind:
            case "json":
                Path("spire.json").write_text(text)
            case "toml":
                Path("map.toml").write_text(text)
            case "result":
                assert Path("rules.toml").read_text() == text
            case _:
                command, _, expected = text.removeprefix("$ ").partition("\n")
                codes.append(run(shlex.split(command)[1:]))
                assert "".join(capsys.readouterr()) == expected
    assert codes == _CODES


def test_the_page_has_each_field_of_spires_that_a_rulebook_has_no_word_for() -> None:
    (row,) = re.findall(r"^\| (.*) \| left out with the whole entry", _PAGE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == set(Extra) - {Extra.DEFAULT, Extra.CALLERS}
