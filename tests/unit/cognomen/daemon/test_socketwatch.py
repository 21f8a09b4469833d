"""cognomen/daemon/socketwatch: whether clients reach us is asked as a client does, and a socket that is gone is bound again."""

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bench.rig.child import Child
from cognomen.daemon.socketwatch import SocketWatch, WatchedSocket
from cognomen.daemon.troubles import Troubles
from cognomen.gate.gate import listen
from cognomen.protocol.errors import Kind, Refused
from tests.doubles.clock import FakeClock
from tests.doubles.until import pass_until

THIEF = """
import os, socket, sys
try:
    os.unlink(sys.argv[1])
except FileNotFoundError:
    pass
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1])
sock.listen()
print("listening", flush=True)
sys.stdin.read()
"""


class House:
    """A watched socket of this process."""

    def __init__(self, path: Path, *, is_held: bool = False) -> None:
        self.path = path
        self.clock = FakeClock()
        self.troubles = Troubles(self.clock)
        self.bound = [listen(path, 0o600)]
        self.refusal: Refused | None = None
        watched = WatchedSocket(
            what="workload socket",
            path=path,
            listener=self.bound[0],
            bind=None if is_held else self.bind,
            unit="x.socket",
        )
        self.watch = SocketWatch(watched, clock=self.clock, troubles=self.troubles)

    def bind(self) -> socket.socket:
        if self.refusal is not None:
            raise self.refusal
        self.path.parent.mkdir(exist_ok=True, mode=0o700)
        self.bound.append(listen(self.path, 0o600))
        return self.bound[-1]

    async def told(self, condition: Callable[[str], bool]) -> str:
        """What is missing, once that holds; empty if nothing is."""
        await pass_until(self.clock, lambda: condition("".join(self.watch.missing())))
        found = "".join(self.watch.missing())
        assert len(self.troubles.all()) == bool(found)
        return found

    async def passed(self) -> str:
        """What is missing after two more looks."""
        for _ in range(2):
            begun = self.clock.monotonic()
            await pass_until(self.clock, lambda begun=begun: self.clock.monotonic() >= begun + 1)  # type: ignore[misc]
        return "".join(self.watch.missing())

    @contextmanager
    def looking(self) -> Iterator[list[tuple[str, str]]]:
        """The log lines of a watch that looks."""
        lines: list[tuple[str, str]] = []
        with capture_logs() as logs:
            task = asyncio.get_running_loop().create_task(self.watch.run())
            try:
                yield lines
            finally:
                task.cancel()
                lines += [(line["log_level"], line["event"]) for line in logs]
                for one in self.bound:
                    one.close()

    def is_reached(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
            self.bound[-1].accept()[0].close()
        return True


@contextmanager
def thief(path: Path) -> Iterator[int]:
    """Another process that takes the path; its pid."""
    with Child([sys.executable, "-c", THIEF, str(path)], stdin=-1, stdout=-1, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "listening\n"
        yield child.pid


@pytest.mark.parametrize("with_directory", [False, True])
async def test_a_socket_that_was_removed_is_bound_again(tmp_path: Path, *, with_directory: bool) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    house = House(tmp_path / "d" / "s")
    with house.looking() as lines:
        assert await house.passed() == ""
        shutil.rmtree(house.path.parent) if with_directory else house.path.unlink()
        await pass_until(house.clock, lambda: len(house.bound) == 2)
        assert await house.passed() == ""
        assert house.is_reached()
        assert list(house.troubles.all()) == []
    assert lines == [("warning", "socket bound again")]


async def test_a_socket_that_another_process_takes_is_left_to_it_until_it_ends(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    with house.looking() as lines:
        with thief(house.path) as pid:
            said = await house.told(bool)
            assert said == (
                f"workload socket: {house.path} was taken by pid {pid} of uid {os.getuid()}:"
                " end that process; then it is bound again automatically"
            )
            assert await house.passed() == said
            (trouble,) = house.troubles.all()
            assert "so clients do not reach this daemon" in trouble.reason
            assert len(house.bound) == 1
        assert await house.told(lambda said: not said) == ""
        assert house.is_reached()
    assert lines == [
        ("error", "clients do not reach our socket"),
        ("warning", "socket bound again"),
        ("info", "clients reach our socket again"),
    ]


async def test_another_file_in_its_place_is_not_ours_to_remove(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    with house.looking():
        house.path.unlink()
        house.path.touch()
        assert "was replaced by another file: remove that file; then it is bound again" in await house.told(bool)
        house.path.unlink()
        assert await house.told(lambda said: not said) == ""


@pytest.mark.parametrize("target", ["somebody's", "missing"])
async def test_a_link_in_its_place_is_named_and_not_followed(tmp_path: Path, target: str) -> None:
    house = House(tmp_path / "s")
    with house.looking(), thief(tmp_path / "somebody's"):
        house.path.unlink()
        house.path.symlink_to(tmp_path / target)
        assert await house.told(bool) == (
            f"workload socket: {house.path} was replaced by a link: remove that link; then it is bound again automatically"
        )
        house.path.unlink()
        assert await house.told(lambda said: not said) == ""
        assert house.is_reached()


@pytest.mark.parametrize("is_held", [False, True])
async def test_permissions_that_were_taken_away_are_told_until_they_are_back(tmp_path: Path, *, is_held: bool) -> None:
    house = House(tmp_path / "s", is_held=is_held)
    with house.looking():
        house.path.chmod(0o666)
        assert await house.passed() == ""
        for mode in (0o400, 0):
            house.path.chmod(mode)
            assert await house.passed() == (
                f"workload socket: {house.path} admits fewer users than before: expected mode 0600, found {mode:04o}:"
                f" to admit them again: chmod 0600 {house.path}"
            )
        house.path.chmod(0o600)
        assert await house.told(lambda said: not said) == ""
        assert len(house.bound) == 1


async def test_what_keeps_it_from_being_bound_again_is_told(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    house.refusal = Refused(Kind.INVALID, "socket directory: not ours", hint="make it ours")
    with house.looking():
        house.path.unlink()
        assert await house.told(bool) == (
            f"workload socket: {house.path} was removed; it cannot be bound again: socket directory: not ours: make it ours"
        )
        house.refusal = None
        assert await house.told(lambda said: not said) == ""


async def test_a_socket_of_systemd_is_bound_by_its_unit(tmp_path: Path) -> None:
    house = House(tmp_path / "s", is_held=True)
    with house.looking():
        assert await house.passed() == ""
        house.path.unlink()
        restart = "restart the unit that holds it: systemctl restart x.socket"
        assert await house.told(bool) == f"workload socket: {house.path} was removed: {restart}"
        with thief(house.path) as pid:
            assert f"taken by pid {pid} of uid {os.getuid()}: end that process, then {restart}" in await house.told(
                lambda said: "taken" in said
            )
        with listen(house.path, 0o600):  # by the same process as before, such as systemd: not the one that we serve
            assert "was taken by" in await house.told(lambda said: "end that process" in said)


async def test_a_socket_whose_queue_is_full_is_still_ours(tmp_path: Path) -> None:
    house = House(tmp_path / "s")
    house.bound[0].listen(0)
    with house.looking(), socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(house.path))
        assert await house.passed() == ""
        assert len(house.bound) == 1
