"""All flows of an attestor, running against an issuer in memory, with a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attestor.cache import Cache
from attestor.flows.compare_clocks import CompareClocks
from attestor.flows.follow_feed import FollowFeed
from attestor.flows.join_issuer import JoinIssuer
from attestor.flows.keep_denials import KeepDenials
from attestor.flows.keep_node import KeepNode
from attestor.flows.mint_jwts import MintJWTs
from attestor.flows.observe_attestor import ObserveAttestor
from attestor.flows.renew_svids import RenewSVIDs
from attestor.flows.serve_denials import ServeDenials
from attestor.main import flow_tasks
from attestor.metrics import Metrics
from attestor.nodeattestor.join_token import JoinToken
from attestor.nodeclock import NodeClock
from attestor.receipts import Receipts
from cognomen.daemon.supervisor import Task
from cognomen.daemon.troubles import Troubles
from svid.clock import Clock
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.state import MemoryDenials, MemoryState
from tests.doubles.until import until

__all__ = ["joined_flows", "running_flows"]


async def joined_flows(issuer: IssuerInMemory, own: Clock) -> ObserveAttestor:
    """Join, and make the flows; whoever asks runs them."""
    clock, state = NodeClock(own), MemoryState()
    client, invite, jitter = issuer.client(), issuer.invite(), lambda: 0.5
    join = JoinIssuer(trust_domain=issuer.trust_domain, state=state, door=client, client=client, clock=clock)
    node = await join.run(invite, JoinToken(invite))
    cache, troubles, metrics = Cache(node.bundle), Troubles(clock), Metrics()
    keep = KeepNode(
        node, state=state, door=client, client=client, clock=clock, jitter=jitter, troubles=troubles, metrics=metrics
    )
    denials = KeepDenials(cache.denials, store=MemoryDenials(), clock=clock, troubles=troubles)
    receipts = Receipts(cache.denials)
    feed = FollowFeed(
        cache, keep, denials, receipts, client=client, clock=clock, jitter=jitter, troubles=troubles, metrics=metrics
    )
    return ObserveAttestor(
        started_at=clock.now(),
        clock=clock,
        compare=CompareClocks(clock, troubles),
        cache=cache,
        node=keep,
        feed=feed,
        denials=denials,
        followers=ServeDenials(cache.denials, receipts, age=feed.age, clock=clock),
        renewals=RenewSVIDs(cache, client=client, clock=clock, jitter=jitter, troubles=troubles, metrics=metrics),
        jwts=MintJWTs(client=client, cache=cache, clock=clock, troubles=troubles, metrics=metrics),
        troubles=troubles,
        metrics=metrics,
    )


@asynccontextmanager
async def running_flows(issuer: IssuerInMemory, own: Clock) -> AsyncIterator[ObserveAttestor]:
    """Join, and run the flows until the end of the block; it begins once a snapshot has come. What fails in one fails the test."""
    observe = await joined_flows(issuer, own)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_run(task)) for task in flow_tasks(observe)]
        await until(lambda: observe.cache.synchronised)
        yield observe
        for task in tasks:
            task.cancel()


async def _run(task: Task) -> None:
    await task.run()
