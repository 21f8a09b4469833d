"""A component that only observes, with real daemons: nothing is issued, its program is reported, and enforcing it is pushed at once."""

import json
import os
import sys
from pathlib import Path

import pytest

from svid.wire.pb import workload_pb2 as pb
from svid.workloadapi.client import Stream, WorkloadAPIClient
from tests.flow.twodaemons import World

pytestmark = pytest.mark.timeout(240)  # a report may come half a minute after what it reports

TILL = "spiffe://example.org/agent/shop/till"
WEB = "spiffe://example.org/web"
RULES = f"""\
[agent.shop]
owner = "shop@example.org"
purpose = "sells"
nodes = ["join_token:label:a:b"]

[agent.shop.component.till]
kind = "connector"
mode = "observe"
selectors = ["unix:uid:{os.getuid()}"]
audiences = ["https://till.example.org"]

[agent.shop.component.nobody]
kind = "connector"
mode = "observe"
selectors = ["unix:uid:65530"]
"""


def applied(world: World, rules: Path, *, enforce: bool) -> str:
    """What `apply` says when the till enforces its rule, or observes."""
    rules.write_text(RULES.replace('mode = "observe"', 'mode = "enforce"', 1) if enforce else RULES)
    done = world.run("apply", str(rules))
    assert done.returncode == 0, done.stderr
    return done.stdout


def names(contexts: Stream[pb.X509SVIDResponse]) -> list[str]:
    """Whose SVIDs the next message has."""
    return [one.spiffe_id for one in next(iter(contexts)).svids]


def component(world: World, name: str) -> dict[str, list[dict[str, object]]]:
    """What is reported of it now."""
    done = world.run("rulebook", "observe", "--agent=shop", "--output=json")
    assert done.returncode == 0, done.stderr
    (found,) = (one for one in json.loads(done.stdout)["components"] if one["component"] == name)
    assert isinstance(found, dict)
    return found


def issued_to_the_till(world: World) -> list[dict[str, object]]:
    return world.listed("svid", "credentials", f"--spiffe-id={TILL}", "--kind=x509")


def test_a_component_observes_and_then_enforces_and_then_observes_again(tmp_path: Path) -> None:
    world, rules = World(tmp_path), tmp_path / "rules.toml"
    with world.running(), WorkloadAPIClient(f"unix://{world.workload}") as client:
        # 1. The program of two entries gets the SVID of one.
        text = applied(world, rules, enforce=False)
        assert "? shop/till only observes from now on: nothing is issued for it" in text
        contexts = client.open_x509_contexts()
        assert names(contexts) == [WEB]
        for audience in ("https://till.example.org", "https://other.example.org"):
            (token,) = client.fetch_jwt_svids([audience])
            assert str(token.spiffe_id) == WEB
        explained = json.loads(
            world.run("why", f"--pid={os.getpid()}", f"--socket=unix://{world.workload}", "-o", "json").stdout
        )
        assert [one["spiffe_id"] for one in explained["observed"]] == [TILL]
        status = world.run("status", "attestor", "--identities", f"--socket=unix://{world.workload}", "--output=json")
        assert status.returncode == 0, "it would be in trouble if it asked the issuer for what it refuses"
        assert [one["spiffe_id"] for one in json.loads(status.stdout)["identities"]] == [WEB]
        # 2. The report names it, and nothing else does.
        while not (till := component(world, "shop/till"))["refused"] or not till["issued"][0]["jwt"]:
            pass
        (program,) = till["issued"]
        assert (program["uid"], program["pid"]) == (os.getuid(), os.getpid())
        assert (program["executable"], program["x509"]) == (os.path.realpath(sys.executable), True)
        assert [one["refused_audience"] for one in till["refused"]] == ["https://other.example.org"]
        nobody = component(world, "shop/nobody")
        assert (nobody["issued"], nobody["refused"]) == ([], [])
        shown = world.run("rulebook", "observe").stdout
        said = ("no report yet", "nobody matched it")
        assert any(f"shop/nobody: {words}; it observes since 20" in shown for words in said)
        assert issued_to_the_till(world) == []
        held = world.command("audit", "who", f"--spiffe-id={TILL}", "--since=2020-01-01T00:00:00Z")
        assert (held["credentials"], held["uses"]) == ([], [])
        # 3. Enforced, it reaches the open stream at once.
        assert "observe: yes → no" in applied(world, rules, enforce=True)
        assert sorted(names(contexts)) == [TILL, WEB]
        (credential,) = issued_to_the_till(world)
        assert credential["ended_at"] is None
        # 4. Observing again takes it away.
        text = applied(world, rules, enforce=False)
        assert "? shop/till only observes from now on: nothing is issued for it" in text
        assert "? shop/nobody only observes: nothing is issued for it" in text
        assert "1 credential revoked at once" in text
        while names(contexts) != [WEB]:  # first perhaps a revocation list
            pass
        (credential,) = issued_to_the_till(world)
        assert credential["ended_at"] is not None
        contexts.cancel()
