"""The pages that readers type, word for word but for ports: what they say is typed, what they show is compared."""

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
from cognomen.demo.scene import make_interpreter
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
            while lines[end - 1].endswith("\\"):
                end += 1
            command = "\n".join(lines[:end])
            yield Step(command=command, shown=tuple(lines[end:]), is_terminal=bool(terminal))


def script(found: Sequence[Step]) -> str:
    """A bash script that types it all, each command's output into a file of its own."""
    typed = [DRIVER]
    for number, step in enumerate(found):
        output = f'"$OUTPUTS/{number}"'
        if step.is_terminal:
            ended = f'"$OUTPUTS/{number}.ended"'
            typed.append(f"{{ {step.command}\ntouch {ended}\n}} > {output} 2>&1 < /dev/null &")
            is_ready = f'[ "$(wc -l < {output})" -ge {len(step.shown)} ]'  # it has said as much as is shown
            typed.append(f"until [ -e {output} ]; do sleep 0.02; done")
            typed.append(f"until {is_ready} || [ -e {ended} ]; do sleep 0.02; done")
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


BEGIN = """
```console terminal
$ cognomen dev
…
```
```console
$ export SPIFFE_ENDPOINT_SOCKET=unix://$HOME/.local/state/cognomen/dev/run/api.sock
$ export COGNOMEN_ADMIN_SOCKET=$HOME/.local/state/cognomen/dev/admin/issuer.sock
$ cd "$HOME"
```
"""
PRELUDE = """
```console
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
    does_what_it_says(BEGIN + PRELUDE + (ROOT / "docs" / "how-to" / "audit.md").read_text(), home)


@pytest.mark.timeout(SECONDS + 10)
def test_the_page_about_entries_does_what_it_says(home: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "write-an-entry.md").read_text()
    only = """$(cognomen entry list --spiffe-id /agent/concierge/reasoning --output json | grep -o '"id": "[^"]*"' | cut -d '"' -f 4)"""
    does_what_it_says(BEGIN + page.replace("update ID", f'update "{only}"'), home)


A_NODE = r"""
```console
$ mkdir -p /etc/cognomen && cd "$HOME"
$ scp() { :; }; rm() { :; }  # the node is this machine
$ leave() { { kill %2; wait %2 || true; } 2> /dev/null; }
$ systemctl() { if [ "$1" = stop ]; then leave; else cognomen attestor run --config /etc/cognomen/attestor.toml & fi; }
$ cat > /etc/cognomen/issuer.toml <<'END'
trust_domain = "example.org"
state_dir = "/state/issuer"
admin_socket = "/run/admin/issuer.sock"
TOML
END
$ cat > /etc/cognomen/attestor.toml <<'END'
state_dir = "/state/attestor"
workload_socket = "/run/cognomen/api.sock"
node_name = "web-1"
END
$ export COGNOMEN_ADMIN_SOCKET=/run/admin/issuer.sock
```
```console terminal
$ cognomen issuer run --config /etc/cognomen/issuer.toml
…
```
```console
$ until cognomen issuer healthcheck; do sleep 0.1; done
…
serving
```
"""  # both machines of the page


@pytest.mark.timeout(SECONDS + 10)
def test_the_page_about_nodes_does_what_it_says(home: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "add-a-node.md").read_text()
    (settings,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    text = A_NODE.replace("TOML\n", settings) + page
    for port in ("8443", "8444"):
        free = free_port()
        text = text.replace(f"issuer.example.org:{port}", f"localhost:{free}").replace(
            f"0.0.0.0:{port}", f"127.0.0.1:{free}"
        )
    for directory in ("/etc/", "/state/", "/run/"):
        text = text.replace(directory, f"{home}{directory}")
    does_what_it_says(text, home)


THREE = (ROOT / "docs" / "how-to" / "three-scripts-three-users.md").read_text()
OURS = re.compile(r"/?python \w+\.py$")
AS_ANOTHER = re.compile(r"setpriv --reuid (\d+) --regid \d+ --clear-groups python")
WAYS_TO_READ: tuple[list[str], ...] = (
    [],
    ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"],
)  # the second reads what is below /root


def as_its_own_user(text: str) -> str:
    """As root: each script has its own uid."""
    for way in WAYS_TO_READ if os.getuid() == 0 else ():
        another = ["setpriv", "--reuid", "2001", "--regid", "2001", "--clear-groups", *way]
        code = f"import fastapi, os, svid; assert os.__file__ == {os.__file__!r}"  # and not that of another Python
        trial = subprocess.run([*another, sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
        if trial.returncode == 0:
            return text.replace("--clear-groups python", " ".join(["--clear-groups", *way, "python"]))
    pytest.skip("needs root, and a Python that other users can read")


def as_one_user(text: str, home: Path) -> str:
    """As anybody else: each script has its own interpreter, by which the attestor tells it apart."""
    for uid in sorted(set(AS_ANOTHER.findall(text))):
        interpreter = make_interpreter(home / uid)
        text = text.replace(f"unix:uid:{uid}", f"unix:uid:{os.getuid()},unix:path:{interpreter}")
        text = text.replace(f"setpriv --reuid {uid} --regid {uid} --clear-groups python", f"{home}/{uid}/bin/python")
    return text


@pytest.mark.timeout(SECONDS + 10)
@pytest.mark.parametrize("users", ["several", "one"])
def test_three_scripts_do_what_they_say(users: str, home: Path) -> None:
    home.chmod(0o755)  # the scripts and the socket are for other users too
    text = as_its_own_user(THREE) if users == "several" else as_one_user(THREE, home)
    for port in ("9443", "9444", "9445"):
        text = text.replace(port, str(free_port()))
    does_what_it_says(text.replace("/srv/concierge", f"{home}/concierge"), home)


def test_three_scripts_are_as_short_as_they_are_said_to_be() -> None:
    scripts = re.findall(r"<<'END'\n(.*?)^END$", THREE, re.DOTALL | re.MULTILINE)
    assert len(scripts) == 4
    assert sum(bool(line.strip()) for script in scripts for line in script.splitlines()) <= 64


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
        if step.is_terminal and OURS.search(step.command):  # a program that a page shows ends at Ctrl-C without a word
            assert "Traceback" not in output, (step, output)


def test_what_is_not_as_shown_is_noticed() -> None:
    assert matches(("a…c", "…", "z"), "abc\nx\ny\nz\n")
    assert not matches(("a…c",), "abc\nd\n")
    assert not matches(("…", "z"), "y\n")
