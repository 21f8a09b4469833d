"""`make demo ARGS=--once`, as a user runs it."""

import subprocess
import sys

import pytest


@pytest.mark.timeout(120)  # three rotations of SVIDs of 20 s
def test_the_demo_shows_three_rotations_under_traffic_an_entry_pushed_and_one_refusal() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cognomen.demo", "--once"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MISSING" not in done.stdout
    assert "REFUSED spiffe://example.org/agent/concierge/reasoning" in done.stdout
    assert " answered, 0 failed" in done.stdout
    assert "ms after its entry was made" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "only convention separates" in done.stdout
