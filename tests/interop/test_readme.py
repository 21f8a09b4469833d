"""The README's Python and its revocation, word for word, beside `cognomen dev` with its defaults."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig.daemons import Daemon
from tests.doubles.project import ROOT

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
(REVOCATION,) = (
    block for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) if "revoke spiffe-id" in block
)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home directory with a short path, because a socket's path is at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="home-") as directory:
        log = Path(directory) / "log"
        with Daemon(["dev"], log=log, ready="SPIFFE_ENDPOINT_SOCKET=", environment={"HOME": directory}):
            yield Path(directory)


def environment(home: Path) -> dict[str, str]:
    socket = home / ".local" / "state" / "cognomen" / "dev" / "run" / "api.sock"
    return {**os.environ, "HOME": str(home), "SPIFFE_ENDPOINT_SOCKET": f"unix://{socket}"}


def run(program: str, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(home), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_stock_client_s_lines_print_the_identity_twice(home: Path) -> None:
    assert run(BLOCKS[0], home).count("spiffe://example.org/dev/self") == 2


def test_two_lines_of_ours_make_a_context(home: Path) -> None:
    assert "LiveContext" in run(f"{BLOCKS[1]}\nprint(type(context).__name__)\nsource.close()\n", home)


def test_one_command_ends_an_identity_and_another_lets_it_come_back(home: Path) -> None:
    lines = [line.removeprefix("$ ") for line in REVOCATION.splitlines()]
    script = "\n".join(lines).replace(".venv/bin/cognomen", f"{sys.executable} -m cognomen")
    done = subprocess.run(
        ["bash", "-c", script], env=environment(home), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 attestors" in done.stderr
    assert "PERMISSION_DENIED" in done.stderr, "of the fetch after it"
    assert "lifted_by" in done.stdout
