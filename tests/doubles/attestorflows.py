"""All flows of an attestor, running against an issuer in memory, with a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from attestor.flows.join_issuer import JoinIssuer
from attestor.nodeattestor.join_token import JoinToken
from attestor.parts import Flows, Ports, flows_of, tasks_of
from bench.rig.attestorsurroundings import surroundings
from cognomen.daemon.supervisor import Task
from svid.clock import Clock
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.state import MemoryDenials, MemoryState
from tests.doubles.until import until

__all__ = ["joined_flows", "running_flows"]


async def joined_flows(issuer: IssuerInMemory, own: Clock, state: MemoryState | None = None) -> Flows:
    """Join, and make the flows; whoever asks runs them."""
    client, invite, around = issuer.client(), issuer.invite(), surroundings(own)
    ports = Ports(state=state or MemoryState(), denials=MemoryDenials(), door=client, client=client, answering=client)
    join = JoinIssuer(trust_domain=issuer.trust_domain, state=ports.state, door=client, client=client, around=around)
    return flows_of(await join.run(invite, JoinToken(invite)), ports, around)


@asynccontextmanager
async def running_flows(issuer: IssuerInMemory, own: Clock, state: MemoryState | None = None) -> AsyncIterator[Flows]:
    """Join, and run the flows until the end of the block; it begins once a snapshot has come. What fails in one fails the test."""
    flows = await joined_flows(issuer, own, state)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_run(task)) for task in tasks_of(flows)]
        await until(lambda: flows.cache.synchronised)
        yield flows
        for task in tasks:
            task.cancel()


async def _run(task: Task) -> None:
    await task.run()
