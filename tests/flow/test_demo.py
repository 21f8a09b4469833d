"""`make demo ARGS=--once`, as a user runs it."""

import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sysconfig import get_path

import pytest

from bench.rig.child import Child, read_all
from tests.doubles.project import ROOT

pytestmark = pytest.mark.timeout(
    180
)  # each run starts five interpreters, and one waits for three rotations of SVIDs of 20 s
LONG_SECONDS = 30
DEMO = (sys.executable, "-m", "cognomen.demo")


def test_the_demo_shows_rotations_under_traffic_an_entry_pushed_a_refusal_and_a_revocation() -> None:
    key = "sk-ant-api03-of-mine"
    environment = {**os.environ, "ANTHROPIC_API_KEY": key}
    done = subprocess.run([*DEMO, "--once"], env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MISSING" not in done.stdout
    assert "REFUSED spiffe://example.org/agent/concierge/reasoning" in done.stdout
    assert " answered, 0 failed" in done.stdout
    assert re.search(r"operator +cognomen plan rules: 3 entries would change", done.stdout)
    assert re.search(r"operator +cognomen apply plan.json: revision 1 is in force now", done.stdout)
    assert re.search(r"held it [0-9]+ ms after the rules were applied", done.stdout)
    for end in ("next handshake refused", "open connection closed", "JWT-SVID refused"):
        assert re.search(rf"ok +connector revoked: {end} after [0-9]+ ms", done.stdout)
        assert re.search(rf"ok +connector suspended: {end} after [0-9]+ ms", done.stdout)
    assert re.search(r"operator +cognomen agent suspend concierge/connector", done.stdout)
    assert re.search(r"ok +connector resumed: orchestrator called it again after [0-9]+ ms", done.stdout)
    assert "missed no call" in done.stdout
    assert "the connector was replaced: orchestrator called the new one" in done.stdout
    assert re.search(r"ok +authority tainted during calls: every SVID replaced after [0-9]+ ms", done.stdout)
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    assert "only convention separates" in done.stdout
    said = " ".join(done.stdout.split())
    assert re.search(r"model +traded a JWT-SVID of spiffe://example.org/agent/concierge/reasoning for an access", said)
    assert re.search(r"reasoning +called the model through the unchanged anthropic [0-9.]+, no key stored", said)
    assert "ok no static secret in files, environments and arguments" in said
    assert re.search(r"holds ANTHROPIC_API_KEY[^:]*: no process of the scene was given it", said)
    assert re.search(r"[0-9]+ of the issuer and the attestor", said)
    assert re.search(r"[0-9]+ files, and environment and arguments of 7 processes: 0 found\.$", said)
    assert key not in done.stdout + done.stderr


def test_without_the_sdk_it_says_what_to_install(tmp_path: Path) -> None:
    for one in {*Path(get_path("purelib")).iterdir(), *Path(get_path("platlib")).iterdir()}:
        if one.name != "anthropic":
            (tmp_path / one.name).symlink_to(one)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-S", "-m", "cognomen.demo"],
        env=environment, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == (
        "error: the demo calls a model through the package anthropic, which is not installed: pip install anthropic\n"
    )
    assert done.stdout == ""


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory below which a Unix socket's path has room."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """The demo, the two ends of its terminal, and what that showed until the agent's identities were there."""

    demo: Child[bytes]
    master: int
    slave: int
    said: bytes


@contextmanager
def in_a_terminal(short_path: Path, *before: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    termios.tcsetwinsize(slave, (24, 80))
    environment = {**os.environ, "TERM": "xterm", "TMPDIR": str(short_path), "PYTHONIOENCODING": "utf-8"}
    with Child[bytes]([*before, *DEMO], stdin=slave, stdout=slave, stderr=slave, env=environment) as demo:
        said = b""
        while b"/agent/concierge/orchestrator" not in said:
            said += os.read(master, 65_536)
        yield Terminal(demo=demo, master=master, slave=slave, said=said)


# what a shell without job control starts with & is started with SIGINT ignored
IN_THE_BACKGROUND = ("/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh")


@pytest.mark.parametrize("before", [(), IN_THE_BACKGROUND], ids=["foreground", "background"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_a_terminal_it_is_a_view_that_a_signal_ends_and_leaves_no_trace_of(
    short_path: Path, before: tuple[str, ...], number: signal.Signals
) -> None:
    with in_a_terminal(short_path, *before) as terminal:
        assert b"\x1b[?1049h" in terminal.said, "the view is on a screen of its own"
        terminal.demo.send_signal(number)
        os.close(terminal.slave)
        after = read_all(terminal.master).rpartition(b"\x1b[?1049l")[2].decode()
    assert terminal.demo.returncode == 130
    assert "calls made" in after, "a summary stays"
    assert list(short_path.iterdir()) == [], "directories are gone, and with them whoever used them"


def test_a_terminal_that_was_stopped_keeps_no_signal_from_ending_it(short_path: Path) -> None:
    with in_a_terminal(short_path) as terminal:
        termios.tcflow(terminal.slave, termios.TCOOFF)  # Ctrl-S
        terminal.demo.send_signal(signal.SIGTERM)
        assert terminal.demo.wait(LONG_SECONDS) == 130
        termios.tcflow(terminal.slave, termios.TCOON)
    os.close(terminal.slave)
    os.close(terminal.master)
    assert list(short_path.iterdir()) == []


def is_listening(pid: int, *, children: int) -> bool:
    """Whether it has a thread for each of so many children, and sleeps until one of them says something."""
    tasks = Path(f"/proc/{pid}/task")
    state = (tasks / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    return len(list(tasks.iterdir())) == 1 + children and state == "S"


def test_a_component_that_has_hardly_begun_is_ended_as_well(short_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(short_path)}
    with Child(DEMO, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        while (
            len(list(Path(f"/proc/{demo.pid}/task").iterdir())) < 4
        ):  # a thread listens to each child: the daemons, the model, a component
            assert demo.poll() is None
        demo.send_signal(signal.SIGTERM)
        said, _ = demo.communicate(timeout=LONG_SECONDS)
    assert "failed: " not in said
    assert demo.returncode == 130
    assert list(short_path.iterdir()) == []


@pytest.mark.parametrize(("output", "code"), [("> /dev/full", 1), (">&-", 1), ("| true", 141)])
def test_an_output_that_takes_nothing_ends_it_with_everybody(short_path: Path, output: str, code: int) -> None:
    script = f'set -o pipefail; "$@" {output}'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *DEMO],
        env={**os.environ, "TMPDIR": str(short_path)}, stderr=subprocess.PIPE, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert done.stderr.startswith("error: standard output: " if code == 1 else "")
    assert len(done.stderr.splitlines()) == (code == 1)
    assert list(short_path.iterdir()) == []
