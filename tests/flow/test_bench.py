"""`python -m bench`, as a user runs it: the rows that are quick; figures are no affair of tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], capture_output=True, text=True, timeout=55, check=False
    )


def test_every_row_is_named() -> None:
    done = bench("--list")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 13


def test_rows_give_figures_beside_their_promises(tmp_path: Path) -> None:
    done = bench("--quick", "--only=push,mint", "--json", str(tmp_path / "figures"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "figures").read_text())
    assert [row["row"] for row in found["rows"]] == ["push", "mint"]
    assert all(figure["value"] > 0 for row in found["rows"] for figure in row["figures"])
    assert {row["failed"] for row in found["rows"]} == {0}


@pytest.mark.parametrize("arguments", [["--only=nothing"], ["--endpoint=tcp://127.0.0.1:1"]])
def test_what_cannot_be_measured_is_wrong_usage(arguments: list[str]) -> None:
    assert bench(*arguments).returncode == 2
