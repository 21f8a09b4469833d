"""An authority rotates while the issuer is killed at it, while its attestor is restarted: nobody has to help."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from svid.clock import SystemClock
from svid.workloadapi.sources import X509Source
from svid.x509svid import verify
from tests.flow.twodaemons import World


def test_a_rotation_during_an_outage_during_a_restart_ends_well(tmp_path: Path) -> None:
    world = World(tmp_path, "--authority-spread=1s")
    with world.running(), X509Source(f"unix://{world.workload}") as source, ThreadPoolExecutor(1) as pool:
        before = source.svid

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
        # 3. It is back for good: the rotation goes on by itself, and everybody learns of it.
        world.issuer.start()
        starting.result()
        while source.svid.leaf.issuer == before.leaf.issuer:
            check_source()
        check_source()
        while world.run("status", "attestor", f"--socket={world.workload}").returncode:
            pass
