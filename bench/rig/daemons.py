"""Real daemons in separate processes, for benches and tests: started by the command, ready when they say so."""

import contextlib
import json
import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

READY_SECONDS = 30  # as long as `cognomen dev` tries
STOP_SECONDS = 15
COGNOMEN = (sys.executable, "-m", "cognomen")
_PORTS = range(
    10_000, 20_000
)  # below Linux's ip_local_port_range, and below those of `cognomen dev`, which it takes again later
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of loopback that is free now, and that this process has not been given before.

    It is none of those that the kernel gives to whoever connects: on a busy machine, one of them is taken before it is used.
    """
    while True:
        port = secrets.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


class Daemon:
    """A child that prints a line that begins with `ready` when it is ready; it ends with the block."""

    def __init__(
        self, arguments: Sequence[str], *, log: Path, ready: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self._arguments = arguments
        self._ready = ready
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self._child: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Start it and return the line with which it said that it is ready."""
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        with self._log.open("a") as log:
            child = subprocess.Popen(
                [*COGNOMEN, *self._arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._child = child

        def listen() -> None:
            for line in child.stdout or ():
                lines.put(line.strip())
            lines.put("")

        threading.Thread(target=listen, daemon=True).start()
        with contextlib.ExitStack() as unless_ready:
            unless_ready.callback(self.kill)
            while line := lines.get(timeout=READY_SECONDS):
                if line.startswith(self._ready):
                    unless_ready.pop_all()
                    return line
            raise AssertionError(f"ended before it was ready: {self.log()}")

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._child is not None
        return self._child.pid

    def log(self) -> str:
        """What it wrote to standard error so far."""
        return self._log.read_text()

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        return self._end(signal.SIGTERM)

    def interrupt(self) -> int:
        """Ctrl-C, and its exit code."""
        return self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> int:
        if self._child is None:
            return 0
        child, self._child = self._child, None
        child.send_signal(number)
        try:
            return child.wait(timeout=STOP_SECONDS)
        finally:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Dev(Daemon):
    """`cognomen dev` in its own directory."""

    def __init__(self, directory: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.state = directory / "state"
        self.socket = directory / "api.sock"
        options = ("dev", "--state", str(self.state), "--socket", str(self.socket), *arguments)
        super().__init__(options, log=directory / "log", ready="SPIFFE_ENDPOINT_SOCKET=", environment=environment)
        self.environment = {
            **os.environ,
            **(environment or {}),
            "SPIFFE_ENDPOINT_SOCKET": f"unix://{self.socket}",
        }

    def admin(self, *arguments: str) -> dict[str, list[dict[str, object]]]:
        """The output of a command of the admin socket."""
        socket = str(self.state / "admin" / "issuer.sock")
        found: dict[str, list[dict[str, object]]] = json.loads(
            self.command(*arguments, "--output", "json", "--socket", socket)
        )
        return found

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the command against this socket."""
        return subprocess.run(
            [*COGNOMEN, *arguments], env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )

    def command(self, *arguments: str) -> str:
        """Run the command against this socket and return what it printed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout
