"""Where a socket may be bound."""

import fcntl
import os
import socket
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from cognomen.gate.gate import listen
from cognomen.protocol.errors import Kind, Refused


@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_socket_has_the_mode_it_was_asked_for(tmp_path: Path, mode: int) -> None:
    with listen(tmp_path / "s", mode):
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o707, 0o777, 0o1777, 0o702])
def test_directory_that_others_write_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(Refused, match=f"expected write access for its owner only, found mode {mode:04o}") as refused:
        listen(directory / "s", 0o666)
    assert refused.value.kind is Kind.INVALID
    assert not (directory / "s").exists()


def test_directory_below_one_that_others_write_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "open" / "run"
    directory.mkdir(parents=True, mode=0o700)
    directory.parent.chmod(0o777)
    with pytest.raises(Refused, match="found mode 0777"):
        listen(directory / "s", 0o666)


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    os.chown(directory, 65533, 65533)
    with pytest.raises(Refused, match="found uid 65533"):
        listen(directory / "s", 0o666)


def test_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        listen(tmp_path / "missing" / "s", 0o666)


def test_live_socket_is_not_stolen(tmp_path: Path) -> None:
    with listen(tmp_path / "s", 0o666) as first:
        with pytest.raises(Refused, match="already in use") as refused:
            listen(tmp_path / "s", 0o666)
        assert refused.value.kind is Kind.EXISTS
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            first.accept()[0].close()


def test_dead_socket_is_replaced(tmp_path: Path) -> None:
    listen(tmp_path / "s", 0o666).close()
    with listen(tmp_path / "s", 0o600), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))


def test_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(Refused, match="is not a socket"):
        listen(tmp_path / "s", 0o666)
    assert (tmp_path / "s").read_text() == "precious"


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "s").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="is not a socket"):
        listen(tmp_path / "s", 0o666)


def test_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot bind") as refused:
        listen(tmp_path / ("s" * 120), 0o666)
    assert refused.value.kind is Kind.INVALID


def test_a_directory_that_somebody_holds_keeps_nobody_from_binding(tmp_path: Path) -> None:
    held = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)  # anybody can, who may read the directory
        listen(tmp_path / "s", 0o666).close()
    finally:
        os.close(held)


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_socket_handed_over_is_used_while_it_is_open_to_no_more_than_asked_for(tmp_path: Path, mode: int) -> None:
    with listen(tmp_path / "s", mode) as held:
        assert listen(tmp_path / "s", 0o666, held=held) is held


@pytest.mark.parametrize("mode", [0o660, 0o666, 0o601])
def test_socket_handed_over_that_is_open_to_more_than_its_door_is_refused(tmp_path: Path, mode: int) -> None:
    with (
        listen(tmp_path / "s", mode) as held,
        pytest.raises(Refused, match=f"expected mode 0600 at most, .* has {mode:04o}") as refused,
    ):
        listen(tmp_path / "s", 0o600, held=held)
    assert refused.value.hint == "set SocketMode=0600 in the .socket unit"


def test_socket_handed_over_whose_path_is_gone_is_refused(tmp_path: Path) -> None:
    with listen(tmp_path / "s", 0o600) as held:
        (tmp_path / "s").unlink()
        with pytest.raises(Refused, match="No such file"):
            listen(tmp_path / "s", 0o600, held=held)


def test_socket_handed_over_whose_path_is_another_file_is_refused(tmp_path: Path) -> None:
    with listen(tmp_path / "s", 0o600) as held:
        (tmp_path / "s").unlink()
        (tmp_path / "s").touch(mode=0o600)
        with pytest.raises(Refused, match="another file"):
            listen(tmp_path / "s", 0o600, held=held)


def test_socket_handed_over_in_a_directory_that_others_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with listen(tmp_path / "run" / "s", 0o600) as held:
        (tmp_path / "run").chmod(0o777)
        with pytest.raises(Refused, match="expected write access for its owner only"):
            listen(tmp_path / "run" / "s", 0o600, held=held)


def kernel_refuses_descriptors() -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, 83, 1)
        except OSError:
            return False
        return True


@pytest.mark.skipif(not kernel_refuses_descriptors(), reason="needs SO_PASSRIGHTS: Linux 6.16")
@pytest.mark.parametrize("handed_over", [False, True])
def test_descriptors_that_a_peer_sends_along_are_refused(tmp_path: Path, handed_over: bool) -> None:  # noqa: FBT001 - a column
    with ExitStack() as leaving:
        if handed_over:
            held = leaving.enter_context(socket.socket(socket.AF_UNIX))
            held.bind(str(tmp_path / "s"))
            (tmp_path / "s").chmod(0o666)
            held.listen()
            listen(tmp_path / "s", 0o666, held=held)
        else:
            leaving.enter_context(listen(tmp_path / "s", 0o666))
        client = leaving.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(str(tmp_path / "s"))
        with pytest.raises(PermissionError):
            socket.send_fds(client, [b"P"], [client.fileno()])
        assert client.send(b"P") == 1


def test_an_event_loop_waits_for_nobody_who_is_about_to_bind_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with (tmp_path / ".s.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Refused, match=f"^socket path: another process is about to bind {path}$") as refused:
            listen(path, 0o600, waits=False)
    assert refused.value.kind is Kind.UNAVAILABLE
    listen(path, 0o600, waits=False).close()
