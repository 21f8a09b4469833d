"""A short run of each fuzz target, the same each time."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.parametrize("target", ["spiffe_id", "selector", "bundle", "chain", "jwt"])
def test_whatever_the_bytes_the_outcome_is_a_value_or_our_error(target: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.values", target, "-runs=5000", "-seed=1", f"-artifact_prefix={tmp_path}/"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Done 5000 runs" in done.stderr, done.stderr
