"""The check of commit messages that `make hooks` installs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.project import ROOT

FINE = "issuer/decisions: refuse a leaf with two URI SANs\n\nThe standard allows one. A verifier may take either.\n\nRefs #4\n"


def check(message: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    (folder / "message").write_text(message)
    return run(folder)


def run(folder: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    hook = [sys.executable, str(ROOT / ".githooks" / "commit-msg"), str(folder / "message")]
    environment = {**os.environ, **variables}
    return subprocess.run(hook, capture_output=True, text=True, check=False, timeout=30, env=environment)


@pytest.mark.parametrize(
    "message",
    [
        FINE,
        "Merge branch 'other'\n",
        "tests, docs: say what is left\n\nIt was not said.\n# a comment of git's\n",
        "cognomen/{gate,daemon}: two rooms\n\nEach has one subject.\n",
    ],
)
def test_a_message_that_says_what_and_why_is_taken(message: str, tmp_path: Path) -> None:
    done = check(message, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_message_that_is_not_in_utf_8_is_refused_and_told_where(tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(FINE.replace("standard", "r\u00e9sum\u00e9").encode("latin-1"))
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (1, "commit message: line 3: expected UTF-8, found the byte 0xe9\n")


def test_a_message_in_utf_8_is_read_as_such_in_any_locale(tmp_path: Path) -> None:
    (tmp_path / "message").write_bytes(FINE.replace("refuse a", "\u00e9" * 30).encode())
    done = run(tmp_path, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (FINE.replace("refuse", "refuse " + "x" * 40), "subject: expected at most 72 characters, found 90"),
        (FINE.replace("issuer/decisions: r", "R"), "subject: expected `place: what it does`"),
        (FINE.replace("SANs\n", "SANs.\n"), "without a full stop"),
        (FINE.replace("\n\nThe", "\nThe"), "second line: expected an empty one"),
        (FINE.replace("The standard allows one. A verifier may take either.", ""), "body: expected a sentence"),
        ("# only a comment\n", "subject: expected"),
    ],
)
def test_one_that_does_not_is_refused_and_told_why(message: str, fault: str, tmp_path: Path) -> None:
    done = check(message, tmp_path)
    assert done.returncode == 1
    assert fault in done.stderr
