"""An issuer and an attestor in processes of their own, on free ports, and the command beside them."""

import http.client
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.rig.child import Child
from bench.rig.daemons import COGNOMEN, Daemon, free_port
from svid.workloadapi.sources import X509Source


class World:
    """Both daemons, not started yet.

    Args:
        environments: what the issuer and the attestor have in theirs, beside this process's own.
        logs: where they write their logs; None: into the directory.
    """

    def __init__(
        self,
        directory: Path,
        *issuer_options: str,
        attestor_options: tuple[str, ...] = (),
        environments: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {}),
        logs: Path | None = None,
    ) -> None:
        self.directory = directory
        self._environments = environments
        self._logs = logs or directory
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
            [*self.attestor_arguments, invite],
            log=self._logs / "attestor.log",
            ready="SPIFFE_ENDPOINT_SOCKET=",
            environment=environments[1],
        )

    def issuer_on(self, state: Path) -> Daemon:
        arguments = self._issuer_arguments(state)
        log, ready = self._logs / "issuer.log", "COGNOMEN_ADMIN_SOCKET="
        return Daemon(arguments, log=log, ready=ready, environment=self._environments[0])

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

    def start(self, *arguments: str, stderr: int = subprocess.PIPE) -> "Child[str]":
        """Run a command that somebody may interrupt."""
        return Child([*COGNOMEN, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=stderr, text=True)

    def command(self, *arguments: str) -> dict[str, object]:
        done = self.run(*arguments, "--output=json")
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def listed(self, noun: str, key: str, *options: str) -> list[dict[str, object]]:
        """What `NOUN list` prints."""
        found = self.command(noun, "list", *options)[key]
        assert isinstance(found, list)
        return found

    def page(self, port: int, path: str) -> str:
        """A page for probes, whatever its status."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", path)
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def until_told(self, what: str) -> str:
        """The reason of a trouble of the issuer, once `status` tells it."""
        for _ in range(100):
            for one in json.loads(self.run("status", "--output=json").stdout)["troubles"]:
                if one["what"] == what:
                    return str(one["reason"])
        raise AssertionError(f"never told: {what}")

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

    def join(self) -> None:
        """Let the attestor join the issuer, which runs, and stop it; this user's programs are /web."""
        with self.joined():
            pass

    @contextmanager
    def running(self) -> Iterator[None]:
        """Both run, and this user's programs are /web."""
        with self.issuer, self.joined():
            yield

    @contextmanager
    def joined(self) -> Iterator[None]:
        """The attestor runs and has joined the issuer, which runs; this user's programs are /web."""
        self.command("node", "invite", "--label=a=b", f"--write={self.directory}/invite")
        self.entry("/nodes", "/cognomen/issuer", "join_token:label:a:b")
        self.entry("/web", "/nodes", f"unix:uid:{os.getuid()}")
        with self.attestor:
            yield
