"""docs/how-to/write-a-rulebook.md, typed as it stands."""

import re
import shlex
import textwrap
from pathlib import Path

import pytest

from cognomen.cli.main import run
from tests.doubles.project import ROOT
from tests.flow.commandline import issuer_at, socket_at

_PAGE = (ROOT / "docs" / "how-to" / "write-a-rulebook.md").read_text()
_BLOCK = re.compile(r"^   ```(\w+)\n(.*?)^   ```", re.DOTALL | re.MULTILINE)
_CHANGE = re.compile(r"change its line to `(.*)`\.")
_COMMANDS = 6


def test_the_page_is_right_to_the_last_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", str(socket_at(tmp_path / "i")))
    file = tmp_path / "rules" / "concierge.toml"
    for directory in (file.parent, tmp_path / "i"):
        directory.mkdir()
    (changed,) = _CHANGE.findall(_PAGE)
    typed = 0
    with issuer_at(tmp_path / "i"):
        for kind, indented in _BLOCK.findall(_PAGE):
            text = textwrap.dedent(indented)
            if kind == "toml":
                file.write_text(text)
                continue
            command, _, expected = text.removeprefix("$ ").partition("\n")
            if typed == 1:
                written = file.read_text()
                old = next(line for line in written.splitlines() if "unix:path" in line)
                file.write_text(written.replace(old, changed))
            run(shlex.split(command)[1:])
            assert capsys.readouterr().out == expected
            typed += 1
    assert typed == _COMMANDS
