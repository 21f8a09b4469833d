"""A real Vault on loopback: in memory, behind TLS by an authority of the web, unsealed, with a key-value store at `secret`."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.rig.child import running
from bench.rig.daemons import free_port
from bench.rig.webca import WebAuthority
from svid.encoding import JSON, json_object
from tests.doubles.project import ROOT

__all__ = ["VAULT", "Vault", "vault"]

VAULT = ROOT / ".venv-vault" / "vault"
_COGNOMEN = Path(sys.executable).parent
_SECONDS = 30


class Vault:
    """One that runs.

    Attributes:
        address: as VAULT_ADDR.
        root: the token of who set it up.
    """

    def __init__(self, port: int, directory: Path, authority: WebAuthority) -> None:
        self.address = f"https://localhost:{port}"
        self.root = ""
        self.authority = authority
        self._port = port
        self._directory = directory

    def ask(
        self, method: str, path: str, body: Mapping[str, JSON] | None = None, *, token: str = ""
    ) -> tuple[int, JSON]:
        """Call its API as any client of HTTP does: the status, and the answer, which may be empty."""
        connection = http.client.HTTPSConnection(
            "localhost", self._port, timeout=_SECONDS, context=self.authority.client_context()
        )
        headers = {"X-Vault-Token": token} if token else {}
        connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        found = answer.read()
        connection.close()
        return answer.status, dict(json_object(found)) if found else {}

    def write(self, path: str, body: Mapping[str, JSON]) -> JSON:
        """As root."""
        status, found = self.ask("PUT", path, body, token=self.root)
        assert status in (200, 204), found
        return found

    def typed(self, script: str, *, is_root: bool = True, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run lines of a shell as an administrator types them, or somebody without a token: `vault` and `cognomen` are on the path."""
        environment = {
            **os.environ,
            "PATH": f"{VAULT.parent}:{_COGNOMEN}:{os.environ['PATH']}",
            "HOME": str(self._directory),  # where `vault login` would keep a token
            "VAULT_ADDR": self.address,
            "VAULT_CACERT": str(self.authority.path),
            **({"VAULT_TOKEN": self.root} if is_root else {}),
            **variables,
        }
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self._directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return self.ask("GET", "sys/health")[0] > 0
        except OSError:
            return False

    def set_up(self) -> None:
        """Initialise and unseal it, and give it a key-value store."""
        status, made = self.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        assert status == 200, made
        assert isinstance(made, dict)
        self.root, keys = str(made["root_token"]), made["keys"]
        assert isinstance(keys, list)
        assert self.ask("PUT", "sys/unseal", {"key": keys[0]})[0] == 200
        while self.ask("GET", "sys/health")[0] != 200:  # it becomes active a moment later
            pass
        self.write("sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        while self.ask("PUT", "secret/data/first", {"data": {}}, token=self.root)[0] != 200:  # not before it is ready
            pass


@contextmanager
def vault(directory: Path) -> Iterator[Vault]:
    """Run one that keeps nothing."""
    directory.mkdir()
    port, authority = free_port(), WebAuthority(directory)
    listener = {
        "address": f"127.0.0.1:{port}",
        "tls_cert_file": str(authority.identity),
        "tls_key_file": str(authority.identity),
    }
    settings = {"storage": {"inmem": {}}, "listener": {"tcp": listener}, "disable_mlock": True}
    (directory / "vault.json").write_text(json.dumps(settings))
    one = Vault(port, directory, authority)
    log, environment = directory / "log", {"HOME": str(directory), "PATH": os.environ["PATH"]}
    with running([str(VAULT), "server", f"-config={directory}/vault.json"], log, environment) as child:
        while not one.is_up():
            assert child.poll() is None, log.read_text()
        one.set_up()
        yield one
