"""The README's Python, word for word, beside `cognomen dev` with its defaults."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow.daemons import Daemon

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "README.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home directory with a short path, because a socket's path is at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="home-") as directory:
        log = Path(directory) / "log"
        with Daemon(["dev"], log=log, ready="SPIFFE_ENDPOINT_SOCKET=", environment={"HOME": directory}):
            yield Path(directory)


def run(program: str, home: Path) -> str:
    socket = home / ".local" / "state" / "cognomen" / "dev" / "run" / "api.sock"
    environment = {**os.environ, "HOME": str(home), "SPIFFE_ENDPOINT_SOCKET": f"unix://{socket}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_stock_client_s_lines_print_the_identity_twice(home: Path) -> None:
    assert run(BLOCKS[0], home).count("spiffe://example.org/dev/self") == 2


def test_two_lines_of_ours_make_a_context(home: Path) -> None:
    assert "LiveContext" in run(f"{BLOCKS[1]}\nprint(type(context).__name__)\nsource.close()\n", home)
