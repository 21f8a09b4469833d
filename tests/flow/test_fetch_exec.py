"""`cognomen fetch --exec`: a command after each change, never twice at once, and what its failure does."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig.child import Child
from bench.rig.daemons import COGNOMEN, Dev
from cognomen.cli.main import run

ME = f"unix:uid:{os.geteuid()}"
PYTHON = os.path.realpath(sys.executable)  # the checkout may be another user's, whose programs are not run
NOTE = """
import hashlib, os, pathlib
directory = pathlib.Path(os.environ["COGNOMEN_DIRECTORY"])
lock = directory.parent / "runs-now"
lock.mkdir()                       # fails where another one runs
written = b"".join(path.read_bytes() for path in sorted(directory.glob("*.pem")))
with open(directory.parent / "runs", "a") as runs:
    runs.write(hashlib.sha256(written).hexdigest() + "\\n")
lock.rmdir()
"""


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with Dev(tmp_path_factory.mktemp("d"), "--x509-ttl=2s", "--entry", f"/a={ME}") as dev:
        yield dev


@pytest.fixture
def socket(dev: Dev, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", f"unix://{dev.socket}")


def program(tmp_path: Path, text: str) -> str:
    (tmp_path / "hook.py").write_text(text)
    return f"{PYTHON} '{tmp_path}/hook.py'"


def test_each_change_is_written_first_and_then_told_one_at_a_time(dev: Dev, tmp_path: Path) -> None:
    command = program(tmp_path, NOTE)
    arguments = [*COGNOMEN, "fetch", "x509", "--watch", "--write", str(tmp_path / "files"), "--exec", command]
    runs = tmp_path / "runs"
    with Child(
        arguments, env=dev.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as watching:
        while not runs.exists() or len(runs.read_text().splitlines()) < 3:
            assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        _, told = watching.communicate(timeout=20)
    assert (watching.returncode, told.strip()) == (130, "")
    seen = runs.read_text().splitlines()
    assert len(set(seen)) == len(seen), "each run saw another set of files"


@pytest.mark.usefixtures("socket")
@pytest.mark.parametrize("what", [["x509"], ["jwt", "--audience", "db"], ["bundles"]], ids=lambda what: what[0])
def test_the_exit_code_of_one_fetch_says_whether_the_command_was_well(
    what: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["fetch", *what, "--exec", program(tmp_path, "")]) == 0
    assert run(["fetch", *what, "--exec", program(tmp_path, "raise SystemExit(7)")]) == 1
    assert capsys.readouterr().err == f"warning: --exec {PYTHON}: expected exit code 0, found 7\n"


@pytest.mark.usefixtures("socket")
def test_a_watch_goes_on_when_the_command_fails(dev: Dev, tmp_path: Path) -> None:
    arguments = [*COGNOMEN, "fetch", "x509", "--watch", "--exec", program(tmp_path, "raise SystemExit(3)")]
    with Child(
        arguments, env=dev.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stderr is not None
        for _ in range(2):
            assert watching.stderr.readline().endswith("expected exit code 0, found 3\n")


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("", "expected a value, found an empty string"),
        (" ", "expected a command, found nothing"),
        ("'a", "no closing quotation"),
        ("/no/such/program --now", "expected a program that can be run, found '/no/such/program'"),
    ],
)
def test_a_command_that_is_none_is_wrong_usage(command: str, found: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fetch", "x509", "--exec", command]) == 2
    assert found in capsys.readouterr().err


@pytest.mark.parametrize("what", [["x509"], ["jwt", "--audience", "db"], ["bundles"]], ids=lambda what: what[0])
def test_a_watch_whose_identity_is_blocked_waits_until_that_is_lifted(what: list[str], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    note = f"import os; open({str(runs)!r}, 'a').write(os.environ['COGNOMEN_IDENTITY'] + '\\n')"
    arguments = [*COGNOMEN, "fetch", *what, "--watch", "--write", str(tmp_path / "files"), "--exec"]
    with (
        Dev(tmp_path, "--x509-ttl=4s", "--jwt-ttl=4s", "--entry", f"/a={ME}") as dev,
        Child(
            [*arguments, program(tmp_path, note)],
            env=dev.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as watching,
    ):
        admin = f"--socket={dev.state}/admin/issuer.sock"
        while not runs.exists():
            assert watching.poll() is None
        dev.command("revoke", "spiffe-id", "/a", "--wait", admin)
        assert watching.stderr is not None
        line = watching.stderr.readline()
        assert line.startswith("warning: ")
        assert line.endswith("PERMISSION_DENIED: no identity issued; waiting for it (cognomen why says more)\n")
        if what[0] != "bundles":
            while not (tmp_path / "files" / "denied").exists() or runs.read_text().splitlines()[-1] != "denied":
                assert watching.poll() is None
        before = runs.read_text()
        dev.command("revoke", "lift", "1", admin)
        while runs.read_text() == before:
            assert watching.poll() is None
        watching.send_signal(signal.SIGINT)
        _, told = watching.communicate(timeout=20)
    assert (watching.returncode, told.strip()) == (130, "")


def test_a_list_that_changed_is_written_and_tells_nothing_twice(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    note = program(tmp_path, f"open({str(runs)!r}, 'a').write('run\\n')")
    arguments = [*COGNOMEN, "fetch", "x509", "--watch", "--write", str(tmp_path / "files"), "--exec", note]
    with Dev(tmp_path, "--entry", f"/a={ME}", "--entry", "/b=unix:uid:4294967294") as dev:
        admin = f"--socket={dev.state}/admin/issuer.sock"
        listed = "svid", "list", "--spiffe-id=/b", "--live", "--output=json", admin
        while not (found := json.loads(dev.command(*listed))["credentials"]):
            pass
        with Child(
            arguments, env=dev.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as watching:
            while not runs.exists():
                assert watching.poll() is None
            before, crl = runs.read_text(), (tmp_path / "files" / "crl.pem").read_bytes()
            dev.command("revoke", "svid", found[0]["serial"], admin)
            while runs.read_text() == before:
                assert watching.poll() is None
            assert (tmp_path / "files" / "crl.pem").read_bytes() != crl
            watching.send_signal(signal.SIGINT)
            out, told = watching.communicate(timeout=20)
    assert (watching.returncode, told.strip(), out.count("spiffe://example.org/a")) == (130, "", 1)
