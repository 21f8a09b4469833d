"""No test goes on for ever: not for a child that nobody ended, and not after its own failure."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.project import ROOT

WAITS = {
    "for a child after the timeout": """
def test_it():
    with subprocess.Popen(["sleep", "15"]):
        time.sleep(15)
""",
    "for a thread that holds a lock, after a failure": """
@pytest.fixture
def stuck():
    yield
    lock = threading.Lock()
    lock.acquire()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    thread.join()

def test_it(stuck):
    assert False
""",
}


@pytest.mark.parametrize("what", WAITS)
def test_a_test_that_waits_without_end_is_ended(what: str, tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(f"import signal, subprocess, threading, time, pytest\n{WAITS[what]}")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", tmp_path / "pytest.ini", test],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Timeout (0:00:02)!" in done.stderr
    assert 'test_it.py", line' in done.stderr, "it says where"
