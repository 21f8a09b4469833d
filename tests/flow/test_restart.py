"""Daemons restarted by a supervisor that holds their Unix sockets, as systemd does: nobody's connection is refused."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from bench.rig.daemons import COGNOMEN, READY_SECONDS, STOP_SECONDS, free_port
from svid.workloadapi.sources import X509Source

RESTARTS = 3


class Supervisor:
    """Holds one listening socket, starts a daemon with it, and hears what that says."""

    def __init__(self, directory: Path, name: str, path: Path, *arguments: str, mode: int = 0o600) -> None:
        self.path = path
        self._log = directory / f"{name}.log"
        self._arguments = arguments
        path.parent.mkdir(mode=0o700, exist_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        path.chmod(mode)
        self._socket.listen(64)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(directory / f"{name}.notify"))
        self._notify.settimeout(READY_SECONDS)
        self._child: subprocess.Popen[bytes] | None = None
        self.heard: list[str] = []

    def start(self, *more: str) -> None:
        """Start the daemon, and wait until it says that it is ready."""
        self.launch(*more)
        while self._hear() != "READY=1":
            pass

    def launch(self, *more: str) -> "subprocess.Popen[bytes]":
        """Start the daemon, which must find its own pid in LISTEN_PID."""
        give = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
            " os.execv(sys.argv[2], sys.argv[2:])"
        )
        number = self._socket.fileno()
        with self._log.open("a") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-c", give, str(number), *COGNOMEN, *self._arguments, *more],
                env={
                    **os.environ,
                    "LISTEN_FDS": "1",
                    "NOTIFY_SOCKET": self._notify.getsockname(),
                    "WATCHDOG_USEC": "10000000",
                },
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self._child

    def stop(self, number: signal.Signals) -> None:
        assert self._child is not None
        self._child.send_signal(number)
        self._child.wait(timeout=STOP_SECONDS)

    def log(self) -> str:
        return self._log.read_text()

    def _hear(self) -> str:
        self.heard.append(self._notify.recv(1024).decode())
        return self.heard[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._socket.close()
        self._notify.close()


@contextmanager
def asking(ask: Callable[[], None]) -> Iterator[list[str]]:
    """Ask again and again, from a thread; gives what failed, and at least one answer must come after the block's end."""
    failures: list[str] = []
    stop, answered = threading.Event(), threading.Event()

    def loop() -> None:
        while not stop.is_set():
            try:
                ask()
                answered.set()
            except Exception as e:  # noqa: BLE001 - whatever it is, it is a failure
                failures.append(repr(e))

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        assert answered.wait(READY_SECONDS)
        yield failures
        answered.clear()
        assert answered.wait(READY_SECONDS)
    finally:
        stop.set()
        thread.join()


def connecting(path: Path) -> Callable[[], None]:
    """Connect and leave: what a restart without a held socket would refuse."""

    def ask() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(READY_SECONDS)
            sock.connect(str(path))
            sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
            assert sock.recv(1), "closed without an answer"

    return ask


def ready(address: str) -> str:
    """What /ready says, whatever its status."""
    connection = http.client.HTTPConnection(address, timeout=READY_SECONDS)
    connection.request("GET", "/ready")
    text = connection.getresponse().read().decode()
    connection.close()
    return text


@pytest.fixture
def issuer(tmp_path: Path) -> Iterator[Supervisor]:
    admin = tmp_path / "admin" / "s"
    arguments = ("issuer", "run", "--trust-domain=example.org", f"--state={tmp_path}/issuer", f"--admin-socket={admin}")
    doors = [f"--{door}-address=127.0.0.1:{free_port()}" for door in ("node", "join")]
    with Supervisor(tmp_path, "issuer", admin, *arguments, *doors) as supervisor:
        supervisor.start()
        yield supervisor


@pytest.fixture
def attestor(tmp_path: Path, issuer: Supervisor) -> Iterator[Supervisor]:
    def command(*arguments: str) -> None:
        done = subprocess.run(
            [*COGNOMEN, *arguments, f"--socket={issuer.path}"], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr

    invite = tmp_path / "invite"
    command("node", "invite", "--label=a=b", f"--write={invite}")
    command("entry", "create", "--spiffe-id=/nodes", "--parent=/cognomen/issuer", "--selector=join_token:label:a:b")
    command("entry", "create", "--spiffe-id=/web", "--parent=/nodes", f"--selector=unix:uid:{os.getuid()}")
    path = tmp_path / "run" / "s"
    arguments = ("attestor", "run", f"--state={tmp_path}/attestor", f"--workload-socket={path}")
    with Supervisor(tmp_path, "attestor", path, *arguments, mode=0o666) as supervisor:
        supervisor.start(f"--invite={invite}")
        yield supervisor


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_an_issuer_that_is_restarted_refuses_no_operator(issuer: Supervisor, number: signal.Signals) -> None:
    with asking(connecting(issuer.path)) as failures:
        for _ in range(RESTARTS):
            issuer.stop(number)
            issuer.start()
    assert len(failures) <= RESTARTS, failures  # who was being answered when it was stopped
    assert not [failure for failure in failures if "Refused" in failure or "FileNotFound" in failure]
    assert "WATCHDOG=1" in issuer.heard
    assert ("STOPPING=1" in issuer.heard) is (number is signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_an_attestor_that_is_restarted_refuses_no_workload(attestor: Supervisor, number: signal.Signals) -> None:
    with asking(connecting(attestor.path)) as failures:
        for _ in range(RESTARTS):
            attestor.stop(number)
            attestor.start()
    assert len(failures) <= RESTARTS, failures
    assert not [failure for failure in failures if "Refused" in failure or "FileNotFound" in failure]
    with X509Source(f"unix://{attestor.path}") as source:  # it keeps asking until the attestor is in step again
        assert str(source.svid.spiffe_id) == "spiffe://example.org/web"


def test_an_attestor_that_joined_is_ready_while_its_issuer_is_away(issuer: Supervisor, attestor: Supervisor) -> None:
    issuer.stop(signal.SIGTERM)
    attestor.stop(signal.SIGTERM)
    attestor.start()
    connecting(attestor.path)()


def test_an_issuer_whose_socket_is_gone_from_its_place_says_which_unit_brings_it_back(issuer: Supervisor) -> None:
    page = f"127.0.0.1:{free_port()}"
    issuer.stop(signal.SIGTERM)
    issuer.start(f"--health-address={page}")
    assert ready(page) == "ok\n"
    issuer.path.rename(aside := issuer.path.with_name("aside"))
    while (said := ready(page)) == "ok\n":
        pass
    restart = "restart the unit that holds it: systemctl restart cognomen-issuer.socket"
    assert said == f"admin socket: {issuer.path} was removed: {restart}\n"
    aside.rename(issuer.path)
    while ready(page) != "ok\n":
        pass


def test_a_socket_that_the_configuration_does_not_name_is_refused(tmp_path: Path) -> None:
    arguments = ("issuer", "run", "--trust-domain=example.org", f"--state={tmp_path}/issuer")
    elsewhere = [f"--admin-socket={tmp_path}/admin/other", "--node-address=127.0.0.1:0", "--join-address=127.0.0.1:0"]
    with Supervisor(tmp_path, "issuer", tmp_path / "admin" / "s", *arguments, *elsewhere) as supervisor:
        assert supervisor.launch().wait(timeout=READY_SECONDS) == 1
        assert "handed over by systemd, but not named in the configuration" in supervisor.log()


def test_an_admin_socket_that_everybody_may_open_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "admin" / "s"
    arguments = ("issuer", "run", "--trust-domain=example.org", f"--state={tmp_path}/issuer", f"--admin-socket={path}")
    addresses = ["--node-address=127.0.0.1:0", "--join-address=127.0.0.1:0"]
    with Supervisor(tmp_path, "issuer", path, *arguments, *addresses, mode=0o666) as supervisor:
        assert supervisor.launch().wait(timeout=READY_SECONDS) == 1
        assert "SocketMode=0600" in supervisor.log()
