"""svid/workloadapi/secretfile: where the file is, who can open it, and what stays of it."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from svid.workloadapi.secretfile import SecretFile


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277, 0o777])
def test_only_its_user_can_open_it_whatever_the_umask(place: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        file = SecretFile()
        file.write(b"one")
        file.write(b"two")
    finally:
        os.umask(before)
    assert file.path.parent.parent == place
    assert (file.path.read_bytes(), mode(file.path), mode(file.path.parent)) == (b"two", 0o600, 0o700)
    assert names(file.path.parent) == ["token"]
    file.close()
    assert names(place) == []


def test_who_opened_it_reads_the_old_contents_to_the_end() -> None:
    file = SecretFile()
    file.write(b"one")
    with file.path.open("rb") as reader:
        file.write(b"two and more")
        assert reader.read() == b"one"
    file.close()


@pytest.mark.parametrize("kind", ["open to others", "relative", "none", "a file"])
def test_a_runtime_directory_that_is_not_ours_alone_is_not_used(
    place: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    match kind:
        case "open to others":
            place.chmod(0o750)
        case "relative":
            monkeypatch.chdir(place.parent)
            monkeypatch.setenv("XDG_RUNTIME_DIR", place.name)
        case "none":
            monkeypatch.setenv("XDG_RUNTIME_DIR", str(place / "none"))
        case "a file":
            (place / "file").touch(mode=0o600)
            monkeypatch.setenv("XDG_RUNTIME_DIR", str(place / "file"))
    file = SecretFile()
    try:
        assert place not in file.path.parents
        assert str(file.path.parent.parent) in {"/dev/shm", tempfile.gettempdir()}  # noqa: S108 - where it is
        assert mode(file.path.parent) == 0o700
    finally:
        file.close()
    assert not file.path.parent.exists()


def test_the_file_and_its_directory_are_made_again_if_somebody_removes_them(place: Path) -> None:
    file = SecretFile()
    file.write(b"one")
    assert file.is_there()
    file.path.unlink()
    assert not file.is_there()
    file.write(b"two")
    file.path.unlink()
    file.path.parent.rmdir()
    assert not file.is_there()
    file.write(b"three")
    assert (file.path.read_bytes(), file.is_there(), mode(file.path.parent)) == (b"three", True, 0o700)
    file.close()
    assert names(place) == []


@pytest.mark.parametrize("is_link", [False, True])
def test_what_somebody_puts_in_its_place_is_left_alone(place: Path, *, is_link: bool) -> None:
    file = SecretFile()
    file.write(b"one")
    file.path.parent.rename(place / "moved")
    (place / "other").mkdir()
    if is_link:
        file.path.parent.symlink_to(place / "other")
    else:
        (place / "other").rename(file.path.parent)
    (file.path.parent / "token").write_bytes(b"theirs")
    assert not file.is_there()
    with pytest.raises(FileExistsError):
        file.write(b"two")
    file.close()
    assert file.path.read_bytes() == b"theirs"
    assert names(place / "moved") == []


def test_a_file_that_was_removed_is_written_again() -> None:
    file = SecretFile()
    file.remove()
    file.write(b"one")
    file.remove()
    assert names(file.path.parent) == []
    file.write(b"two")
    assert file.path.read_bytes() == b"two"
    file.close()


def test_half_of_a_write_that_failed_is_no_obstacle() -> None:
    file = SecretFile()
    (file.path.parent / "token.new").write_bytes(b"half")
    file.write(b"one")
    assert names(file.path.parent) == ["token"]
    file.close()


KILLED = """
import os, signal
from svid.workloadapi.secretfile import SecretFile
file = SecretFile()
file.write(b"secret")
print(file.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_and_what_others_hold_is_not(place: Path) -> None:
    held = SecretFile()
    held.write(b"held")
    foreign = place / "svid-token-x"
    foreign.mkdir()
    done = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    left = Path(done.stdout.strip())
    assert left.read_bytes() == b"secret"
    other = SecretFile()
    assert not left.parent.exists()
    assert held.path.read_bytes() == b"held"
    assert foreign.exists()
    held.close()
    other.close()
