import os
from pathlib import Path

import pytest

from cognomen.gate.gate import listen
from cognomen.process.privatefile import alone_in, own_what_we_make, private_directory, read_private, write_private
from cognomen.protocol.errors import Kind, Refused


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_private(tmp_path / "key", b"\x00secret")
    assert read_private(tmp_path / "key") == b"\x00secret"


def test_a_file_is_readable_by_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_private(tmp_path / "key", b"secret")
    finally:
        os.umask(before)
    assert mode(tmp_path / "key") == 0o600


def test_what_a_process_makes_is_its_own_though_its_umask_leaves_its_owner_nothing(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        own_what_we_make()
        write_private(private_directory(tmp_path / "above" / "state") / "key", b"secret")
        (tmp_path / "log").touch()
        left = os.umask(0)
    finally:
        os.umask(before)
    assert left == 0o077
    assert mode(tmp_path / "above" / "state") == 0o700
    assert mode(tmp_path / "above" / "state" / "key") == 0o600
    assert mode(tmp_path / "log") == 0o600


def test_writing_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_private(tmp_path / "key", b"old")
    write_private(tmp_path / "key", b"new")
    assert read_private(tmp_path / "key") == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "key"]


def test_writing_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"untouched")
    (tmp_path / "key").symlink_to(tmp_path / "target")
    write_private(tmp_path / "key", b"new")
    assert (tmp_path / "target").read_bytes() == b"untouched"


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir()
    with pytest.raises(Refused, match="is a directory") as caught:
        write_private(tmp_path / "key", b"new")
    assert caught.value.kind is Kind.UNAVAILABLE
    assert list(tmp_path.iterdir()) == [tmp_path / "key"]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, bits: int) -> None:
    write_private(tmp_path / "key", b"secret")
    (tmp_path / "key").chmod(bits)
    with pytest.raises(Refused, match=f"found mode {bits:04o}") as caught:
        read_private(tmp_path / "key")
    assert caught.value.hint == f"chmod 600 {tmp_path}/key"


def test_a_link_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "target", b"secret")
    (tmp_path / "key").symlink_to(tmp_path / "target")
    with pytest.raises(Refused, match="found a symbolic link"):
        read_private(tmp_path / "key")


def test_a_fifo_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(Refused, match="expected a regular file, found a special file"):
        read_private(tmp_path / "key")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "key").mkdir(mode=0o700)
    with pytest.raises(Refused, match="directory"):
        read_private(tmp_path / "key")


def test_no_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no such file") as caught:
        read_private(tmp_path / "key")
    assert caught.value.kind is Kind.NOT_FOUND


def test_a_file_larger_than_expected_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "key", b"12345")
    assert read_private(tmp_path / "key", max_bytes=5) == b"12345"
    with pytest.raises(Refused, match="expected at most 4 bytes"):
        read_private(tmp_path / "key", max_bytes=4)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_of_another_uid_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "key", b"secret")
    os.chown(tmp_path / "key", 65534, -1)
    with pytest.raises(Refused, match="found uid 65534"):
        read_private(tmp_path / "key")


def test_a_directory_is_made_for_its_owner_only_with_its_parents(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made = private_directory(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert mode(made) == 0o700
    assert mode(made.parent) == 0o755


def test_a_private_directory_that_exists_is_taken(tmp_path: Path) -> None:
    private_directory(tmp_path / "a")
    assert private_directory(tmp_path / "a") == tmp_path / "a"


def test_a_directory_that_must_be_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        private_directory(tmp_path / "a", make=False)
    assert caught.value.kind is Kind.UNAVAILABLE
    assert not (tmp_path / "a").exists()
    private_directory(tmp_path / "a")
    assert private_directory(tmp_path / "a", make=False) == tmp_path / "a"


def test_a_directory_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o750)
    with pytest.raises(Refused, match="found mode 0750") as caught:
        private_directory(tmp_path / "a")
    assert caught.value.hint == f"chmod 700 {tmp_path}/a"


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_else_than_a_directory_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "file":
        path.write_bytes(b"")
    else:
        path.symlink_to(tmp_path)
    with pytest.raises(Refused, match="expected a directory"):
        private_directory(path)


def test_a_directory_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(Refused) as caught:
        private_directory(tmp_path / "a" / "b")
    assert caught.value.kind is Kind.UNAVAILABLE


def test_a_directory_that_is_held_is_refused_to_the_next_until_it_is_let_go(tmp_path: Path) -> None:
    with (
        alone_in(tmp_path, "attestor"),
        pytest.raises(Refused, match="is already in use by a running attestor") as refused,
        alone_in(tmp_path, "attestor"),
    ):
        pass
    assert refused.value.kind is Kind.EXISTS
    with alone_in(tmp_path, "attestor"):
        pass


def test_a_directory_is_held_though_its_lock_was_removed(tmp_path: Path) -> None:
    with alone_in(tmp_path, "attestor"):
        (tmp_path / "lock").unlink()
        with pytest.raises(Refused, match="is already in use by a running attestor"), alone_in(tmp_path, "attestor"):
            pass


def test_a_socket_can_be_bound_in_a_directory_that_is_held(tmp_path: Path) -> None:
    with alone_in(private_directory(tmp_path / "state"), "attestor"):
        listen(tmp_path / "state" / "api.sock", 0o600).close()
