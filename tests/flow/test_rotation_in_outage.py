"""An authority rotates while the issuer is killed at it, while its attestor is restarted: nobody has to help."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from svid.clock import SystemClock
from svid.workloadapi.sources import X509Source
from svid.x509svid import verify
from tests.flow.twodaemons import World


def active_authority(world: World) -> object:
    """The key id of the X.509 authority that signs."""
    listed = world.command("authority", "list")["authorities"]
    assert isinstance(listed, list)
    return next(one["key_id"] for one in listed if (one["kind"], one["state"]) == ("x509", "active"))


def test_a_rotation_during_an_outage_during_a_restart_ends_well(tmp_path: Path) -> None:
    world = World(tmp_path, "--authority-spread=1s")
    with world.running(), X509Source(f"unix://{world.workload}") as source, ThreadPoolExecutor(1) as pool:
        before, first = source.svid, active_authority(world)

        def check_source() -> None:
            context = source.context  # one message: an SVID and what vouches for it
            bundle = context.bundles[before.spiffe_id.trust_domain]
            assert verify(context.svids[0].chain, bundle, at=SystemClock().now()) == before.spiffe_id

        # 1. The issuer goes, its attestor is restarted meanwhile: it has the last bundle, and no snapshot yet.
        world.issuer.kill()
        world.attestor.kill()
        starting = pool.submit(world.attestor.start)
        while not world.run("status", "attestor", f"--socket={world.workload}", "--output=json").stdout:
            check_source()
        # 2. The issuer is back for no longer than it takes to begin a rotation, and killed at it.
        world.issuer.start()
        world.command("authority", "rotate", "x509")
        world.issuer.kill()
        check_source()
        # 3. It is back for good: the rotation goes on by itself, what is minted now is by the next authority, and everybody trusts it.
        world.issuer.start()
        starting.result()
        while active_authority(world) == first:
            check_source()
        world.entry("/late", "/nodes", f"unix:uid:{os.getuid()}")
        while len(source.context.svids) == 1:
            check_source()
        late = source.context.svids[1]
        assert late.leaf.issuer != before.leaf.issuer
        assert (
            verify(late.chain, source.bundle_for(before.spiffe_id.trust_domain), at=SystemClock().now())
            == late.spiffe_id
        )
        check_source()
        while world.run("status", "attestor", f"--socket={world.workload}").returncode:
            pass
