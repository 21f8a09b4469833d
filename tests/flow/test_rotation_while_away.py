"""Two rotations while a node is away: the second one names the node it would cut off, and a node that was cut off says what to type."""

import re
import shlex
from pathlib import Path

import pytest

from svid.workloadapi.sources import X509Source
from tests.flow.test_rotation_in_outage import active_authority
from tests.flow.twodaemons import World

pytestmark = pytest.mark.timeout(180)  # two daemons, and a dozen commands on a busy machine


def rotate(world: World, *options: str) -> None:
    """Rotate, and wait until the next authority signs and another is published."""
    before = active_authority(world)
    world.command("authority", "rotate", "x509", *options)
    while active_authority(world) == before:
        pass


def node_id(world: World) -> str:
    nodes = world.command("node", "list")["nodes"]
    assert isinstance(nodes, list)
    (node,) = nodes
    return str(node["id"])


def trouble(world: World) -> str:
    """What the attestor says of its feed, once it does."""
    while True:
        told = world.run("status", "attestor", f"--socket={world.workload}").stdout
        if found := re.search(r"^feed +.* ago +(?P<reason>issuer: .*)$", told, re.MULTILINE):
            return found["reason"]


def test_a_node_that_would_be_cut_off_is_named_and_comes_back_as_its_attestor_says(tmp_path: Path) -> None:
    world = World(tmp_path, "--authority-spread=1s")
    with world.issuer:
        world.join()
        node = node_id(world)
        # 1. It knows the authority that signs next, and not the one after that.
        rotate(world)
        refused = world.run("authority", "rotate", "x509")
        assert refused.returncode
        assert f"found 1 that cannot: {node}" in refused.stderr
        assert "add --force" in refused.stderr
        # 2. The operator accepts it; the node says why it cannot come back, and what to do.
        rotate(world, "--force")
        with world.attestor_that_waits():
            reason = trouble(world)
        assert "this node does not know its authority" in reason
        invite, rejoin = re.findall(r"cognomen ([a-z]+ [a-z]+ (?:--[a-z-]+ [A-Z]+ ?)+)", reason)
        # 3. Typed as it stands there.
        names = {"ID": node, "FILE": str(tmp_path / "again"), "CONFIG": str(tmp_path / "attestor.toml")}
        (tmp_path / "attestor.toml").write_text(f'state_dir = "{tmp_path}/attestor"\n')
        (tmp_path / "attestor.toml").chmod(0o600)
        made = world.run(*(names.get(word, word) for word in shlex.split(invite)))
        assert made.returncode == 0, made.stderr
        (tmp_path / "again").write_text(made.stdout)
        (tmp_path / "again").chmod(0o600)
        joined = world.run(*(names.get(word, word) for word in shlex.split(rejoin)))
        assert joined.returncode == 0, joined.stderr
        assert joined.stdout.strip().endswith(node), "it is the same node"
        with world.attestor_that_waits(), X509Source(f"unix://{world.workload}") as source:
            assert str(source.svid.spiffe_id) == "spiffe://example.org/web"
