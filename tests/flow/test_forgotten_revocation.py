"""A backup is restored that is older than revocations: who heard of them refuses, and the command that is printed ends all the rest."""

import json
import shlex
from pathlib import Path

import pytest

from svid import jwtsvid
from svid.bundle import Bundle
from svid.clock import SystemClock
from svid.errors import SVIDError, WorkloadAPIError
from svid.spiffeid import TrustDomain
from svid.workloadapi.client import WorkloadAPIClient
from svid.x509svid import X509SVID, verify
from tests.flow.twodaemons import World

TD = TrustDomain("example.org")


def is_vouched_for(what: X509SVID | str, bundle: Bundle) -> bool:
    """Whether a verifier takes it that knows nothing but the bundle."""
    try:
        if isinstance(what, str):
            jwtsvid.verify(what, {TD: bundle}.get, audience="db", at=SystemClock().now())
        else:
            verify(what.chain, bundle, at=SystemClock().now())
    except SVIDError:
        return False
    return True


def svids_after(client: WorkloadAPIClient, before: X509SVID) -> X509SVID:
    """The SVID that took the place of one that was revoked."""
    while (found := client.fetch_x509_context().svids[0]).serial == before.serial:
        pass
    return found


def status(world: World) -> dict[str, object]:
    """How the issuer is: with a trouble the command exits with 1."""
    found: dict[str, object] = json.loads(world.run("status", "--output=json").stdout)
    return found


def told(world: World) -> str:
    found = status(world)["troubles"]
    assert isinstance(found, list)
    return "".join(one["reason"] for one in found if one["what"] == "restored backup")


def commands(notice: str) -> list[str]:
    """What the notice says to type, word for word."""
    return [line.strip() for line in notice.splitlines() if line.startswith("  cognomen ")]


def test_what_a_restored_backup_forgot_is_refused_where_it_was_heard_of_and_the_printed_commands_end_all_of_it(
    tmp_path: Path,
) -> None:
    world, backup = World(tmp_path), tmp_path / "backup.tar"
    with world.running(), WorkloadAPIClient(f"unix://{world.workload}") as client:
        # 1. Of both kinds, one that is on the backup's books and one that is not; all are revoked after it.
        known_token, known = client.fetch_jwt_svid("db").token, client.fetch_x509_context().svids[0]
        world.command("issuer", "backup", str(backup), f"--state={tmp_path}/issuer")
        world.command("revoke", "svid", f"{known.serial:x}", "--wait")
        unknown = svids_after(client, known)
        unknown_token = client.fetch_jwt_svid(["db", "b"]).token
        tokens, svids = [known_token, unknown_token], [known, unknown]
        jtis = [str(jwtsvid.JWTSVID.parse_insecure(token).claims["jti"]) for token in tokens]
        world.command("revoke", "svid", f"{unknown.serial:x}", *jtis, "--wait")
        # 2. The restore says what is forgotten; so does the issuer.
        world.issuer.stop()
        restored = world.run("issuer", "restore", str(backup), f"--state={tmp_path}/elsewhere")
        assert restored.returncode == 0
        with world.issuer_on(tmp_path / "elsewhere"):
            while not status(world)["nodes_connected"]:
                pass
            reason = restored.stderr.removeprefix("warning: ").partition(";")[0]
            said, _, remedy = told(world).partition(": repeat them, or, once every node is connected, in this order: ")
            assert (said, remedy.split("; ")) == (reason, commands(restored.stderr))  # whole, so that they can be typed
            (logged,) = [line for line in world.issuer.log().splitlines() if "store restored from a backup" in line]
            assert json.loads(logged)["hint"] == "; ".join(commands(restored.stderr))
            # 3. The attestor heard of it all and refuses it; who did not, does not.
            for token in tokens:
                with pytest.raises(WorkloadAPIError, match="revoked"):
                    client.validate_jwt_svid(token, "db")
            (bundle,) = client.fetch_x509_context().bundles.values()
            (keys,) = client.fetch_jwt_bundles().values()
            assert all(is_vouched_for(one, bundle) for one in svids)
            assert all(is_vouched_for(one, keys) for one in tokens)
            assert not world.command("svid", "list", "--revoked")["credentials"]
            # 4. What was printed ends all of it, at everybody, and workloads have others.
            for command in commands(restored.stderr):
                name, *arguments = shlex.split(command)
                done = world.run(*arguments)
                assert (name, done.returncode) == ("cognomen", 0), done.stderr
            assert not told(world)
            ended = world.command("svid", "list", "--revoked")["credentials"]
            assert isinstance(ended, list)
            assert {f"{known.serial:032x}", jtis[0]} <= {one["serial"] for one in ended}
            while any(is_vouched_for(one, client.fetch_x509_context().bundles[TD]) for one in svids):
                pass
            assert not any(is_vouched_for(one, client.fetch_jwt_bundles()[TD]) for one in tokens)
            now = client.fetch_x509_context()
            assert is_vouched_for(now.svids[0], now.bundles[TD])
            assert client.validate_jwt_svid(client.fetch_jwt_svid("db").token, "db").spiffe_id == now.svids[0].spiffe_id
