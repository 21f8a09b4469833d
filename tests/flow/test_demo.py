"""`make demo ARGS=--once`, as a user runs it."""

import subprocess
import sys


def test_the_demo_shows_three_identities_two_calls_and_one_refusal() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cognomen.demo", "--once"], capture_output=True, text=True, timeout=45, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MISSING" not in done.stdout
    assert "REFUSED spiffe://example.org/agent/concierge/reasoning" in done.stdout
    assert "only convention separates" in done.stdout
