"""docs/how-to/limit-issuance.md, typed as it stands; a line … stands for lines that other pages have."""

import re
import shlex
import textwrap
from pathlib import Path

import pytest

from cognomen.cli.main import run
from issuer.decisions.limits import Limit
from tests.doubles.project import ROOT
from tests.flow.commandline import issuer_at, socket_at

_PAGE = (ROOT / "docs" / "how-to" / "limit-issuance.md").read_text()
_BLOCK = re.compile(r"^   ```(\w+)\n(.*?)^   ```", re.DOTALL | re.MULTILINE)
_COMMANDS = 3


def test_the_page_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", str(socket_at(tmp_path / "i")))
    file = tmp_path / "rules" / "concierge.toml"
    for directory in (file.parent, tmp_path / "i"):
        directory.mkdir()
    typed = 0
    with issuer_at(tmp_path / "i"):
        for kind, indented in _BLOCK.findall(_PAGE):
            text = textwrap.dedent(indented)
            if kind == "toml":
                file.write_text(text)
                continue
            command, _, expected = text.removeprefix("$ ").partition("\n")
            if typed == _COMMANDS - 1:
                written = file.read_text()
                assert 'add `limits_mode = "enforce"`' in _PAGE
                file.write_text(written.replace("limits  =", 'limits_mode = "enforce"\nlimits  ='))
            run(shlex.split(command)[1:])
            begins_anywhere, _, end = expected.rpartition("…\n")
            assert not begins_anywhere
            assert capsys.readouterr().out[-len(end) :] == end
            typed += 1
        run(["agent", "show", "concierge"])
        assert capsys.readouterr().out.partition("limits:")[2].count("enforce") == 3
    assert typed == _COMMANDS


def test_the_page_has_each_limit() -> None:
    assert re.findall(r"^   \| `(\w+)` \|", _PAGE, re.MULTILINE) == list(Limit)
