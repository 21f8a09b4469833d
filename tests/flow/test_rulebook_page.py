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
_OBSERVE = "## Observe before you enforce"
_BASICS, _, _REST = _PAGE.partition(_OBSERVE)
_MOMENT = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ")


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
        for kind, indented in _BLOCK.findall(_BASICS):
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


def test_the_page_is_right_about_observing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", str(socket_at(tmp_path / "i")))
    file = tmp_path / "rules" / "concierge.toml"
    for directory in (file.parent, tmp_path / "i"):
        directory.mkdir()
    rules = next(textwrap.dedent(text) for kind, text in _BLOCK.findall(_BASICS) if kind == "toml")
    rules = rules.replace('"unix:uid:1002", "unix:path', '"unix:uid:1003", "unix:path')
    file.write_text(rules)
    commands = [
        textwrap.dedent(text) for kind, text in _BLOCK.findall(_REST.partition("\n## ")[0]) if kind == "console"
    ]
    assert len(commands) == 3
    with issuer_at(tmp_path / "i"):
        assert run(["apply", "rules"]) == 0
        table = "[agent.concierge.component.crm]\n"
        file.write_text(rules.replace(table, f'{table}mode = "observe"\n'))
        capsys.readouterr()
        for text in commands:
            command, _, expected = text.removeprefix("$ ").partition("\n")
            run(shlex.split(command)[1:])
            assert _MOMENT.sub("then", capsys.readouterr().out) == _MOMENT.sub("then", expected)
