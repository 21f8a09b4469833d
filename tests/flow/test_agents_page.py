"""docs/how-to/review-agents.md, typed as it stands; and the file that it exports, as an auditor reads it."""

import json
import os
import re
import shlex
import textwrap
from pathlib import Path

import pytest

from cognomen.cli.main import run
from tests.doubles.project import ROOT
from tests.flow.commandline import issuer_at, socket_at

_PAGE = (ROOT / "docs" / "how-to" / "review-agents.md").read_text()
_BLOCK = re.compile(r"^   ```(\w+)\n(.*?)^   ```", re.DOTALL | re.MULTILINE)
_COMMANDS = 7
_KEY = re.compile(r"checkpoint key:? ([0-9a-f]{64})")


def without_moments(text: str) -> str:
    """The same text; a busy machine may need a second more, and then columns are wider; and anybody may run the test."""
    return re.sub(" +", " ", re.sub(r"\b[0-9]+s ago", "0s ago", re.sub(rf"uid:{os.getuid()}\b", "uid:0", text)))


def test_the_page_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COGNOMEN_ADMIN_SOCKET", str(socket_at(tmp_path / "i")))
    file = tmp_path / "rules" / "agents.toml"
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
            assert run(shlex.split(command)[1:]) == 0
            assert without_moments(capsys.readouterr().out) == without_moments(expected)
            typed += 1
        assert typed == _COMMANDS
        assert run(["status", "-o", "json"]) == 0, "an overdue review is no trouble of the issuer's"
        overdue = json.loads(capsys.readouterr().out)["overdue"]
        assert [(one["agent"], one["owner"], one["review_by"], one["suspended"]) for one in overdue] == [
            ("concierge", "travel-platform@example.org", "2026-01-31", False)
        ]
        assert run(["audit", "verify"]) == 0
        (key,) = _KEY.findall(capsys.readouterr().out)
    # Without the issuer, and with what the auditor has.
    verify = ["agent", "review", "--verify", "review.json"]
    assert run([*verify, "--key", key]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"checkpoint key: {key}\nsigned at 20")
    assert "not proved" not in shown
    assert run(verify) == 0
    assert (
        "\nnot proved:\n  that the key above is the issuer's: only --key"
        in capsys.readouterr().out.partition("signed at")[0]
    )
    assert run([*verify, "--key", "0" * 64]) == 1
    assert "review.json: expected the key 0000" in capsys.readouterr().err
    exported = tmp_path / "review.json"
    document = json.loads(exported.read_text())
    assert (document["issuer"], document["revision"]) == ("spiffe://example.org/cognomen/issuer", 1)
    exported.write_text(exported.read_text().replace("2026-01-31", "2027-01-31"))
    assert run([*verify, "--key", key]) == 1
    assert "its signature is not by the key in it" in capsys.readouterr().err
    exported.write_text("{}")
    assert run(verify) != 0
    assert "expected an object with cognomen_agent_review" in capsys.readouterr().err
