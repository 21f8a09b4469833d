"""docs/tutorial.md, word for word but for its port: what it says is typed, what it shows is compared."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.flow.daemons import free_port

ROOT = Path(__file__).parents[2]
SECONDS = 90
BLOCK = re.compile(r"^```console( terminal)?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DRIVER = """
set -u
trap 'for job in $(jobs -p); do kill -INT -- "-$job" 2>/dev/null; done; wait' EXIT  # Ctrl-C in each terminal, and each ends
set -m
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command, and the lines that it shows; a terminal's goes on running."""

    command: str
    shown: tuple[str, ...]
    is_terminal: bool


def steps(text: str) -> Iterator[Step]:
    for terminal, block in BLOCK.findall(text):
        for typed in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = typed.splitlines()
            end = lines.index("END") + 1 if "<<'END'" in lines[0] else 1
            command = "\n".join(lines[:end])
            yield Step(command=command, shown=tuple(lines[end:]), is_terminal=bool(terminal))


def script(found: Sequence[Step]) -> str:
    """A bash script that types it all, each command's output into a file of its own."""
    typed = [DRIVER]
    for number, step in enumerate(found):
        output = f'"$OUTPUTS/{number}"'
        if step.is_terminal:
            typed.append(f"{{ {step.command}\n}} > {output} 2>&1 < /dev/null &")
            typed.append(f"until [ -s {output} ]; do sleep 0.02; done")
        else:
            typed.append(
                f"{{ {step.command}\n}} > {output} 2>&1 < /dev/null || {{ echo 'failed: {number}' >&2; exit 1; }}"
            )
    return "\n".join(typed)


def matches(shown: Sequence[str], found: str) -> bool:
    """Whether the output is what is shown; `…` stands for anything, on a line by itself for any lines."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\s*\n" for line in shown
    )
    return re.fullmatch(pattern, found) is not None


@pytest.fixture
def home() -> Iterator[Path]:
    """A home directory with a short path, because a socket's path is at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="tour-") as directory:
        yield Path(directory)


@pytest.mark.timeout(SECONDS + 10)
def test_the_tutorial_does_what_it_says(home: Path) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text().replace("9443", str(free_port()))
    found = list(steps(text))
    outputs = home / "outputs"
    outputs.mkdir()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SPIFFE_", "COGNOMEN_", "MAKE"))},
        "HOME": str(home),
        "OUTPUTS": str(outputs),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    with subprocess.Popen(
        ["bash", "-c", script(found)],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as bash:
        try:
            _, errors = bash.communicate(timeout=SECONDS)
        except BaseException:
            os.killpg(bash.pid, signal.SIGKILL)
            raise
    said = [
        (outputs / str(number)).read_text() if (outputs / str(number)).exists() else "" for number in range(len(found))
    ]
    assert bash.returncode == 0, (errors, said)
    for step, output in zip(found, said, strict=True):
        lines = output.splitlines(keepends=True)
        heard = lines[: len(step.shown)] if step.is_terminal else lines  # a terminal goes on after that, until Ctrl-C
        assert matches(step.shown, "".join(heard)), (step, output)


def test_what_is_not_as_shown_is_noticed() -> None:
    assert matches(("a…c", "…", "z"), "abc\nx\ny\nz\n")
    assert not matches(("a…c",), "abc\nd\n")
    assert not matches(("…", "z"), "y\n")
