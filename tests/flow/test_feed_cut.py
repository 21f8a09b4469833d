"""The feed cut after any number of bytes, in the handshake, amidst denials or entries: no step is applied in part, none is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from attestor.cache import Cache
from attestor.decisions.node import Node
from attestor.deniallog import DenialLog, number_of
from attestor.flows.join_issuer import JoinIssuer
from attestor.issuerclient.grpc import GRPCIssuerClient
from attestor.issuerclient.port import JWTRequest, MintedJWT
from attestor.nodeattestor.join_token import JoinToken
from attestor.state.disk import DiskState
from bench.rig.attestorsurroundings import surroundings
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from cognomen.protocol.selector import Selector
from svid.clock import SystemClock
from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID
from tests.doubles.feed import entries_put
from tests.flow.liveissuer import TD, LiveIssuer

SECONDS = 20
ENTRIES = 100
DENIED = 50
CUTS_OF_A_NODE = 8  # each of them opens two feeds, and a node may open 20 at once
NODES = 20
BYTES_BETWEEN_CUTS = 307  # a prime: the cuts fall on ever other places of denials and entries
CHUNK = 1 << 16
NEVER = 1 << 40
GROUP = RegistrationEntry(
    id=EntryID(""),
    spiffe_id=SpiffeID.from_segments(TD, "nodes"),
    parent_id=SpiffeID.from_segments(TD, "cognomen", "issuer"),
    selectors=frozenset({Selector("join_token", "label:a:b")}),
)


class Wire:
    """Stands between the attestor and the node door, and cuts a connection after so many bytes from the issuer."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self.address = ""
        self.cut_after = NEVER
        self.passed = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Wire"]:
        async with await asyncio.start_server(self._carry, "127.0.0.1", 0) as server:
            self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, int(self._port))
        self.passed = 0

        async def ask() -> None:
            while data := await reader.read(CHUNK):
                far_writer.write(data)

        async def answer() -> None:
            while data := await far_reader.read(CHUNK):
                kept = data[: self.cut_after - self.passed]
                self.passed += len(kept)
                writer.write(kept)
                if self.passed >= self.cut_after:
                    return

        try:
            tasks = [asyncio.ensure_future(ask()), asyncio.ensure_future(answer())]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            writer.close()
            far_writer.close()


async def follow(node: Node, cache: Cache) -> Kind | None:
    """Over a connection of its own, apply what comes until all entries are there; as what it broke before, None: it did not."""
    client = GRPCIssuerClient()
    await client.use(node)
    try:
        async with asyncio.timeout(SECONDS), aclosing(client.follow(cache.cursor)) as changes:
            async for change in changes:
                assert len(entries_put(change.updates)) == ENTRIES, "a step is whole, or it is none"
                cache.apply(change)
                return None
    except Refused as refused:
        return refused.kind
    finally:
        await client.close()
    return None


async def test_a_feed_cut_at_any_byte_is_followed_again_without_a_loss(tmp_path: Path) -> None:
    live = LiveIssuer(tmp_path)
    async with live.running() as issuer:
        await issuer.create(GROUP)
        made = await issuer.create(*(entry(number, GROUP.spiffe_id) for number in range(ENTRIES)))
        client = GRPCIssuerClient()
        joined = [await join(await issuer.invite(a="b"), client, tmp_path / f"{number}") for number in range(NODES)]
        denied = await numbers_of_tokens(client, made[0].id)
        await client.close()
    expected = {one.id: one for one in made}
    await live.revoke_while_stopped(*(f"{number:032x}" for number in denied))
    async with live.running(), Wire(live.config.node_address).running() as wire:
        nodes = [replace(one, node_address=wire.address) for one in joined]
        node = nodes.pop()
        assert await follow(node, Cache(node.bundle, DenialLog())) is None
        cuts = range(1, wire.passed, BYTES_BETWEEN_CUTS)
        broken = 0
        for number, cut_after in enumerate(cuts):
            node = nodes[number // CUTS_OF_A_NODE]
            cache = Cache(node.bundle, DenialLog())
            wire.cut_after = cut_after
            if (kind := await follow(node, cache)) is not None:
                assert kind is Kind.UNAVAILABLE, cut_after
                assert not cache.synchronised
                assert not len(cache.denials), "a step is whole, or it is none"
                broken += 1
            wire.cut_after = NEVER
            if not cache.synchronised:
                assert await follow(node, cache) is None
            assert dict(cache.entries) == expected
            assert all(number in cache.denials for number in denied)
        assert broken >= len(cuts) - 2, "only the last cuts may come after the last entry"


async def join(invite: Invite, client: GRPCIssuerClient, state: Path) -> Node:
    """Join as another node."""
    flow = JoinIssuer(
        trust_domain=TD, state=DiskState(state), door=client, client=client, around=surroundings(SystemClock())
    )
    return await flow.run(invite, JoinToken(invite))


async def numbers_of_tokens(client: GRPCIssuerClient, entry_id: EntryID) -> list[int]:
    """Have tokens minted; what a denial would name them by."""
    minted = await client.mint_jwt([JWTRequest(entry_id=entry_id, audiences=(f"{n}",)) for n in range(DENIED)])
    found = [number_of(JWTSVID.parse_insecure(one.token)) for one in minted if isinstance(one, MintedJWT)]
    assert len(found) == DENIED
    return [number for number in found if number is not None]


def entry(number: int, node: SpiffeID) -> RegistrationEntry:
    return RegistrationEntry(
        id=EntryID(""),
        spiffe_id=SpiffeID.from_segments(TD, "w", f"n{number}"),
        parent_id=node,
        selectors=frozenset({Selector("unix", f"uid:{100_000 + number}")}),
    )
