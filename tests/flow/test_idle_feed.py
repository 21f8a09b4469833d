"""A feed on which nothing happens for minutes stays open, and says that it is alive."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest

from attestor.flows.join_issuer import JoinIssuer
from attestor.issuerclient.grpc import GRPCIssuerClient
from attestor.nodeattestor.join_token import JoinToken
from attestor.state.disk import DiskState
from bench.rig.attestorsurroundings import surroundings
from svid.clock import SystemClock
from tests.doubles.feed import entries_put
from tests.flow.liveissuer import TD, LiveIssuer
from tests.flow.soak import IS_SOAK, TIMEOUT
from tests.flow.test_attestor_end_to_end import entry

WORD_SECONDS, WORDS = 5, 30


@pytest.mark.skipif(not IS_SOAK, reason="waits for minutes: make soak")
@pytest.mark.timeout(TIMEOUT)
async def test_a_feed_that_idles_for_minutes_brings_the_next_change(tmp_path: Path) -> None:
    client = GRPCIssuerClient()
    async with LiveIssuer(tmp_path).running() as issuer:
        invite = await issuer.invite()
        join = JoinIssuer(
            trust_domain=TD,
            state=DiskState(tmp_path / "node"),
            door=client,
            client=client,
            around=surroundings(SystemClock()),
        )
        node = await join.run(invite, JoinToken(invite))
        async with aclosing(client.follow(None)) as changes:
            await anext(changes)
            for _ in range(WORDS):
                async with asyncio.timeout(2 * WORD_SECONDS):
                    assert not (await anext(changes)).updates
            (made,) = await issuer.create(entry("/late", node.svid.spiffe_id))
            while not (told := await anext(changes)).updates:
                pass
            assert entries_put(told.updates) == (made,)
        await client.close()
