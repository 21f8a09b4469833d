"""The attestor's way to its issuer is far, thin, or cut without a word: nothing needs a restart to come back."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from attestor.decisions.node import Joining, Node, joined, renewed, token_hash
from attestor.decisions.sync import Change
from attestor.issuerclient.grpc import GRPCIssuerClient
from attestor.issuerclient.port import Evidence, JWTRequest, MintedJWT
from attestor.nodeattestor.join_token import JoinToken
from attestor.nodeclock import NodeClock
from bench.rig.network import Network, network
from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.invite import Invite
from cognomen.protocol.receipts import Enforcement
from svid.clock import SystemClock
from svid.keys import KeyKind, generate_private_key
from tests.doubles.until import until
from tests.flow.liveissuer import LiveIssuer
from tests.flow.test_attestor_end_to_end import entry

ANYWHERE = Cursor(incarnation="none", number=0)
FAR = 0.5  # the round trip from which on a second was too short for TCP and TLS
SOON = 5.0


@dataclass(frozen=True, kw_only=True)
class World:
    """A node of an issuer that is reached over two roads, and an entry of it."""

    client: GRPCIssuerClient
    node: Node
    invite: Invite
    web: RegistrationEntry
    join_road: Network
    node_road: Network

    async def renewed(self) -> Node:
        """The node with its next SVID."""
        key = generate_private_key(KeyKind.EC_P256)
        credential = await self.client.renew(key)
        return renewed(self.node, credential, key, at=NodeClock(SystemClock()).read())

    async def mint(self) -> MintedJWT | Refused:
        (answer,) = await self.client.mint_jwt([JWTRequest(entry_id=self.web.id, audiences=("x",))])
        return answer

    async def mint_under_way(self) -> "asyncio.Future[MintedJWT | Refused]":
        """A mint that waits for its answer, because the road holds everything up."""
        await self.client.acknowledge(ANYWHERE, Enforcement(number=ANYWHERE.number))  # the connection stands
        self.node_road.is_held = True
        mint = asyncio.ensure_future(self.mint())
        before = self.node_road.waiting
        await until(lambda: self.node_road.waiting > before)
        return mint


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    client = GRPCIssuerClient()
    async with LiveIssuer(tmp_path).running() as issuer:
        made = await issuer.invite()
        with network(made.join_address) as join_road, network(made.node_address) as node_road:
            invite = replace(made, join_address=join_road.address, node_address=node_road.address)
            node = await join(client, invite)
            await client.use(node)
            (web,) = await issuer.create(entry("/web", node.svid.spiffe_id))
            yield World(client=client, node=node, invite=invite, web=web, join_road=join_road, node_road=node_road)
            await client.close()


async def join(client: GRPCIssuerClient, invite: Invite) -> Node:
    key, token = generate_private_key(KeyKind.EC_P256), JoinToken(invite)
    evidence = Evidence(attestor=token.name, evidence=await token.evidence(), answer=token.answer)
    credential = await client.join(invite, evidence, key)
    return joined(
        invite, credential, Joining(private_key=key, token_hash=token_hash(invite)), at=NodeClock(SystemClock()).read()
    )


async def test_a_node_door_far_away_is_reached_at_the_first_try(world: World) -> None:
    world.node_road.round_trip = FAR
    await world.client.acknowledge(ANYWHERE, Enforcement(number=ANYWHERE.number))
    assert world.node_road.connections == 1


async def test_a_join_door_far_away_is_reached_at_the_first_try(world: World) -> None:
    before, world.join_road.round_trip = world.join_road.connections, FAR
    await world.client.readmit(world.node, generate_private_key(KeyKind.EC_P256))
    assert world.join_road.connections == before + 1


async def test_a_call_under_way_outlives_its_channel_and_keeps_nobody_waiting(world: World) -> None:
    after = await world.renewed()
    mint = await world.mint_under_way()
    await asyncio.wait_for(world.client.use(after), SOON)
    assert not mint.done()
    world.node_road.is_held = False
    assert isinstance(await asyncio.wait_for(mint, SOON), MintedJWT)


async def test_a_call_that_grpc_cancels_is_refused_and_cancels_nobody(world: World) -> None:
    mint = await world.mint_under_way()
    await asyncio.wait_for(world.client.close(), SOON)
    with pytest.raises(Refused) as refused:
        await asyncio.wait_for(mint, SOON)
    assert refused.value.kind is Kind.UNAVAILABLE


async def test_whoever_is_cancelled_in_a_call_stays_cancelled(world: World) -> None:
    mint = await world.mint_under_way()
    mint.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(mint, SOON)


async def _read_on(feed: AsyncGenerator[Change, None]) -> None:
    async for _ in feed:
        pass


async def test_a_feed_on_which_no_word_comes_is_ended_and_the_next_takes_another_connection(world: World) -> None:
    client = GRPCIssuerClient(step_seconds=0.5)  # the issuer says a word every 5 s
    await client.use(world.node)
    feed = client.follow(None)
    await anext(feed)
    world.node_road.lose_what_is_open()
    with pytest.raises(Refused) as refused:
        await _read_on(feed)
    assert refused.value.kind is Kind.UNAVAILABLE
    connections = world.node_road.connections
    async with asyncio.timeout(SOON), aclosing(client.follow(None)) as again:
        assert (await anext(again)).snapshot
    assert world.node_road.connections == connections + 1
    await client.close()
