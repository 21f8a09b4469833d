"""The demo's scan for stored secrets: it finds one in each place where one can be, and never shows it."""

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.rig.child import Child
from cognomen.demo.scan import Finding, Process, Scan
from cognomen.demo.tally import Tally

DIGITS = hashlib.sha256(b"as random as a key").hexdigest()
PLANTED = f"sk-ant-api03-{DIGITS}"
PEM = f"-----BEGIN PRIVATE KEY-----\n{'A' * 64}\n-----END PRIVATE KEY-----\n"
KIND = "an Anthropic key or token (sk-ant-…)"
OWNERS = {"state": "the issuer"}
BARE: Mapping[str, str] = {"PATH": os.environ["PATH"]}
WAIT = "import sys; print(flush=True); sys.stdin.read()"


def of_files(directory: Path) -> Scan:
    scan = Scan()
    scan.read_files(directory, OWNERS)
    return scan


def of_process(*arguments: str, **environment: str) -> Scan:
    """Of a program that waits, with these arguments and this environment."""
    given = {**BARE, **environment}
    scan = Scan()
    with Child([sys.executable, "-c", WAIT, *arguments], env=given, stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        scan.read_process(Process(who="reasoning", pid=child.pid, given=given))
    return scan


def test_a_secret_in_a_file_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "reasoning").mkdir()
    (tmp_path / "reasoning" / "notes").write_text(f"the key is {PLANTED}")
    (tmp_path / "log").write_text("nothing")
    scan = of_files(tmp_path)
    assert scan.findings == {Finding(where="reasoning/notes", what=KIND)}
    assert scan.files == 2


def test_a_secret_in_an_environment_is_named_with_its_variable() -> None:
    scan = of_process(MY_VARIABLE=PLANTED)
    assert scan.findings == {Finding(where="environment of reasoning: MY_VARIABLE", what=KIND)}


def test_a_secret_in_an_argument_is_named_with_its_process() -> None:
    scan = of_process(f"--key={PLANTED}")
    assert scan.findings == {Finding(where="arguments of reasoning", what=KIND)}


def test_a_process_that_another_started_is_read_as_well() -> None:
    start = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {WAIT!r}, {PLANTED!r}])"
    scan = Scan()
    with Child([sys.executable, "-c", f"exec({start!r})"], env=BARE, stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        scan.read_process(Process(who="reasoning", pid=child.pid, given=BARE))
        assert child.stdin is not None
        child.stdin.close()
        child.wait(30)
    assert len(scan.processes) == 2
    assert any("(process " in finding.where for finding in scan.findings)


def test_nothing_that_is_said_holds_a_secret(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(f'{PLANTED}\n{PEM}\nAPI_TOKEN="{DIGITS[:32]}"')
    scan = of_files(tmp_path)
    other = of_process(PLANTED, f"--password={PLANTED}", OTHER=PLANTED, PASSWORD="hunter2")  # noqa: S106 - to be found
    scan.findings |= other.findings
    scan.processes |= other.processes
    said = "\n".join(Tally(scan=scan).scanned())
    assert said.count("STATIC SECRET") == 7
    assert said.endswith(" 7 found.")
    assert PLANTED[13:] not in said + repr(scan)
    assert "hunter2" not in said + repr(scan)
    assert "A" * 8 not in said + repr(scan)


def test_a_private_key_of_its_owner_is_counted_for_that_owner_if_it_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    for name, mode in (("closed", 0o600), ("open", 0o640)):
        path = tmp_path / "state" / name
        path.write_text(PEM)
        path.chmod(mode)
    scan = of_files(tmp_path)
    assert scan.owned == {"the issuer": 1}
    assert scan.findings == {Finding(where="state/open", what="a private key (PEM)")}


def test_a_private_key_of_nobody_and_an_api_key_of_an_owner_are_findings(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    for path, text in ((tmp_path / "key", PEM), (tmp_path / "state" / "key", PEM + PLANTED)):
        path.touch(mode=0o600)
        path.write_text(text)
    scan = of_files(tmp_path)
    assert {finding.where for finding in scan.findings} == {"key", "state/key"}
    assert scan.owned == {"the issuer": 1}


def test_links_sockets_and_what_is_outside_are_not_read(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "outside").write_text(PLANTED)
    (inside / "link").symlink_to(tmp_path / "outside")
    (inside / "folder").symlink_to(tmp_path)
    os.mkfifo(inside / "pipe")
    assert of_files(inside) == Scan()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_said_and_is_not_clean(tmp_path: Path) -> None:
    (tmp_path / "closed").touch(mode=0)
    (tmp_path / "folder").mkdir(mode=0)
    scan = of_files(tmp_path)
    scan.files, scan.processes = 1, {1}
    assert not scan.is_clean
    assert {"NOT READ: closed.", "NOT READ: folder."} <= set(Tally(scan=scan).scanned())


def test_the_same_text_in_two_files_is_two_findings(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(PLANTED)
    assert {finding.where for finding in of_files(tmp_path).findings} == {"a", "b"}


def test_an_environment_that_only_root_may_read_is_scanned_as_it_was_given() -> None:
    private = "from cognomen.process.privatememory import keep_memory_private as keep; keep(); " + WAIT
    given = {**BARE, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MY_TOKEN": "q"}
    scan = Scan()
    with Child([sys.executable, "-c", private], env=given, stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        scan.read_process(Process(who="daemons", pid=child.pid, given=given))
    assert [finding.where for finding in scan.findings] == ["environment of daemons: MY_TOKEN"]
    assert scan.private == ({"daemons"} if os.geteuid() else set())


def test_a_process_that_has_ended_is_left_out() -> None:
    with Child([sys.executable, "-c", ""]) as child:
        child.wait(30)
        ended = child.pid
    scan = Scan()
    scan.read_process(Process(who="x", pid=ended, given={"MY_TOKEN": "q"}))
    assert scan == Scan()


@pytest.mark.parametrize(("files", "processes"), [(0, {1}), (1, set())])
def test_a_scan_that_read_nothing_is_not_clean(files: int, processes: set[int]) -> None:
    assert Scan(files=1, processes={1}).is_clean
    assert not Scan(files=files, processes=processes).is_clean


def test_a_finding_is_missing_success() -> None:
    found = Scan(files=1, processes={1}, findings={Finding(where="log", what=KIND)})
    for scan, verdict in ((found, "MISSING"), (Scan(files=1, processes={1}), "ok")):
        (line,) = (line for line in Tally(scan=scan).verdicts() if "no static secret" in line)
        assert line.split()[0] == verdict
