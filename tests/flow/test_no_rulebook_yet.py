"""What commands say before any rulebook was applied."""

import json
from pathlib import Path

import pytest

from cognomen.cli.main import run
from tests.flow.commandline import issuer_at, socket_at


def test_before_the_first_apply_it_is_said_how_to_apply_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", str(socket_at(tmp_path)))
    with issuer_at(tmp_path):
        for command in (["rulebook", "show"], ["agent", "show", "a"], ["agent", "owner", "a"]):
            assert run(command) == 4
            told = "error: rulebook: none was applied yet\nhint: apply one: cognomen apply RULES\n"
            assert capsys.readouterr().err == told
        assert run(["rulebook", "show", "7"]) == 4
        assert "hint: list them: cognomen rulebook history\n" in capsys.readouterr().err
        assert run(["agent", "list", "-o", "json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"agents": [], "held": []}
        assert run(["agent", "list"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1
