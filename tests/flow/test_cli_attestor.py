"""Issuer and attestor apart, joined by an invite, as an operator runs them."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rig.daemons import COGNOMEN, Daemon
from cognomen.process.privatefile import write_private

ME = f"unix:uid:{os.geteuid()}"


class Machine:
    """A directory with an issuer and an attestor; the paths have a space, and a sign that means something in URIs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "a %41"
        self.directory.mkdir(mode=0o700)
        self.environment = {"COGNOMEN_ADMIN_SOCKET": str(self.directory / "admin" / "s")}
        self.issuer = self.daemon(
            "issuer",
            "run",
            "--config",
            self.config("issuer", trust_domain="example.org", state_dir="state", admin_socket="admin/s"),
        )
        self.attestor_config = self.config("attestor", state_dir="node", workload_socket="run/s")

    def config(self, daemon: str, **keys: str) -> str:
        path = self.directory / f"{daemon}.toml"
        lines = [
            f'{key} = "{value if key == "trust_domain" else self.directory / value}"' for key, value in keys.items()
        ]
        lines += ['node_address = "127.0.0.1:0"', 'join_address = "127.0.0.1:0"'] if daemon == "issuer" else []
        path.write_text("\n".join(lines))
        return str(path)

    def daemon(self, name: str, *arguments: str) -> Daemon:
        ready = "COGNOMEN_ADMIN_SOCKET=" if name == "issuer" else "SPIFFE_ENDPOINT_SOCKET="
        return Daemon([name, *arguments], log=self.directory / f"{name}.log", ready=ready)

    def attestor(self, *arguments: str) -> Daemon:
        return self.daemon("attestor", "run", "--config", self.attestor_config, *arguments)

    def command(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COGNOMEN, *arguments], env={**os.environ, **self.environment},
            input=text, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip

    def document(self, *arguments: str) -> dict[str, list[dict[str, object]]]:
        done = self.command(*arguments, "--output", "json")
        assert done.returncode == 0, done.stderr
        found: dict[str, list[dict[str, object]]] = json.loads(done.stdout)
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    with made.issuer:
        yield made


def test_an_invite_a_node_group_and_an_entry_give_a_workload_its_identity(machine: Machine) -> None:
    invite = machine.command("node", "invite", "--label", "team=travel").stdout
    write_private(machine.directory / "invite", invite.encode())
    machine.document(
        "entry", "create", "--parent", "/cognomen/issuer", "--spiffe-id", "/nodes/travel",
        "--selector", "join_token:label:team:travel",
    )  # fmt: skip
    machine.document("entry", "create", "--parent", "/nodes/travel", "--spiffe-id", "/web", "--selector", ME)
    attestor = machine.attestor("--invite", str(machine.directory / "invite"))
    machine.environment["SPIFFE_ENDPOINT_SOCKET"] = attestor.start().partition("=")[2]
    for _ in range(2):  # the second time without an invite
        assert [one["spiffe_id"] for one in machine.document("fetch", "x509")["svids"]] == ["spiffe://example.org/web"]
        nodes = machine.document("node", "list")["nodes"]
        assert [node["selectors"] for node in nodes] == [["join_token:label:team:travel"]]
        shown = machine.document("node", "show", str(nodes[0]["id"]))
        goes_on = {"last_seen", "acknowledged"}  # while the node calls
        assert {key for key, value in nodes[0].items() if shown[key] != value} <= goes_on
        assert shown.keys() == nodes[0].keys()
        assert attestor.stop() == 0
        attestor = machine.attestor()
        attestor.start()
    ledger = machine.document("svid", "list", "--spiffe-id", "/web")["credentials"]
    assert {one["state"] for one in ledger} == {"issued"}
    assert attestor.stop() == 0


def test_an_attestor_that_never_joined_asks_for_an_invite(machine: Machine) -> None:
    done = machine.command("attestor", "run", "--config", machine.attestor_config)
    assert (done.returncode, done.stdout) == (4, "")
    assert "error: node: it has never joined, and there is no invite\nhint: make a new invite" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_invite_of_another_trust_domain_is_refused(machine: Machine) -> None:
    invite = machine.command("node", "invite").stdout
    done = machine.command(
        "attestor",
        "run",
        "--config",
        machine.attestor_config,
        "--trust-domain",
        "other.test",
        "--invite",
        "-",
        text=invite,
    )
    assert done.returncode == 1
    assert "error: invite: expected the trust domain other.test, found example.org" in done.stderr


def test_an_invite_that_another_node_used_is_refused(machine: Machine) -> None:
    invite = machine.command("node", "invite").stdout
    write_private(machine.directory / "invite", invite.encode())
    with machine.attestor("--invite", str(machine.directory / "invite")):
        other = machine.config("other", state_dir="node2", workload_socket="run2/s")
        done = machine.command("attestor", "run", "--config", other, "--invite", "-", text=invite)
    assert done.returncode == 5
    assert "error: issuer: join token: already used by another key\nhint: make a new invite with: " in done.stderr
    assert "Traceback" not in done.stderr
    assert len(machine.document("node", "list")["nodes"]) == 1
