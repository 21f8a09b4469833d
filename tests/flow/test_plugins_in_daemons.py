"""Daemons with adapters of another package.

A node that proves an identity of the machine's own, a workload known by its control group, and authorities below a root.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.verification import PolicyBuilder, Store

from bench.rig.daemons import COGNOMEN, free_port
from cognomen.protocol.readmission import THEN_REJOIN
from svid.bundle import Bundle
from svid.clock import SystemClock
from svid.spiffeid import TrustDomain
from svid.workloadapi.sources import X509Source
from svid.x509svid import X509SVID, verify
from tests.doubles.handshakes import called
from tests.doubles.installed import install
from tests.doubles.project import ROOT
from tests.doubles.stocktls import stock_context
from tests.flow.twodaemons import World

TD = TrustDomain("example.org")
NODE = "spiffe://example.org/cognomen/node/hardware_key/machine-1"
DOUBLES = {
    "cognomen.issuer.node_attestors": {"hardware_key": "tests.doubles.hardwarekey:ISSUER_PLUGIN"},
    "cognomen.attestor.node_attestors": {"hardware_key": "tests.doubles.hardwarekey:NODE_PLUGIN"},
    "cognomen.attestor.workload_attestors": {"cgroup": "tests.doubles.cgroup:PLUGIN"},
    "cognomen.issuer.upstream_authorities": {"with_intermediate": "tests.doubles.upstream:PLUGIN"},
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """In which the doubles are installed."""
    return {"PYTHONPATH": f"{install(tmp_path / 'site', DOUBLES)}{os.pathsep}{ROOT}"}


class ByIdentity:
    """A world in which the node proves itself by a key of its machine's own."""

    def __init__(
        self,
        directory: Path,
        environment: dict[str, str],
        *,
        can_reattest: bool,
        node_attestors: str = "join_token,hardware_key",
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        (directory / "machine.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (directory / "issuer.toml").write_text(
            f"[plugins.node_attestors.hardware_key]\ncan_reattest = {str(can_reattest).lower()}\n"
            f"machines.machine-1 = '''{pem}'''\n"
        )
        (directory / "attestor.toml").write_text(
            f'[plugins.node_attestor.hardware_key]\nmachine = "machine-1"\nkey_file = "{directory}/machine.pem"\n'
        )
        self.world = World(
            directory,
            f"--node-attestors={node_attestors}",
            f"--config={directory}/issuer.toml",
            attestor_options=("--node-attestor=hardware_key", f"--config={directory}/attestor.toml"),
            environments=(environment, environment),
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        world = self.world
        with world.issuer:
            world.entry("/machines", "/cognomen/issuer", "hardware_key:zone:a")
            world.entry("/web", "/machines", f"unix:uid:{os.getuid()}")
            self.invite()
            with world.attestor:
                yield

    def invite(self) -> None:
        """Say where the issuer is; this node needs no token."""
        self.world.command("node", "invite", "--without-token", f"--write={self.world.directory}/invite")

    def node(self) -> dict[str, object]:
        (node,) = self.world.listed("node", "nodes")
        return node

    def forget(self) -> None:
        """Stop the attestor, and take away all that it has."""
        self.world.attestor.stop()
        (self.world.directory / "attestor").rename(self.world.directory / "taken-away")
        (self.world.directory / "invite").unlink()
        self.invite()


def test_a_machine_joins_by_its_own_identity_and_its_programs_get_theirs(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    house = ByIdentity(tmp_path, environment, can_reattest=True)
    with house.running():
        with X509Source(f"unix://{house.world.workload}") as source:
            assert str(source.svid.spiffe_id) == "spiffe://example.org/web"
        node = house.node()
        assert (node["spiffe_id"], node["attestor"]) == (NODE, "hardware_key")
        house.forget()
        house.world.attestor.start()
        again = house.node()
        assert again["spiffe_id"] == NODE
        assert again["current_serial"] != node["current_serial"]
        with X509Source(f"unix://{house.world.workload}") as source:
            assert str(source.svid.spiffe_id) == "spiffe://example.org/web"


def test_a_machine_that_may_prove_itself_once_needs_an_operator_to_come_back(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    house = ByIdentity(tmp_path, environment, can_reattest=False)
    with house.running():
        before = house.node()
        house.forget()
        with pytest.raises(AssertionError, match="vouches for a machine only once") as refused:
            house.world.attestor.start()
        assert house.node()["current_serial"] == before["current_serial"]
        # The hint works.
        assert "cognomen node evict ID" in str(refused.value)
        house.world.command("node", "evict", "machine-1")
        house.world.attestor.start()
        after = house.node()
        assert after["spiffe_id"] == NODE
        assert after["current_serial"] not in {"", before["current_serial"]}


def test_a_machine_that_proves_an_identity_comes_back_as_the_hint_says(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    house = ByIdentity(tmp_path, environment, can_reattest=True)
    with house.running():
        before = house.node()
        refused = house.world.run("node", "invite", "--node=machine-1")
        assert refused.returncode != 0
        assert f"cognomen node invite --without-token; {THEN_REJOIN}" in refused.stderr
        house.world.attestor.stop()
        (tmp_path / "invite").unlink()
        house.invite()
        rejoin = ["attestor", "rejoin", f"--state={tmp_path}/attestor", f"--invite={tmp_path}/invite"]
        options = ["--node-attestor=hardware_key", f"--config={tmp_path}/attestor.toml"]
        both = {**house.world.environment, **environment}
        done = subprocess.run(
            [*COGNOMEN, *rejoin, *options], env=both, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode, done.stdout) == (0, f"{NODE}\n"), done.stderr
        house.world.attestor.start()
        assert house.node()["current_serial"] != before["current_serial"]


def test_no_token_is_made_that_nobody_takes_and_none_for_a_machine_that_proves_more(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    house = ByIdentity(tmp_path, environment, can_reattest=True, node_attestors="hardware_key")
    with house.running():
        assert house.node()["spiffe_id"] == NODE
        refused = house.world.run("node", "invite")
        assert refused.returncode != 0
        assert "expected join_token among them, which takes tokens, found hardware_key" in refused.stderr
        assert (
            "hint: for a node that proves an identity of its own: cognomen node invite --without-token"
            in refused.stderr
        )
        refused = house.world.run("node", "invite", "--without-token", "--label=a=b")
        assert "expected no labels, node_id and ttl beside it" in refused.stderr


def test_a_workload_is_known_by_what_an_attestor_of_another_package_sees(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "proc" / str(os.getpid())).mkdir(parents=True)
    (tmp_path / "proc" / str(os.getpid()) / "cgroup").write_text("0::/agents/reasoning\n")
    (tmp_path / "attestor.toml").write_text(f'[plugins.workload_attestors.cgroup]\nproc = "{tmp_path}/proc"\n')
    options = ("--workload-attestors=unix,cgroup", f"--config={tmp_path}/attestor.toml")
    world = World(tmp_path, attestor_options=options, environments=({}, environment))
    with world.running():
        world.entry("/reasoning", "/nodes", "cgroup:path:/agents/reasoning")
        world.entry("/planning", "/nodes", "cgroup:path:/agents/planning")
        with X509Source(f"unix://{world.workload}") as source:
            while len(source.context.svids) < 2:
                world.listed("node", "nodes")  # takes its time
            found = {str(one.spiffe_id) for one in source.context.svids}
    assert found == {"spiffe://example.org/web", "spiffe://example.org/reasoning"}


def test_a_workload_attestor_that_fails_is_reported_until_it_answers_again(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    shown = tmp_path / "proc" / str(os.getpid()) / "cgroup"
    shown.parent.mkdir(parents=True)
    shown.write_bytes(b"0::/agents/\xff\n")  # it expects UTF-8
    (tmp_path / "attestor.toml").write_text(f'[plugins.workload_attestors.cgroup]\nproc = "{tmp_path}/proc"\n')
    port = free_port()
    options = ("--workload-attestors=unix,cgroup", f"--config={tmp_path}/attestor.toml")
    world = World(
        tmp_path,
        attestor_options=(*options, f"--health-address=127.0.0.1:{port}"),
        environments=({}, environment),
    )
    with world.running():
        world.entry("/reasoning", "/nodes", "cgroup:path:/agents/reasoning")
        why = ("why", f"--socket={world.workload}", f"--pid={os.getpid()}")
        while (done := world.run(*why)).returncode == 0:
            pass  # until the entry has come, which needs that fact
        assert done.returncode == 3
        assert "workload attestor cgroup failed: UnicodeDecodeError" in done.stderr
        status = ("status", "attestor", f"--socket={world.workload}")
        told = world.run(*status)
        assert told.returncode == 1
        assert "workload attestor cgroup" in told.stdout
        assert world.page(port, "/ready") == "workload attestor cgroup: failed: UnicodeDecodeError\n"
        shown.write_text("0::/agents/reasoning\n")
        assert world.run(*why).returncode == 0
        assert world.run(*status).returncode == 0
        assert world.page(port, "/ready") == "ok\n"


def stock_verify(svid: X509SVID, bundle: Bundle) -> int:
    """How long the path is that a stock verifier finds to what the bundle holds."""
    at = datetime.now(UTC).replace(tzinfo=None)  # noqa: TID251 - as a stock program would
    verifier = PolicyBuilder().store(Store(list(bundle.x509_authorities))).time(at).build_client_verifier()
    return len(verifier.verify(svid.chain[0], list(svid.chain[1:])).chain)


def test_below_an_intermediate_everything_is_verified_by_the_root_alone(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    world = World(
        tmp_path,
        "--upstream-authority=with_intermediate",
        "--authority-lifetime=60s",
        "--authority-spread=1s",
        environments=(environment, {}),
    )
    with world.running(), X509Source(f"unix://{world.workload}") as source:
        svid, bundle = source.svid, source.bundle_for(TD)
        # The root alone is in the bundle; a leaf, our authority and the intermediate come along.
        (root,) = bundle.x509_authorities
        assert root.subject == root.issuer
        assert (len(svid.chain), stock_verify(svid, bundle)) == (3, 4)
        # Stock TLS shows the chain, and knows the root, at both ends.
        server, client = [stock_context(source, tmp_path, server_side=side) for side in (True, False)]
        with called(server, client.wrap_socket) as secured:
            assert secured.version() == "TLSv1.3"
        # The next authority takes its place; the bundle stays as it is.
        world.command("authority", "rotate", "x509")
        while source.svid.chain[1] == svid.chain[1]:
            world.listed("authority", "authorities")  # takes its time
        assert source.bundle_for(TD).x509_authorities == (root,)
        for one in (svid, source.svid):
            verify(one.chain, source.bundle_for(TD), at=SystemClock().now())
            assert stock_verify(one, source.bundle_for(TD)) == 4
        assert {one["state"] for one in world.listed("authority", "authorities")} >= {"active", "old"}
        # A node that is started again goes on with its own chain.
        world.attestor.stop()
        world.attestor.start()
        with X509Source(f"unix://{world.workload}") as again:
            assert stock_verify(again.svid, again.bundle_for(TD)) == 4
