"""kill -9 of an attestor that has heard of a revocation and not kept it yet: it did not say that it had, and hears of it again."""

import asyncio
import json
from pathlib import Path

from attestor.state.denialfile import DenialFile
from svid.workloadapi.sources import X509Source
from tests.doubles.project import ROOT
from tests.flow.liveissuer import revoke_in
from tests.flow.twodaemons import World

SLOW_DISK = ROOT / "tests" / "doubles" / "slowdisk"


def denials(world: World) -> int:
    """How many the attestor knows; 0 while it cannot be asked."""
    done = world.run("status", "attestor", f"--socket={world.workload}", "--output=json")
    return int(json.loads(done.stdout)["denials"]) if done.stdout else 0


def test_a_kill_between_the_delta_and_the_file_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    silent = tmp_path / "silent"
    world = World(tmp_path, environments=({}, {"PYTHONPATH": str(SLOW_DISK), "SLOW_DISK": str(silent)}))
    state = tmp_path / "attestor"
    with world.running():
        with X509Source(f"unix://{world.workload}") as source:
            serial = source.svid.serial
        while world.command("status")["behind"]:
            pass
        world.issuer.stop()
        asyncio.run(revoke_in(tmp_path / "issuer", f"{serial:032x}"))
        silent.touch()
        world.issuer.start()
        while not denials(world):
            pass
        assert world.command("status")["behind"], "what is not kept is not acknowledged"
        world.attestor.kill()
        silent.unlink()
        world.attestor.start()
        while not denials(world):
            pass
        while world.command("status")["behind"]:
            pass
        assert [denial.number for denial in DenialFile(state).load()] == [serial]
        with X509Source(f"unix://{world.workload}") as source:
            assert source.svid.serial != serial
