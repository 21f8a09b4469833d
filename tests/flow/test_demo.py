"""`make demo ARGS=--once`, as a user runs it."""

import os
import pty
import signal
import subprocess
import sys
import tempfile
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory below which a Unix socket's path has room."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


@pytest.mark.timeout(60)
def test_in_a_terminal_it_is_a_view_that_ctrl_c_ends_and_leaves_no_trace_of(short_path: Path) -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    termios.tcsetwinsize(slave, (24, 80))
    environment = {**os.environ, "TERM": "xterm", "TMPDIR": str(short_path), "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(
        [sys.executable, "-m", "cognomen.demo"], stdin=slave, stdout=slave, stderr=slave, env=environment
    ) as demo:
        os.close(slave)
        said = b""
        while b"/agent/concierge/orchestrator" not in said:
            said += os.read(master, 65_536)
        assert b"\x1b[?1049h" in said, "the view is on a screen of its own"
        demo.send_signal(signal.SIGINT)
        try:
            while chunk := os.read(master, 65_536):
                said += chunk
        except OSError:  # how Linux tells that the other end has closed
            pass
    os.close(master)
    assert demo.returncode == 130
    after = said.rpartition(b"\x1b[?1049l")[2].decode()
    assert "calls made" in after, "a summary stays"
    assert list(short_path.iterdir()) == [], "directories are gone, and with them whoever used them"
