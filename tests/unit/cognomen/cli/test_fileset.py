import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognomen.cli.fileset import Hold, add_to_set, check_set, write_set
from cognomen.protocol.errors import Kind, Refused


def write(directory: Path, generation: str) -> None:
    write_set(directory, private={"key": f"key {generation}".encode()}, public={"cert": f"cert {generation}".encode()})


def hidden(directory: Path) -> list[Path]:
    """Generations, and what else lies there that is no file of the set."""
    return [
        path for path in directory.iterdir() if path.name.startswith("..") and path.name not in {"..lock", "..data"}
    ]


def test_the_files_are_there_with_their_modes(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b", "1")
    assert (tmp_path / "a" / "b" / "key").read_bytes() == b"key 1"
    assert (tmp_path / "a" / "b" / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a" / "b" / "cert").stat().st_mode & 0o777 == 0o644


def test_a_reader_of_one_generation_never_meets_the_next(tmp_path: Path) -> None:
    write(tmp_path, "1")
    generation = (tmp_path / "..data").resolve()
    write(tmp_path, "2")
    assert not generation.exists()
    assert {path.read_bytes() for path in (tmp_path / "..data").iterdir()} == {b"key 2", b"cert 2"}


def test_former_generations_leave_nothing_behind(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, str(number))
    assert len(hidden(tmp_path)) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("..")) == ["cert", "key"]


def test_plain_files_of_the_same_names_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old")
    write(tmp_path, "1")
    assert (tmp_path / "key").read_bytes() == b"key 1"


def test_a_set_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, "1")
    with pytest.raises(Refused):
        write_set(tmp_path, private={"key": b"2"}, public={"no/such/directory": b"2"})
    assert (tmp_path / "key").read_bytes() == b"key 1"
    assert len(hidden(tmp_path)) == 1


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match=f"directory {tmp_path}/file/b: "):
        write(tmp_path / "file" / "b", "1")


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    write_set(tmp_path, private={"key": b"1"}, public={})
    left = tmp_path / "..0123456789abcdef"
    left.mkdir()
    (left / "key").write_bytes(b"half")
    (tmp_path / "..0123456789abcdef.link").symlink_to("..data/key")
    write_set(tmp_path, private={"key": b"2"}, public={})
    assert not left.exists()
    assert len(hidden(tmp_path)) == 1
    assert (tmp_path / "key").read_bytes() == b"2"


def test_a_file_that_the_next_set_does_not_have_is_gone_and_others_stay(tmp_path: Path) -> None:
    write_set(tmp_path, private={}, public={"cert": b"1", "crl": b"1"})
    (tmp_path / "elsewhere").symlink_to("nowhere")
    write_set(tmp_path, private={}, public={"cert": b"2"})
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("..")) == ["cert", "elsewhere"]


@pytest.fixture(params=[0, 0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_the_modes_of_the_files_are_the_same_under_every_umask(tmp_path: Path, umask: int) -> None:
    write(tmp_path / "set", "1")
    modes = {name: stat.S_IMODE((tmp_path / "set" / name).stat().st_mode) for name in ("..data", "key", "cert")}
    assert modes == {"..data": 0o755 & ~umask, "key": 0o600, "cert": 0o644}


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o757])
def test_into_a_directory_that_others_write_nothing_is_written(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(Refused, match=f"found mode {mode:04o}") as refused:
        write(tmp_path, "1")
    assert (refused.value.kind, list(tmp_path.iterdir())) == (Kind.INVALID, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
@pytest.mark.parametrize("below", [".", "ours"])
def test_into_another_users_directory_nothing_is_written_and_no_mode_is_changed(tmp_path: Path, below: str) -> None:
    secret, theirs = tmp_path / "secret", tmp_path / "theirs"
    secret.write_text("root's")
    secret.chmod(0o600)
    (theirs / "ours").mkdir(parents=True)
    os.chown(theirs, 65533, 65533)
    (theirs / "..data").symlink_to(tmp_path)
    with pytest.raises(Refused, match="found uid 65533"):
        write_set(theirs / below, private={}, public={"secret": b"new"})
    assert (secret.read_text(), stat.S_IMODE(secret.stat().st_mode)) == ("root's", 0o600)
    assert list((theirs / "ours").iterdir()) == []


def test_somebody_who_holds_the_directory_keeps_nobody_from_writing(tmp_path: Path) -> None:
    held = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # anybody can, who may read the directory
        write(tmp_path, "1")
    finally:
        os.close(held)
    assert stat.S_IMODE((tmp_path / "..lock").stat().st_mode) == 0o600


def test_a_file_is_added_to_the_set_that_is_there_and_the_next_set_lacks_it(tmp_path: Path) -> None:
    write(tmp_path, "1")
    generation = (tmp_path / "..data").readlink()
    add_to_set(tmp_path, "denied", b"why")
    assert (tmp_path / "..data").readlink() == generation
    assert [(tmp_path / name).read_bytes() for name in ("key", "cert", "denied")] == [b"key 1", b"cert 1", b"why"]
    write(tmp_path, "2")
    assert not (tmp_path / "denied").is_symlink()


def test_a_file_is_added_where_no_set_is(tmp_path: Path) -> None:
    add_to_set(tmp_path / "new", "denied", b"why")
    assert (tmp_path / "new" / "denied").read_bytes() == b"why"
    write(tmp_path / "new", "1")
    assert len(hidden(tmp_path / "new")) == 1


def test_a_set_tells_which_files_only_the_one_before_had(tmp_path: Path) -> None:
    assert write_set(tmp_path, private={"b": b"1", "a": b"1"}, public={"c": b"1"}) == []
    assert write_set(tmp_path, private={}, public={"c": b"2"}) == ["a", "b"]


def test_who_holds_a_directory_writes_it_and_nobody_else_until_that_is_closed(tmp_path: Path) -> None:
    first, second = Hold(), Hold()
    for generation in (b"1", b"2"):
        write_set(tmp_path, {}, {"cert": generation}, hold=first)
    for hold in (None, second):
        for write_it in (
            lambda hold=hold: check_set(tmp_path, hold=hold),
            lambda hold=hold: write_set(tmp_path, {}, {"other": b"3"}, hold=hold),
            lambda hold=hold: add_to_set(tmp_path, "other", b"3", hold=hold),
        ):
            with pytest.raises(Refused, match="another cognomen fetch --watch keeps this directory") as refused:
                write_it()
            assert (refused.value.kind, refused.value.__cause__) == (Kind.CONFLICT, None)
    assert ((tmp_path / "cert").read_bytes(), (tmp_path / "other").exists()) == (b"2", False)
    first.close()
    write_set(tmp_path, {}, {"other": b"3"}, hold=second)
    with pytest.raises(Refused, match="keeps this directory"):
        write_set(tmp_path, {}, {"cert": b"3"}, hold=first)
    second.close()
    write(tmp_path, "4")
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("..")} == {"cert", "key"}


def test_a_directory_that_was_replaced_is_held_again_unless_another_was_faster(tmp_path: Path) -> None:
    directory, first, second = tmp_path / "set", Hold(), Hold()
    write_set(directory, {}, {"cert": b"1"}, hold=first)
    directory.rename(tmp_path / "away")
    write_set(directory, {}, {"cert": b"2"}, hold=first)
    with pytest.raises(Refused, match="keeps this directory"):
        write(directory, "3")
    write(tmp_path / "away", "3")
    directory.rename(tmp_path / "again")
    write_set(directory, {}, {"cert": b"4"}, hold=second)
    with pytest.raises(Refused, match="keeps this directory"):
        write_set(directory, {}, {"cert": b"5"}, hold=first)
    assert (directory / "cert").read_bytes() == b"4"
    for hold in (first, second):
        hold.close()
