"""Health is asked through the sockets themselves: what is removed is bound again, and what is taken is told of."""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.rig.child import Child
from bench.rig.daemons import free_port
from svid.workloadapi.sources import X509Source
from tests.flow.twodaemons import World

THIEF = """
import os, socket, sys
os.unlink(sys.argv[1])
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1])
sock.listen()
print("listening", flush=True)
sys.stdin.read()
"""


class Watched(World):
    """Both daemons with their pages."""

    def __init__(self, directory: Path) -> None:
        self.ports = {"issuer": free_port(), "attestor": free_port()}
        addresses = {daemon: f"--health-address=127.0.0.1:{port}" for daemon, port in self.ports.items()}
        super().__init__(directory, addresses["issuer"], attestor_options=(addresses["attestor"],))

    def socket(self, daemon: str) -> Path:
        return {"issuer": self.admin, "attestor": self.workload}[daemon]

    def until(self, daemon: str, holds: Callable[[str], bool]) -> str:
        """What /ready says, once that holds; the test's own time limit is the end of that."""
        while not holds(page := self.page(self.ports[daemon], "/ready")):
            pass
        return page

    def healthcheck(self, daemon: str) -> int:
        address = f"unix://{self.workload}" if daemon == "attestor" else str(self.admin)
        return self.run(daemon, "healthcheck", f"--socket={address}").returncode


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    world = Watched(tmp_path_factory.mktemp("w"))
    with world.running():
        yield world


DAEMONS = pytest.mark.parametrize("daemon", ["issuer", "attestor"])


def is_reached(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(os.fspath(path)) == 0


@contextmanager
def taken(path: Path) -> Iterator[int]:
    """Another process serves the path; its pid."""
    with Child([sys.executable, "-c", THIEF, str(path)], stdin=-1, stdout=-1, text=True) as thief:
        assert thief.stdout is not None
        assert thief.stdout.readline() == "listening\n"
        yield thief.pid


@DAEMONS
@pytest.mark.parametrize("remove", [Path.unlink, lambda path: shutil.rmtree(path.parent)], ids=["file", "directory"])
def test_a_socket_that_is_removed_is_bound_again(world: Watched, daemon: str, remove: Callable[[Path], None]) -> None:
    path = world.socket(daemon)
    mode, directory = path.stat().st_mode, path.parent.stat().st_mode
    remove(path)
    while not is_reached(path):
        pass
    world.until(daemon, lambda page: page == "ok\n")
    assert world.healthcheck(daemon) == 0
    assert (path.stat().st_mode, path.parent.stat().st_mode) == (mode, directory)


def test_open_connections_outlive_the_socket(world: Watched) -> None:
    with X509Source(f"unix://{world.workload}") as source:
        with taken(world.workload):
            world.until("attestor", lambda page: page != "ok\n")
            world.entry("/later", "/nodes", f"unix:uid:{os.getuid()}")
            while len(source.context.svids) < 2:
                pass
        world.until("attestor", lambda page: page == "ok\n")
        assert len(source.context.svids) == 2


@DAEMONS
def test_a_daemon_whose_socket_another_process_took_is_not_ready_and_says_who_has_it(
    world: Watched, daemon: str
) -> None:
    path = world.socket(daemon)
    with taken(path) as pid:
        said = world.until(daemon, lambda page: page != "ok\n")
        assert f"{path} was taken by pid {pid} of uid {os.getuid()}: end that process" in said
        assert world.healthcheck(daemon) != 0
    world.until(daemon, lambda page: page == "ok\n")
    assert world.healthcheck(daemon) == 0


@pytest.mark.parametrize("command", ["evict", "ban"])
def test_the_attestor_of_a_node_that_was_sent_away_is_not_ready(tmp_path: Path, command: str) -> None:
    world = Watched(tmp_path)
    with world.running():
        assert world.healthcheck("attestor") == 0
        (node,) = world.listed("node", "nodes")
        world.command("node", command, str(node["name"]))
        reason = {"evict": "evicted", "ban": "banned"}[command]
        assert f"node: the issuer sent this node away ({reason})" in world.until(
            "attestor", lambda page: "sent this node away" in page
        )
        while world.healthcheck("attestor") == 0:
            pass
