"""docs/tutorial.md, word for word but for its port, and docs/how-to/audit.md: what they say is typed, what they show is compared."""

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

from bench.rig.daemons import free_port
from tests.doubles.project import ROOT

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


PRELUDE = """
```console terminal
$ cognomen dev
…
```
```console
$ export SPIFFE_ENDPOINT_SOCKET=unix://$HOME/.local/state/cognomen/dev/run/api.sock
$ export COGNOMEN_ADMIN_SOCKET=$HOME/.local/state/cognomen/dev/admin/issuer.sock
$ cd "$HOME"
$ PARENT=$(cognomen entry list --output json | grep -m 1 -o 'spiffe://[^"]*/cognomen/node/[^"]*')
$ NEW="cognomen entry create --parent $PARENT"
$ $NEW --spiffe-id /agent/concierge/reasoning --selector "unix:uid:$(id -u)" --owner travel-team --comment "ticket 4711"
…
$ $NEW --spiffe-id /wide --selector "unix:gid:$(id -g)" --owner platform-team --expires-at "$(date -u -d '30 minutes' +%FT%TZ)"
…
$ cognomen fetch x509 --spiffe-id /agent/concierge/reasoning
…
$ MOMENT=$(date -u -d '1 second' +%FT%TZ)
$ SERIAL=$(cognomen svid list --spiffe-id /agent/concierge/reasoning --output json | grep -m 1 -o '"serial": "[^"]*"' | cut -d '"' -f 4)
$ ENTRY=$(cognomen entry list --spiffe-id /agent/concierge/reasoning --output json | grep -m 1 -o '"id": "[^"]*"' | cut -d '"' -f 4)
$ THUMBPRINT=$(cognomen audit verify | sed -n 's/checkpoint key: //p')
$ until cognomen svid show "$SERIAL" | grep -q python; do :; done
```
"""  # what an auditor finds, and knows


@pytest.mark.timeout(SECONDS + 10)
def test_the_tutorial_does_what_it_says(home: Path) -> None:
    does_what_it_says((ROOT / "docs" / "tutorial.md").read_text().replace("9443", str(free_port())), home)


@pytest.mark.timeout(SECONDS + 10)
def test_the_page_for_auditors_does_what_it_says(home: Path) -> None:
    does_what_it_says(PRELUDE + (ROOT / "docs" / "how-to" / "audit.md").read_text(), home)


def does_what_it_says(text: str, home: Path) -> None:
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
        ["env", "--default-signal=INT,QUIT", "bash", "-c", script(found)],  # as in a terminal, wherever the tests run
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as bash:
        try:
            _, errors = bash.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:  # what was said until then says why
            os.killpg(bash.pid, signal.SIGKILL)
            _, errors = bash.communicate()
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
