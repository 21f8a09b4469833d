"""What systemd tells a daemon, and what a daemon tells systemd, on a real notify socket."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognomen.daemon.systemd import Systemd
from cognomen.gate.gate import listen
from cognomen.protocol.errors import Refused
from tests.doubles.clock import FakeClock
from tests.doubles.until import until


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def heard(manager: socket.socket) -> list[str]:
    texts = []
    while True:
        try:
            texts.append(manager.recv(1024).decode())
        except BlockingIOError:
            return texts


def test_without_variables_nothing_is_said() -> None:
    systemd = Systemd.from_environment({})
    systemd.ready()
    assert systemd == Systemd()


def test_what_happens_is_told_and_the_variables_are_taken_away(tmp_path: Path, manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000", "LISTEN_FDNAMES": "a"}
    systemd = Systemd.from_environment(environment)
    systemd.ready()
    systemd.status("well")
    systemd.stopping()
    assert heard(manager) == ["READY=1", "STATUS=well", "STOPPING=1"]
    assert not environment


def test_an_abstract_socket_is_reached(tmp_path: Path) -> None:
    name = f"cognomen-test-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        Systemd(notify_socket=f"@{name}").ready()
        assert sock.recv(100) == b"READY=1"


def test_a_manager_that_does_not_listen_ends_nothing(tmp_path: Path) -> None:
    Systemd(notify_socket=str(tmp_path / "nobody")).ready()


async def test_the_watchdog_hears_three_times_in_its_interval(tmp_path: Path, manager: socket.socket) -> None:
    clock = FakeClock()
    systemd = Systemd.from_environment({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "3000000"})
    async with asyncio.TaskGroup() as group:
        task = group.create_task(systemd.run_watchdog(clock))
        for _ in range(3):
            await until(lambda: clock.sleepers == 1)
            clock.advance(1)
        await until(lambda: clock.sleepers == 1)
        task.cancel()
    assert heard(manager) == 4 * ["WATCHDOG=1"]


async def test_without_a_watchdog_the_task_goes_on_and_says_nothing(manager: socket.socket) -> None:
    clock = FakeClock()
    task = asyncio.ensure_future(Systemd().run_watchdog(clock))
    await asyncio.sleep(0)
    assert (task.done(), clock.sleepers, heard(manager)) == (False, 0, [])
    task.cancel()


def test_a_watchdog_or_sockets_of_another_process_are_not_ours() -> None:
    environment = {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "LISTEN_FDS": "1", "LISTEN_PID": "1"}
    assert Systemd.from_environment(environment) == Systemd()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NOTIFY_SOCKET", "relative"),
        ("WATCHDOG_USEC", "soon"),
        ("LISTEN_FDS", "-1"),
        ("LISTEN_FDS", "17"),
    ],
)
def test_what_systemd_would_not_say_is_refused(name: str, value: str) -> None:
    with pytest.raises(Refused, match=f"{name}: expected"):
        Systemd.from_environment({name: value, "LISTEN_PID": str(os.getpid())})


def test_a_socket_that_is_held_is_served_in_place_of_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listen(path, 0o666) as sock:
        systemd = Systemd(sockets={str(path): sock})
        assert listen(path, 0o666, held=systemd.take(path)) is sock
        systemd.check_taken()


def test_a_socket_is_taken_by_another_name_of_its_path(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to("run")
    with listen(tmp_path / "run" / "s", 0o666) as sock:
        systemd = Systemd(sockets={str(tmp_path / "run" / "s"): sock})
        assert systemd.take(tmp_path / "var" / "other") is None
        assert systemd.take(tmp_path / "var" / "s") is sock


def test_a_socket_that_nothing_serves_is_refused(tmp_path: Path) -> None:
    with (
        listen(tmp_path / "s", 0o666) as sock,
        pytest.raises(Refused, match="handed over by systemd, but not named in the configuration"),
    ):
        Systemd(sockets={str(tmp_path / "s"): sock}).check_taken()
