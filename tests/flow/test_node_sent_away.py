"""A node that is sent away: what it held ends there, too, for its attestor hears that before its feed ends; and everybody hears why."""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from bench.rig.daemons import Dev
from cognomen.protocol.errors import Kind, Reason, Refused
from cognomen.protocol.status import SENT_AWAY
from svid.errors import WorkloadAPIError
from svid.spiffeid import TrustDomain
from svid.workloadapi.client import WorkloadAPIClient
from tests.doubles.attestorflows import joined_flows
from tests.doubles.clock import FakeClock
from tests.doubles.entries import UID_1000
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.until import pass_until
from tests.flow.twodaemons import World

ME = f"unix:uid:{os.geteuid()}"


def refusal(ask: Callable[[], object]) -> str:
    """What it is refused with, once it is; the test's own time limit is the end of that."""
    while True:
        try:
            ask()
        except WorkloadAPIError as e:
            return str(e)


@pytest.mark.parametrize("command", [("revoke", "node"), ("node", "ban"), ("node", "evict")], ids=" ".join)
def test_what_its_workloads_held_ends_on_the_node_itself(tmp_path: Path, command: tuple[str, str]) -> None:
    with Dev(tmp_path, "--entry", f"/a={ME}") as dev, WorkloadAPIClient(f"unix://{dev.socket}") as client:
        token = client.fetch_jwt_svids(["db"])[0].token
        client.validate_jwt_svid(token, "db")
        (node,) = dev.admin("node", "list")["nodes"]
        dev.admin(*command, str(node["id"]))
        assert "it was revoked" in refusal(lambda: client.validate_jwt_svid(token, "db"))
        assert "no identity issued" in refusal(client.fetch_x509_context)


@pytest.mark.parametrize(("command", "reason"), [("ban", "banned"), ("evict", "evicted")])
def test_a_stream_that_is_open_ends_with_the_reason_that_a_new_one_gets(
    tmp_path: Path, command: str, reason: str
) -> None:
    with Dev(tmp_path, "--entry", f"/a={ME}") as dev, WorkloadAPIClient(f"unix://{dev.socket}") as client:
        streams = [iter(client.open_x509_contexts()), iter(client.open_jwt_bundles())]
        for stream in streams:
            next(stream)
        (node,) = dev.admin("node", "list")["nodes"]
        dev.admin("node", command, str(node["id"]))
        for stream in streams:
            assert f"{SENT_AWAY} ({reason})" in refusal(partial(next, stream))


def test_a_node_that_was_sent_away_says_so_after_its_attestor_started_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    with world.running():
        (node,) = world.listed("node", "nodes")
        world.command("node", "ban", str(node["id"]))
        world.attestor.stop()
        endpoint = f"--socket=unix://{world.workload}"
        with world.attestor_that_waits():
            told = ""
            while SENT_AWAY not in told:
                told = world.run("fetch", "x509", endpoint).stderr
            assert "PERMISSION_DENIED" in told
            assert SENT_AWAY in world.run("fetch", "jwt", "--audience=db", endpoint).stderr
            assert SENT_AWAY in world.run("why", endpoint).stdout
            arguments = ("fetch", "x509", "--watch", f"--write={tmp_path}/out", endpoint)
            with world.start(*arguments) as watching:
                assert watching.stderr is not None
                assert SENT_AWAY in watching.stderr.readline()


async def test_one_whose_svid_expired_meanwhile_hears_it_when_it_tries_to_return() -> None:
    clock = FakeClock()
    issuer = IssuerInMemory(clock, TrustDomain("example.org"))
    flows = await joined_flows(issuer, clock)
    clock.advance(2 * issuer.ttl)
    issuer.refused_return = Refused(Kind.DENIED, "node: banned").because(Reason.BANNED)
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(run()) for run in (flows.feed.run, flows.node.run)]
        await pass_until(clock, lambda: bool(flows.cache.withdrawn))
        assert SENT_AWAY in flows.cache.withdrawn
        assert not flows.cache.view(UID_1000).entries
        for one in running:
            one.cancel()
