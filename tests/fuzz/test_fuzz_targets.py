"""A short run of each fuzz target, the same each time."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize(
    ("module", "target"),
    [
        *(("values", target) for target in ("spiffe_id", "selector", "bundle", "chain", "crl", "jwt", "messages")),
        *(("daemons", target) for target in ("frames", "entry", "invite", "state", "checkpoint", "claim")),
    ],
)
def test_whatever_the_bytes_the_outcome_is_a_value_or_our_error(module: str, target: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            f"tests.fuzz.{module}",
            target,
            "-runs=5000",
            "-seed=1",
            f"-artifact_prefix={tmp_path}/",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Done 5000 runs" in done.stderr, done.stderr
