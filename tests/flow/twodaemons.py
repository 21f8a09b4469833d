"""An issuer and an attestor in processes of their own, on free ports, and the command beside them."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from svid.workloadapi.sources import X509Source
from tests.flow.daemons import COGNOMEN, Daemon, free_port


class World:
    """Both daemons, not started yet."""

    def __init__(self, directory: Path, *issuer_options: str, attestor_options: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self.admin = directory / "admin" / "s"
        self.workload = directory / "run" / "s"
        doors = [f"--{door}-address=127.0.0.1:{free_port()}" for door in ("node", "join")]
        self._options = (
            f"--admin-socket={self.admin}",
            "--audit-checkpoint-interval=1s",
            "--disk-reserve-mib=1",
            *doors,
            *issuer_options,
        )
        self.issuer_arguments = self._issuer_arguments(directory / "issuer")
        self.issuer = self.issuer_on(directory / "issuer")
        arguments = ("attestor", "run", f"--state={directory}/attestor", f"--workload-socket={self.workload}")
        invite = f"--invite={directory}/invite"
        self.attestor_arguments = (*arguments, *attestor_options)
        self.attestor = Daemon(
            [*self.attestor_arguments, invite], log=directory / "attestor.log", ready="SPIFFE_ENDPOINT_SOCKET="
        )

    def issuer_on(self, state: Path) -> Daemon:
        arguments = self._issuer_arguments(state)
        return Daemon(arguments, log=self.directory / "issuer.log", ready="COGNOMEN_ADMIN_SOCKET=")

    def _issuer_arguments(self, state: Path) -> tuple[str, ...]:
        return ("issuer", "run", "--trust-domain=example.org", f"--state={state}", *self._options)

    @property
    def environment(self) -> dict[str, str]:
        """That of commands."""
        return {**os.environ, "COGNOMEN_ADMIN_SOCKET": str(self.admin)}

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COGNOMEN, *arguments], env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Run a command that somebody may interrupt."""
        return subprocess.Popen(
            [*COGNOMEN, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def command(self, *arguments: str) -> dict[str, object]:
        done = self.run(*arguments, "--output=json")
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def entry(self, path: str, parent: str, selector: str) -> None:
        self.command("entry", "create", f"--spiffe-id={path}", f"--parent={parent}", f"--selector={selector}")

    def checkpoints(self) -> Path:
        """The attestor's file, once it has one."""
        path = self.directory / "attestor" / "checkpoints.jsonl"
        for _ in range(400):
            if path.exists():
                return path
            with X509Source(f"unix://{self.workload}"):  # takes its time
                pass
        raise AssertionError("no checkpoint came")

    @contextmanager
    def attestor_that_waits(self, *options: str) -> Iterator[None]:
        """The attestor, which may have no issuer to join or to be in step with: nobody waits until it is ready."""
        child = subprocess.Popen(
            [*COGNOMEN, *self.attestor_arguments, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield
        finally:
            child.kill()
            child.wait()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Both run, and this user's programs are /web."""
        with self.issuer:
            self.command("node", "invite", "--label=a=b", f"--write={self.directory}/invite")
            self.entry("/nodes", "/cognomen/issuer", "join_token:label:a:b")
            self.entry("/web", "/nodes", f"unix:uid:{os.getuid()}")
            with self.attestor:
                yield
