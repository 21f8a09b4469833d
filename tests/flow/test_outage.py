"""The issuer is away: workloads keep what is valid, and everybody is in step soon after it is back."""

import asyncio
import json
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from attestor.cache import Cache
from attestor.deniallog import DenialLog
from attestor.flows.answer_questions import AnswerQuestions
from attestor.flows.follow_feed import FollowFeed
from attestor.flows.join_issuer import JoinIssuer
from attestor.flows.keep_denials import KeepDenials
from attestor.flows.keep_node import KeepNode
from attestor.flows.renew_svids import RenewSVIDs
from attestor.nodeattestor.join_token import JoinToken
from attestor.receipts import Receipts
from attestor.recentcallers import RecentCallers
from attestor.uses import Uses
from bench.rig.attestorsurroundings import surroundings
from cognomen.protocol.entry import EntryID
from svid.spiffeid import TrustDomain
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.sources import X509Source
from tests.doubles.clock import FakeClock
from tests.doubles.entries import entry
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.state import MemoryDenials, MemoryState
from tests.doubles.until import until
from tests.flow.soak import IS_SOAK, TIMEOUT
from tests.flow.twodaemons import World

OUTAGE_SECONDS = 600.0 if IS_SOAK else 3.0


async def test_ten_hours_without_the_issuer_cost_no_valid_svid_and_the_node_returns_by_itself() -> None:
    clock = FakeClock()
    around = surroundings(clock)
    issuer, state = IssuerInMemory(clock, TrustDomain("example.org")), MemoryState()
    client, invite = issuer.client(), issuer.invite()
    issuer.put(entry("web", x509_svid_ttl=timedelta(days=1)))
    join = JoinIssuer(trust_domain=None, state=state, door=client, client=client, around=around)
    node = await join.run(invite, JoinToken(invite))
    cache = Cache(node.bundle, DenialLog())
    keep = KeepNode(node, state=state, door=client, client=client, around=around)
    denials = KeepDenials(cache.denials, store=MemoryDenials(), around=around)
    feed = FollowFeed(
        cache,
        keep,
        denials,
        Receipts(cache.denials),
        client=client,
        uses=Uses(around.clock),
        questions=AnswerQuestions(cache, RecentCallers(), door=client, around=around),
        around=around,
    )
    renew = RenewSVIDs(cache, client=client, around=around)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run()) for run in (feed.run, feed.acknowledge, keep.run, renew.run)]
        await until(lambda: EntryID("web") in cache.svids)
        before = cache.svids[EntryID("web")].svid
        issuer.set_reachable(reachable=False)
        for _ in range(10 * 60):
            clock.advance(60)
            await asyncio.sleep(0)
            assert cache.svids[EntryID("web")].svid is before
        assert clock.now() > keep.node.svid.not_after
        issuer.put(entry("later"))
        issuer.set_reachable(reachable=True)
        for _ in range(15):
            clock.advance(1)
            for _ in range(20):
                await asyncio.sleep(0)
        await until(lambda: EntryID("later") in cache.svids)
        assert keep.node.svid.spiffe_id == node.svid.spiffe_id
        assert clock.now() < keep.node.svid.not_after
        for task in tasks:
            task.cancel()


@pytest.mark.timeout(TIMEOUT)
def test_an_issuer_that_is_away_for_longer_than_a_node_svid_lives_is_not_missed(tmp_path: Path) -> None:
    world = World(tmp_path, "--node-svid-ttl=2s")
    with world.running(), X509Source(f"unix://{world.workload}") as source:
        before = source.svid.serial
        world.issuer.kill()
        over = threading.Event()
        threading.Timer(OUTAGE_SECONDS, over.set).start()
        with WorkloadAPIClient(f"unix://{world.workload}") as client:
            while not over.wait(0.1):
                assert client.fetch_x509_context().svids[0].serial == before
        world.issuer.start()
        world.entry("/later", "/nodes", "unix:uid:4294967294")
        while not _is_in_step(world, entries=2):
            pass
    assert "node readmitted" in world.attestor.log()


def _is_in_step(world: World, *, entries: int) -> bool:
    """Whether the attestor knows so many entries, and has no trouble left: the exit code says so."""
    done = world.run("status", "attestor", f"--socket={world.workload}", "--output=json")
    return done.returncode == 0 and json.loads(done.stdout)["entries"] == entries
