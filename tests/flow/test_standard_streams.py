"""Standard streams that are closed, full, or read by nobody: a sentence and an exit code, and daemons that go on."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.rig.child import Child
from bench.rig.daemons import COGNOMEN
from tests.flow.twodaemons import World

# Python, when it does not buffer, has nothing left to fail with at its end; users do not set this
BARE = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
FULL = "error: standard output: no space left on device\n"
CLOSED = "error: standard output: it is closed\n"
NOBODY = 3_000_000_000  # a uid that no passwd file knows


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A redirection of the shell, the exit code with it, and what standard error gets."""

    streams: str
    code: int
    told: str = ""


def shell(script: str, *arguments: str, environment: Mapping[str, str] = BARE) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "bash", *arguments],
        env=environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        Row(streams="> /dev/full", code=1, told=FULL),
        Row(streams=">&-", code=1, told=CLOSED),
        Row(streams="< /dev/null 1<&0", code=1, told=CLOSED),
        Row(streams="| true", code=141),
        Row(streams="<&- > /dev/null", code=0),
        Row(streams="> /dev/full 2>&1", code=1),
        Row(streams="<&- >&- 2>&-", code=1),
    ],
    ids=lambda row: row.streams,
)
@pytest.mark.parametrize("command", ["--help", "issuer check --trust-domain example.org"])
def test_what_cannot_be_printed_is_told_with_an_exit_code(row: Row, command: str) -> None:
    done = shell(f'"$@" {row.streams}', *COGNOMEN, *command.split())
    assert (done.returncode, done.stderr) == (row.code, row.told)


@pytest.mark.parametrize("streams", ["2> /dev/full", "2>&-"])
def test_an_error_that_cannot_be_told_leaves_its_exit_code(streams: str) -> None:
    done = shell(f'"$@" {streams}', *COGNOMEN, "fetch", "x509", "--socket", "/no/such")
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_letters_that_the_encoding_lacks_are_written_as_numbers() -> None:
    done = shell('"$@"', *COGNOMEN, "--help", environment={**BARE, "PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 0
    assert r"SPIFFE_ENDPOINT_SOCKET=\u2026" in done.stdout


@pytest.mark.parametrize("streams", ["> /dev/full 2>&1", "<&- >&- 2>&-", "> >(true) 2>&1"])
def test_both_daemons_serve_and_end_well_whatever_their_streams_are(streams: str, tmp_path: Path) -> None:
    world = World(tmp_path)
    with running(streams, *world.issuer_arguments) as issuer:
        wait_until_it_serves("issuer", world.admin, issuer)
        world.command("node", "invite", f"--write={tmp_path}/invite")
        with running(streams, *world.attestor_arguments, f"--invite={tmp_path}/invite") as attestor:
            wait_until_it_serves("attestor", world.workload, attestor)
            attestor.send_signal(signal.SIGTERM)
            assert attestor.wait(30) == 0
        issuer.send_signal(signal.SIGTERM)
        assert issuer.wait(30) == 0


def running(streams: str, *arguments: str) -> Child[bytes]:
    command = ["bash", "-c", f'exec "$@" {streams}', "bash", *COGNOMEN, *arguments, "--log-level=debug"]
    return Child(command, env=BARE)


def wait_until_it_serves(daemon: str, socket: Path, child: Child[bytes]) -> None:
    command = [*COGNOMEN, daemon, "healthcheck", f"--socket={socket}"]
    while subprocess.run(command, capture_output=True, timeout=30, check=False).returncode:
        assert child.poll() is None, "it has ended"


def test_no_file_gets_the_number_of_a_closed_stream() -> None:
    script = (
        "import os, sys; from cognomen.process.standardstreams import own_streams; own_streams();"
        "print(open('/etc/passwd').fileno(), sys.stdin.read() == '', file=open(os.dup(int(sys.argv[1])), 'w'))"
    )
    done = shell('exec 9>&1; exec "$@" 9 <&- >&- 2>&-', sys.executable, "-c", script)
    number, is_empty = done.stdout.split()
    assert int(number) > 2
    assert is_empty == "True"


def test_a_log_that_nobody_reads_lets_nobody_wait() -> None:
    script = (
        "from cognomen.daemon import logs; import structlog; logs.configure()\n"
        "for _ in range(100): structlog.get_logger().info('a' * 9000)\n"
        "print('on')"
    )
    with Child(
        [sys.executable, "-c", script], env=BARE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.read() == "on\n"
        assert child.wait(30) == 0


def test_a_reader_that_is_slow_gets_all_of_what_a_command_prints() -> None:
    script = "from cognomen.process.standardstreams import own_streams; own_streams(); print('a' * 1_000_000)"
    with Child([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        length = 0
        while some := child.stdout.read(1000):
            length += len(some)
        assert (child.wait(30), length) == (0, 1_000_001)


@pytest.mark.skipif(os.geteuid() != 0, reason="another uid needs root")
def test_a_uid_without_a_home_is_told_what_to_do() -> None:
    script = (
        "import os, pwd, sys, cognomen.cli.dev; from cognomen.cli.main import run;"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); os.environ.pop('HOME');"
        "sys.exit(run(['dev']))"
    )
    done = shell('"$@"', sys.executable, "-c", script)
    assert done.returncode == 1
    assert done.stderr == (
        "error: path ~/.local/state/cognomen/dev: expected a home directory, found none\n"
        "hint: set HOME, or name a path without ~\n"
    )
