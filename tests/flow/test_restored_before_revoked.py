"""A backup is restored that is older than the revocation of an authority: the nodes have dropped the one that signs in it."""

import threading
from pathlib import Path

from svid.clock import SystemClock
from svid.spiffeid import TrustDomain
from svid.workloadapi.sources import X509Source
from svid.x509svid import verify
from tests.flow.twodaemons import World

TD = TrustDomain("example.org")


def authority(world: World, state: str) -> str:
    """The key id of the X.509 authority in that state."""
    listed = world.command("authority", "list")["authorities"]
    assert isinstance(listed, list)
    return str(next(one["key_id"] for one in listed if (one["kind"], one["state"]) == ("x509", state)))


def connected(world: World) -> bool:
    return '"nodes_connected": 1' in world.run("status", "--output=json").stdout


def test_the_authority_that_the_nodes_know_is_let_sign_again_and_they_come_back(tmp_path: Path) -> None:
    world, backup = World(tmp_path), tmp_path / "backup.tar"
    with world.running(), X509Source(f"unix://{world.workload}") as source:
        before, first, second = source.svid, authority(world, "active"), authority(world, "next")
        world.command("issuer", "backup", str(backup), f"--state={tmp_path}/issuer")
        world.command("authority", "taint", first)
        while source.svid.leaf.issuer == before.leaf.issuer:
            threading.Event().wait(0.01)
        done = world.run("authority", "revoke", first)
        assert f"{first} left the bundle, and its key is destroyed; {second} signs" in done.stderr
        while any(one.subject == before.chain[0].issuer for one in source.bundle_for(TD).x509_authorities):
            threading.Event().wait(0.01)
        world.issuer.stop()
        restored = world.run("issuer", "restore", str(backup), f"--state={tmp_path}/elsewhere")
        assert "cognomen authority activate" in restored.stderr
        with world.issuer_on(tmp_path / "elsewhere"):
            while "this node does not know its authority" not in world.attestor.log():
                threading.Event().wait(0.01)
            assert (authority(world, "active"), authority(world, "old"), connected(world)) == (first, second, False)
            world.command("authority", "activate", second)
            while not connected(world):
                threading.Event().wait(0.01)
            verify(source.svid.chain, source.bundle_for(TD), at=SystemClock().now())
