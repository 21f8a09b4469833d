"""`cognomen fetch --watch` as a daemon: what it outlives, and how it ends."""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from bench.rig.child import Child
from bench.rig.daemons import COGNOMEN, Dev
from tests.flow.test_full_disk import fill

ME = f"unix:uid:{os.geteuid()}"
UNSHARE = ["unshare", "--pid", "--fork", "--kill-child"]
LEAVES_AN_ORPHAN = "(while [ ! -e '{0}/go' ]; do :; done) & echo $! > '{0}/orphan'"
HANGS = "sleep 1000 & echo $! > '{0}/child'; wait"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with Dev(tmp_path_factory.mktemp("d"), "--x509-ttl=2s", "--entry", f"/a={ME}", "--entry", f"/b={ME}") as dev:
        yield dev


def watch(
    environment: Mapping[str, str], files: Path, *options: str, within: tuple[str, ...] = (), stdout: str = os.devnull
) -> "Child[str]":
    arguments = [*within, *COGNOMEN, "fetch", "x509", "--watch", f"--write={files}", *options]
    with Path(stdout).open("w") as out:
        return Child(arguments, env=dict(environment), stdout=out, stderr=subprocess.PIPE, text=True)


def line_of(watching: "Child[str]") -> str:
    assert watching.stderr is not None
    return watching.stderr.readline()


def wait_for(path: Path, watching: "Child[str]", *, other_than: bytes = b"") -> bytes:
    """What is in the file, once it is there and says something else."""
    while not path.exists() or (found := path.read_bytes()) == other_than:
        assert watching.poll() is None, watching.stderr
    return found


def serial_of(files: Path) -> int:
    """Of the certificate, whose key lies beside it: both of one generation."""
    while True:
        generation = (files / "..data").resolve()
        try:
            key = load_pem_private_key((generation / "svid_key.pem").read_bytes(), None)
            leaf = load_pem_x509_certificate((generation / "svid.pem").read_bytes())
        except FileNotFoundError:  # it was replaced meanwhile
            continue
        assert key.public_key() == leaf.public_key()
        return leaf.serial_number


def hook(tmp_path: Path, script: str) -> str:
    (tmp_path / "hook.sh").write_text(script.format(tmp_path))
    return f"--exec=/bin/sh '{tmp_path}/hook.sh'"


def test_it_outlives_the_attestor_and_ends_on_sigterm_as_a_shell_expects(tmp_path: Path) -> None:
    files = tmp_path / "files"
    dev = Dev(tmp_path, "--entry", f"/a={ME}")
    dev.start()
    try:
        with watch(dev.environment, files) as watching:
            before = wait_for(files / "svid.pem", watching)
            assert dev.stop() == 0
            assert serial_of(files)
            assert (files / "svid.pem").read_bytes() == before
            dev.start()
            wait_for(files / "svid.pem", watching, other_than=before)
            watching.terminate()
            _, told = watching.communicate(timeout=20)
    finally:
        dev.stop()
    assert (watching.returncode, told) == (128 + signal.SIGTERM, "")


@pytest.mark.parametrize("when_denied", ["mark", "remove"])
def test_an_entry_that_goes_marks_its_files_or_takes_them_along_until_it_comes_again(
    dev: Dev, when_denied: str, tmp_path: Path
) -> None:
    files, admin = tmp_path / "files", f"--socket={dev.state}/admin/issuer.sock"
    with watch(dev.environment, files, "--spiffe-id=/b", f"--when-denied={when_denied}") as watching:
        wait_for(files / "svid.pem", watching)
        entry = next(one for one in dev.admin("entry", "list")["entries"] if str(one["spiffe_id"]).endswith("/b"))
        dev.command("entry", "delete", str(entry["id"]), admin)
        assert b"expected one of spiffe://example.org/a" in wait_for(files / "denied", watching)
        assert (files / "svid_key.pem").exists() is (when_denied == "mark")
        assert line_of(watching).endswith("; waiting for it\n")
        again = ("--spiffe-id=/b", f"--parent={entry['parent_id']}", f"--selector={ME}", admin)
        dev.command("entry", "create", *again)
        while (files / "denied").exists():
            assert watching.poll() is None
        assert serial_of(files)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system of a few megabytes needs root")
def test_on_a_full_disk_the_files_before_stay_and_the_next_come_when_there_is_room(dev: Dev, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=2m,mode=0755", "tmpfs", disk], check=False)
    if made.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        with watch(dev.environment, disk / "files") as watching:
            wait_for(disk / "files" / "svid.pem", watching)
            filled = fill(disk)
            assert line_of(watching) == f"warning: directory {disk}/files: no space left on device; trying again\n"
            before = serial_of(disk / "files")
            filled.unlink()
            while serial_of(disk / "files") == before:
                assert watching.poll() is None
    finally:
        subprocess.run(["/bin/umount", "-l", disk], check=True)


def test_as_the_first_process_it_ends_on_sigterm_and_lets_orphans_end(dev: Dev, tmp_path: Path) -> None:
    if subprocess.run([*UNSHARE, "true"], check=False, stderr=subprocess.DEVNULL, timeout=30).returncode:
        pytest.skip("a process id namespace of its own needs root, or a machine that gives one to everybody")
    with watch(
        dev.environment, tmp_path / "files", hook(tmp_path, LEAVES_AN_ORPHAN), within=tuple(UNSHARE)
    ) as watching:
        wait_for(tmp_path / "orphan", watching)
        first = int(Path(f"/proc/{watching.pid}/task/{watching.pid}/children").read_text())
        children = Path(f"/proc/{first}/task/{first}/children")
        while not children.read_text():
            assert watching.poll() is None
        (tmp_path / "go").touch()
        while children.read_text():
            assert watching.poll() is None
        os.kill(first, signal.SIGTERM)
        watching.communicate(timeout=20)
    assert watching.returncode == 128 + signal.SIGTERM


def test_what_the_command_started_ends_with_a_watch_that_is_ended(dev: Dev, tmp_path: Path) -> None:
    with watch(dev.environment, tmp_path / "files", hook(tmp_path, HANGS)) as watching:
        while not (pid := wait_for(tmp_path / "child", watching).strip()):
            pass
        watching.terminate()
        watching.communicate(timeout=20)
    assert watching.returncode == 128 + signal.SIGTERM
    while Path(f"/proc/{pid.decode()}").exists() and "(zombie)" not in Path(f"/proc/{pid.decode()}/status").read_text():
        pass


def test_a_standard_output_that_takes_nothing_ends_no_watch_that_keeps_files(dev: Dev, tmp_path: Path) -> None:
    files = tmp_path / "files"
    with watch(dev.environment, files, stdout="/dev/full") as watching:
        first = wait_for(files / "svid.pem", watching)
        wait_for(files / "svid.pem", watching, other_than=first)
        assert line_of(watching) == "warning: standard output: no space left on device; continuing without it\n"
