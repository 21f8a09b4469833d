"""A short run of each fuzz target, the same each time."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.project import ROOT

RUNS = 5000


@pytest.mark.parametrize(
    ("module", "target"),
    [
        *(
            ("values", target)
            for target in ("spiffe_id", "selector", "bundle", "chain", "crl", "jwt", "answers", "messages")
        ),
        *(("daemons", target) for target in ("frames", "entry", "invite", "state", "checkpoint", "claim", "use")),
        *(("foreign", target) for target in ("spire", "manifests", "table")),
    ],
)
def test_whatever_the_bytes_the_outcome_is_a_value_or_our_error(module: str, target: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            f"tests.fuzz.{module}",
            target,
            f"-runs={RUNS}",
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
    runs = re.search(r"Done ([0-9]+) runs", done.stderr)  # a few more than asked for, when it has just begun a batch
    assert runs is not None, done.stderr
    assert int(runs[1]) >= RUNS
