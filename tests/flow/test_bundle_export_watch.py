"""`cognomen bundle export --watch` as a daemon: what it outlives, how it ends, and what is done again after it was killed."""

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.rig.child import Child
from bench.rig.daemons import COGNOMEN, Daemon
from tests.flow.commandline import Command, issuer_at, socket_at
from tests.flow.test_full_disk import fill

_ISSUER = "--jwt-issuer=https://oidc.example.org"


@pytest.fixture
def admin_socket(tmp_path: Path) -> Path:
    (tmp_path / "i").mkdir()
    return socket_at(tmp_path / "i")


@pytest.fixture
def issuer(admin_socket: Path, tmp_path: Path) -> Iterator[Daemon]:
    del admin_socket  # whose directory it is in
    with issuer_at(tmp_path / "i", "--authority-spread=1s", _ISSUER) as daemon:
        yield daemon


@contextmanager
def watching(admin_socket: Path, *options: str) -> "Iterator[Child[str]]":
    arguments = [*COGNOMEN, "bundle", "export", "--name=openai", "--watch", f"--socket={admin_socket}", *options]
    with Child(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as child:
        yield child


def line_of(child: "Child[str]") -> str:
    assert child.stderr is not None
    return child.stderr.readline()


def hook(tmp_path: Path, text: str) -> str:
    (tmp_path / "hook").write_text(text)
    return f"--exec=/bin/sh {shlex.quote(str(tmp_path / 'hook'))}"


def export(command: Command) -> dict[str, object]:
    (found,) = command("bundle", "exports", "-o", "json").rows("exports")
    return found


def prepare(command: Command) -> str:
    """One more authority in the bundle."""
    before = {str(row["key_id"]) for row in command("authority", "list", "-o", "json").rows("authorities")}
    rows = command("authority", "prepare", "jwt", "-o", "json").rows("authorities")
    (fresh,) = {str(row["key_id"]) for row in rows} - before
    return fresh


def is_running(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ended(child: "Child[str]") -> tuple[int, str]:
    child.terminate()
    _, told = child.communicate(timeout=60)
    return child.returncode, told


@pytest.mark.usefixtures("issuer")
def test_each_change_is_exported_without_anybody_doing_anything(
    admin_socket: Path, command: Command, tmp_path: Path
) -> None:
    file, runs = tmp_path / "jwks.json", tmp_path / "runs"
    with watching(admin_socket, f"--write={file}", hook(tmp_path, f"echo run >> {runs}")) as child:
        assert line_of(child).startswith("openai: exported 2 authorities: jwt-")
        fresh = prepare(command)
        assert fresh in line_of(child)
        assert (export(command)["missing"], fresh in file.read_text()) == ([], True)
        assert runs.read_text() == "run\nrun\n"
        file.unlink()
        while not file.exists():
            assert child.poll() is None
        assert ended(child) == (128 + signal.SIGTERM, "")
    assert runs.read_text() == "run\nrun\n"


def test_it_waits_for_an_issuer_that_starts_later_and_outlives_its_restart(
    admin_socket: Path, command: Command, tmp_path: Path
) -> None:
    issuer = issuer_at(tmp_path / "i", _ISSUER)
    with watching(admin_socket, f"--write={tmp_path / 'jwks.json'}") as child:
        assert line_of(child).endswith("; waiting for it\n")
        with issuer:
            assert line_of(child).startswith("openai: exported ")
        with issuer:
            assert prepare(command) in line_of(child)
            assert export(command)["missing"] == []
        assert ended(child) == (128 + signal.SIGTERM, "")


@pytest.mark.usefixtures("issuer")
def test_a_command_that_fails_is_tried_again_until_it_succeeds_and_only_then_the_issuer_hears_of_it(
    admin_socket: Path, command: Command, tmp_path: Path
) -> None:
    good = tmp_path / "good"
    with watching(admin_socket, hook(tmp_path, f"test -e {good}")) as child:
        for _ in range(2):
            assert line_of(child) == "warning: openai: --exec /bin/sh: expected exit code 0, found 1\n"
        assert command("bundle", "exports", "-o", "json").rows("exports") == []
        good.touch()
        while (line := line_of(child)).startswith("warning"):
            pass
        assert line.startswith("openai: exported 2 authorities")


@pytest.mark.usefixtures("issuer")
def test_killed_after_the_command_and_before_the_issuer_heard_of_it_the_next_run_does_it_again(
    command: Command, admin_socket: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    kills = hook(
        tmp_path, f"echo run >> {runs}; test -e {tmp_path}/once || {{ touch {tmp_path}/once; kill -9 $PPID; }}"
    )
    with watching(admin_socket, kills) as child:
        child.wait(20)
    assert (child.returncode, command("bundle", "exports", "-o", "json").rows("exports")) == (-signal.SIGKILL, [])
    with watching(admin_socket, kills) as child:
        assert line_of(child).startswith("openai: exported 2 authorities")
    assert runs.read_text() == "run\nrun\n"
    with watching(admin_socket, kills) as child:  # the third finds that there is nothing to do
        assert prepare(command) in line_of(child)
    assert runs.read_text() == "run\nrun\nrun\n"


@pytest.mark.usefixtures("issuer")
def test_two_of_one_name_do_not_undo_each_other(admin_socket: Path, command: Command, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    other = f"--exec=/bin/sh -c 'echo other >> {runs}'"
    with watching(admin_socket, hook(tmp_path, f"echo one >> {runs}")) as one:
        assert line_of(one).startswith("openai: exported ")
        with watching(admin_socket, other) as two:
            assert line_of(two).startswith("openai: exported ")
            fresh = prepare(command)
            assert fresh in line_of(one)
            assert fresh in line_of(two)
            assert (
                ended(two)[0] == 128 + signal.SIGTERM
            )  # what is being written when a signal comes may be written twice
        assert ended(one)[0] == 128 + signal.SIGTERM
    assert sorted(runs.read_text().split()) == ["one", "one", "other", "other"]
    assert len(command("audit", "list", "--action=bundle exported", "-o", "json").rows("rows")) == 2


@pytest.mark.usefixtures("issuer")
def test_what_the_command_started_ends_with_a_watch_that_is_ended(admin_socket: Path, tmp_path: Path) -> None:
    with watching(admin_socket, hook(tmp_path, f"sleep 1000 & echo $! > {tmp_path}/child; wait")) as child:
        while not (tmp_path / "child").exists() or not (pid := (tmp_path / "child").read_text().strip()):
            assert child.poll() is None
        assert ended(child)[0] == 128 + signal.SIGTERM
    while is_running(pid):
        pass


@pytest.mark.usefixtures("issuer")
def test_what_waiting_does_not_mend_ends_it(admin_socket: Path, command: Command, tmp_path: Path) -> None:
    assert command("bundle", "export", "--name=openai", "--format=pem", f"--write={tmp_path / 'pem'}").code == 0
    with watching(admin_socket, "--exec=/bin/true") as child:
        _, told = child.communicate(timeout=20)
    assert (child.returncode, told.startswith("error: --name: openai is an export of the format pem")) == (1, True)


@pytest.mark.usefixtures("issuer")
def test_an_export_that_the_issuer_has_forgotten_is_told_again_and_not_made_again(
    admin_socket: Path, command: Command, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with watching(admin_socket, hook(tmp_path, f"echo run >> {runs}")) as child:
        assert line_of(child).startswith("openai: exported ")
        assert command("bundle", "forget-export", "openai").code == 0
        assert line_of(child).startswith("openai: exported ")
        assert (export(command)["missing"], runs.read_text()) == ([], "run\n")


@pytest.mark.usefixtures("issuer")
def test_an_older_copy_that_a_slow_export_by_the_same_name_left_is_replaced(
    admin_socket: Path, command: Command, tmp_path: Path
) -> None:
    """Otherwise the issuer would believe that the relying party has the next authority."""
    copy, begun, go_on = tmp_path / "copy", tmp_path / "begun", tmp_path / "go_on"
    os.mkfifo(go_on)
    text = f"cat > {copy}.$$; if mkdir {begun} 2>/dev/null; then cat {go_on} > /dev/null; fi; mv {copy}.$$ {copy}"
    arguments = [*COGNOMEN, "bundle", "export", "--name=openai", f"--socket={admin_socket}", hook(tmp_path, text)]
    with Child(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True) as slow:
        while not begun.is_dir():
            assert slow.poll() is None
        fresh = prepare(command)
        with watching(admin_socket, hook(tmp_path, text)) as child:
            assert fresh in line_of(child)
            assert fresh in copy.read_text()
            go_on.write_text("")  # the slow one goes on, and leaves what it read before
            assert slow.wait(60) == 0
            assert line_of(child).startswith("warning: openai: somebody else exported other keys by this name")
            assert fresh in line_of(child)
            assert fresh in copy.read_text()
            assert export(command)["missing"] == []


@pytest.mark.usefixtures("issuer")
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system of a few megabytes needs root")
def test_on_a_full_disk_the_file_before_stays_until_there_is_room(
    admin_socket: Path, command: Command, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=2m,mode=0755", "tmpfs", disk], check=False)
    if made.returncode:
        pytest.skip("this machine lets nobody mount")
    file = disk / "jwks.json"
    try:
        with watching(admin_socket, f"--write={file}") as child:
            assert line_of(child).startswith("openai: exported 2 authorities")
            filled, before = fill(disk), file.read_bytes()
            fresh = prepare(command)
            assert line_of(child) == f"warning: file {file}: no space left on device; waiting for it\n"
            assert (file.read_bytes(), export(command)["missing"]) == (before, [fresh])
            filled.unlink()
            assert fresh in line_of(child)
            assert fresh in file.read_text()
    finally:
        subprocess.run(["/bin/umount", "-l", disk], check=True)


def test_after_a_restore_the_same_is_exported_again(command: Command, tmp_path: Path) -> None:
    runs, backup, directory = tmp_path / "runs", tmp_path / "backup", tmp_path / "i"
    again = ("bundle", "export", "--name=openai", hook(tmp_path, f"echo run >> {runs}"))
    with issuer_at(directory, _ISSUER):
        assert command(*again).code == 0
        assert command("issuer", "backup", str(backup), f"--state={directory / 'state'}").code == 0
    assert command("issuer", "restore", str(backup), f"--state={directory / 'new'}").code == 0
    with issuer_at(directory, _ISSUER, state="new"):
        found = export(command)
        assert (found["key_ids"], found["missing"] != []) == ([], True)
        assert "export of the bundle openai" in command("status").out
        assert command(*again).code == 0
        assert export(command)["missing"] == []
    assert runs.read_text() == "run\nrun\n"
