from pathlib import Path

import pytest

from cognomen.cli.fileset import write_set
from cognomen.daemon.errors import Refused


def write(directory: Path, generation: str) -> None:
    write_set(directory, private={"key": f"key {generation}".encode()}, public={"cert": f"cert {generation}".encode()})


def hidden(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name.startswith("..") and not path.is_symlink()]


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
    write_set(tmp_path, private={"key": b"2"}, public={})
    assert not left.exists()
    assert (tmp_path / "key").read_bytes() == b"2"


def test_a_file_that_the_next_set_does_not_have_is_gone_and_others_stay(tmp_path: Path) -> None:
    write_set(tmp_path, private={}, public={"cert": b"1", "crl": b"1"})
    (tmp_path / "elsewhere").symlink_to("nowhere")
    write_set(tmp_path, private={}, public={"cert": b"2"})
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("..")) == ["cert", "elsewhere"]
