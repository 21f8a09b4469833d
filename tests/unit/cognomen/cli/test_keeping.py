"""cognomen/cli/keeping: files that cannot be written now are tried again, and an identity that is taken away marks or removes its files."""

import errno
import os
import subprocess
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import pytest

from cognomen.cli.hook import run_hook
from cognomen.cli.keeping import Files, Keeper, WhenDenied
from cognomen.process.standardstreams import LostOutputError
from cognomen.protocol.errors import Refused
from tests.doubles.clock import FakeClock
from tests.doubles.hints import typed
from tests.flow.test_full_disk import fill


def files(generation: str) -> Files:
    return {"key": f"key {generation}".encode()}, {"cert": f"cert {generation}".encode()}


class Kept:
    """A keeper of a directory, and what it showed and ran."""

    def __init__(self, tmp_path: Path, when_denied: WhenDenied = WhenDenied.MARK, *, watch: bool = True) -> None:
        self.directory = tmp_path / "set"
        self.runs = tmp_path / "runs"
        self.clock = FakeClock()
        self.shown: list[str] = []
        script = f'echo "$COGNOMEN_IDENTITY $(ls "$COGNOMEN_DIRECTORY" | xargs)" >> {self.runs}'
        self.keeper = Keeper(
            self.directory, ("/bin/sh", "-c", script), watch=watch, when_denied=when_denied, clock=self.clock
        )

    def keep(self, generation: str) -> None:
        self.keeper.keep(files(generation), lambda: self.shown.append(generation))

    def ran(self) -> list[str]:
        return self.runs.read_text().splitlines() if self.runs.exists() else []

    def spoil(self) -> Path:
        """Put something else where the directory is; who moves it back ends that."""
        self.directory.rename(self.directory.with_name("away"))
        self.directory.touch()
        return self.directory.with_name("away")

    def mend(self) -> None:
        self.directory.unlink()
        self.directory.with_name("away").rename(self.directory)


def test_what_cannot_be_written_leaves_what_was_there_and_is_tried_again_until_it_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Kept(tmp_path)
    kept.keep("1")
    away = kept.spoil()
    waits = []
    for _ in range(12):
        kept.keep("2")
        assert not kept.keeper.is_due()
        waits.append(0)
        while not kept.keeper.is_due():
            kept.clock.advance(0.1)
            waits[-1] += 1
    assert (away / "key").read_bytes() == b"key 1"
    assert (kept.shown, kept.ran()) == (["1"], ["issued cert key"])
    assert capsys.readouterr().err == f"warning: directory {kept.directory}: not a directory; trying again\n"
    assert max(waits) <= 21, "two seconds at most, and a step for what twenty tenths lack of two"
    kept.mend()
    kept.keep("2")
    assert ((kept.directory / "key").read_bytes(), kept.keeper.is_due()) == (b"key 2", False)
    assert (kept.shown, kept.ran()) == (["1", "2"], ["issued cert key"] * 2)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_full_disk_is_waited_for_at_the_start_too_and_a_wrong_path_is_not(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path)

    def failing(_: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with pytest.raises(Refused) if number == errno.EROFS else nullcontext():
            kept.keep("1")
    assert not kept.shown
    kept.keep("1")
    assert kept.shown == ["1"]


def test_without_watching_every_failure_is_raised(tmp_path: Path) -> None:
    kept = Kept(tmp_path, watch=False)
    kept.directory.touch()
    with pytest.raises(Refused, match="not a directory"):
        kept.keep("1")


def test_a_directory_that_others_write_is_refused_at_the_start_and_waited_for_later(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.directory.mkdir()
    kept.directory.chmod(0o777)
    with pytest.raises(Refused, match="found mode 0777") as refused:
        kept.keep("1")
    typed(refused.value.hint)
    kept.keep("1")
    kept.directory.chmod(0o777)
    kept.keep("2")
    assert (kept.directory / "key").read_bytes() == b"key 1"


def test_an_identity_that_is_taken_away_marks_its_files_once_until_it_is_there_again(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.keep("1")
    for _ in range(3):
        kept.keeper.deny("no identity issued")
    assert (kept.directory / "denied").read_text() == "2026-01-01T00:00:00Z no identity issued\n"
    assert (kept.directory / "key").read_bytes() == b"key 1"
    kept.keep("2")
    assert kept.ran() == ["issued cert key", "denied cert denied key", "issued cert key"]


def test_an_identity_that_is_taken_away_takes_its_files_along_where_that_is_asked_for(tmp_path: Path) -> None:
    kept = Kept(tmp_path, WhenDenied.REMOVE)
    kept.keep("1")
    kept.keeper.deny("no identity issued")
    assert {path.name for path in kept.directory.iterdir() if not path.name.startswith("..")} == {"denied"}
    assert not list(kept.directory.rglob("key"))
    kept.keep("2")
    assert kept.ran() == ["issued cert key", "denied denied", "issued cert key"]


def test_what_is_known_of_others_is_refreshed_beside_the_mark(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.keep("1")
    kept.keeper.deny("no identity issued", files("1 with a newer list"))
    assert (kept.directory / "cert").read_bytes() == b"cert 1 with a newer list"
    assert (kept.directory / "denied").exists()


def test_a_mark_that_cannot_be_written_is_tried_again_and_the_command_does_not_wait_for_it(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.keep("1")
    kept.spoil()
    kept.keeper.deny("no identity issued")
    assert [line.split()[0] for line in kept.ran()] == ["issued", "denied"]
    kept.mend()
    kept.clock.advance(2)
    assert kept.keeper.is_due()
    kept.keeper.deny("no identity issued")
    assert (kept.directory / "denied").exists()
    assert len(kept.ran()) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system of a few megabytes needs root")
def test_on_a_full_disk_the_files_of_a_denied_identity_are_removed_at_once(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=2m,mode=0755", "tmpfs", disk], check=False)
    if made.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        kept = Kept(disk, WhenDenied.REMOVE)
        kept.keep("1")
        fill(disk)
        kept.keeper.deny("no identity issued")
        assert not list(kept.directory.rglob("key"))
    finally:
        subprocess.run(["/bin/umount", "-l", disk], check=True)


def test_a_directory_in_the_place_of_a_file_is_named_and_nothing_is_replaced(tmp_path: Path) -> None:
    kept = Kept(tmp_path, watch=False)
    kept.keep("1")
    (kept.directory / "other").mkdir()
    with pytest.raises(Refused, match=f"file {kept.directory}/other: is a directory"):
        kept.keeper.keep(({"key": b"key 2", "other": b""}, {}), lambda: None)
    assert (kept.directory / "key").read_bytes() == b"key 1"


def test_that_nothing_newer_came_before_the_end_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Kept(tmp_path)
    kept.keeper.keep(files("1"), lambda: None, until=kept.clock.now() + timedelta(minutes=1))
    told = []
    for _ in range(4):
        kept.clock.advance(30)
        kept.keeper.look()
        told.append(capsys.readouterr().err)
    assert told == [
        "",
        "",
        "warning: the SVID expired at 2026-01-01T00:01:00Z, and no newer one came; waiting for it\n",
        "",
    ]


def test_a_lost_standard_output_ends_no_watch_that_has_files_to_keep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Kept(tmp_path)

    def lose() -> None:
        raise LostOutputError(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    for generation in ("1", "2"):
        kept.keeper.keep(files(generation), lose)
    assert (kept.directory / "key").read_bytes() == b"key 2"
    assert capsys.readouterr().err == "warning: standard output: no space left on device; continuing without it\n"
    with pytest.raises(LostOutputError):
        Keeper(None, (), watch=True).keep(files("1"), lose)


@pytest.mark.parametrize("open_to_others", ["program", "directory"])
def test_a_program_that_others_could_replace_is_not_run_until_the_hint_is_typed(
    open_to_others: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "bin" / "hook"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert run_hook((str(program),), {})
    changed = program if open_to_others == "program" else program.parent
    changed.chmod(0o777)
    assert not run_hook((str(program),), {})
    assert capsys.readouterr().err.endswith(
        f"{changed}: expected write access for its owner only, found mode 0777; chmod go-w {changed}\n"
    )
    typed(f"chmod go-w {changed}")
    assert run_hook((str(program),), {})
