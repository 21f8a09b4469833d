"""What every IssuerClient does, the one over gRPC to a real issuer and the double alike."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import grpc
import pytest

from attestor.decisions.minted import take_jwt, take_x509
from attestor.decisions.node import Joining, Node, joined, renewed, token_hash
from attestor.decisions.sync import Change
from attestor.issuerclient.grpc import GRPCIssuerClient
from attestor.issuerclient.port import (
    Evidence,
    IssuerClient,
    JoinDoor,
    JWTRequest,
    MintedJWT,
    MintedX509,
    X509Request,
)
from attestor.nodeattestor.join_token import JoinToken
from attestor.nodeclock import NodeClock
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.invite import Invite
from cognomen.protocol.questions import Answer
from cognomen.protocol.receipts import Enforcement
from cognomen.protocol.selector import Selector
from cognomen.protocol.uses import ReportedUses
from issuer.api.node import NodeService
from svid.clock import Clock, SystemClock
from svid.keys import KeyKind, PrivateKey, generate_private_key, public_key_to_der
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.clock import FakeClock
from tests.doubles.feed import bundle_told, entries_gone, entries_put
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.uses import a_use
from tests.flow.liveissuer import LiveIssuer

TD = TrustDomain("example.org")
SECONDS = 10


class BothDoors(IssuerClient, JoinDoor, Protocol):
    """What an adapter is."""


@dataclass(frozen=True, kw_only=True)
class World:
    """An issuer and its operator."""

    clock: Clock
    client: Callable[[], BothDoors]
    invite: Callable[[], Awaitable[Invite]]
    create: Callable[[RegistrationEntry], Awaitable[RegistrationEntry]]
    delete: Callable[[EntryID], Awaitable[None]]
    acknowledged: Callable[[Node], Awaitable[int]]


@pytest.fixture(params=["in memory", "gRPC"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "in memory":
        yield in_memory()
        return
    clients: list[GRPCIssuerClient] = []

    def client() -> GRPCIssuerClient:
        clients.append(GRPCIssuerClient())
        return clients[-1]

    async with LiveIssuer(tmp_path).running() as live:

        async def create(entry: RegistrationEntry) -> RegistrationEntry:
            return (await live.create(entry))[0]

        async def delete(entry_id: EntryID) -> None:
            await live.delete(entry_id)

        async def acknowledged(node: Node) -> int:
            return (await live.node(str(node.svid.spiffe_id))).acknowledged

        yield World(
            clock=SystemClock(),
            client=client,
            invite=live.invite,
            create=create,
            delete=delete,
            acknowledged=acknowledged,
        )
        for one in clients:
            await one.close()


def in_memory() -> World:
    clock = FakeClock()
    issuer = IssuerInMemory(clock, TD)

    async def invite() -> Invite:
        return issuer.invite(secrets.token_urlsafe(32))

    async def create(entry: RegistrationEntry) -> RegistrationEntry:
        issuer.put(replace(entry, id=EntryID(secrets.token_hex(8))))
        (step,) = issuer.steps(None)
        return entries_put(step.updates)[-1]

    async def delete(entry_id: EntryID) -> None:
        issuer.delete(entry_id)

    async def acknowledged(_: Node) -> int:
        return issuer.acknowledged[-1].number if issuer.acknowledged else 0

    return World(
        clock=clock, client=issuer.client, invite=invite, create=create, delete=delete, acknowledged=acknowledged
    )


async def join(world: World, client: JoinDoor, *, key: PrivateKey | None = None, invite: Invite | None = None) -> Node:
    invite = invite or await world.invite()
    key = key or generate_private_key(KeyKind.EC_P256)
    token = JoinToken(invite)
    evidence = Evidence(attestor=token.name, evidence=await token.evidence(), answer=token.answer)
    credential = await client.join(invite, evidence, key)
    joining = Joining(private_key=key, token_hash=token_hash(invite))
    return joined(invite, credential, joining, at=NodeClock(world.clock).read())


async def joined_client(world: World) -> tuple[BothDoors, Node]:
    client = world.client()
    node = await join(world, client)
    await client.use(node)
    return client, node


def entry_below(node: Node, *, path: str = "/web") -> RegistrationEntry:
    return RegistrationEntry(
        id=EntryID(""),
        spiffe_id=SpiffeID(trust_domain=TD, path=path),
        parent_id=node.svid.spiffe_id,
        selectors=frozenset({Selector("unix", "uid:1000")}),
        x509_svid_ttl=None,
        jwt_svid_ttl=None,
        expires_at=None,
        dns_names=("web.example.org",),
        hint="main",
        created_at=None,
        labels={"team": "travel"},
    )


async def first(client: IssuerClient, cursor: Cursor | None) -> Change:
    async with asyncio.timeout(SECONDS), aclosing(client.follow(cursor)) as changes:
        return await anext(changes)


async def test_a_join_gives_a_node_of_the_trust_domain_and_its_bundle(world: World) -> None:
    node = await join(world, world.client())
    assert node.svid.spiffe_id.is_below("/cognomen/node/join_token")
    assert node.bundle.x509_authorities


async def test_a_token_used_by_another_key_is_refused_as_denied(world: World) -> None:
    invite = await world.invite()
    await join(world, world.client(), invite=invite)
    with pytest.raises(Refused) as refused:
        await join(world, world.client(), invite=invite)
    assert refused.value.kind is Kind.DENIED


async def test_a_join_repeated_with_the_same_key_gives_the_same_node(world: World) -> None:
    invite, key = await world.invite(), generate_private_key(KeyKind.EC_P256)
    one = await join(world, world.client(), key=key, invite=invite)
    two = await join(world, world.client(), key=key, invite=invite)
    assert one.svid.spiffe_id == two.svid.spiffe_id


async def test_an_unknown_token_is_refused_as_unauthenticated(world: World) -> None:
    invite = replace(await world.invite(), token=secrets.token_urlsafe(32))
    with pytest.raises(Refused) as refused:
        await join(world, world.client(), invite=invite)
    assert refused.value.kind is Kind.UNAUTHENTICATED


async def test_without_a_node_nothing_can_be_asked(world: World) -> None:
    with pytest.raises(Refused) as refused:
        await world.client().mint_x509([])
    assert refused.value.kind is Kind.UNAVAILABLE


async def test_the_first_step_of_the_feed_is_a_snapshot_with_the_bundle(world: World) -> None:
    client, node = await joined_client(world)
    entry = await world.create(entry_below(node))
    step = await first(client, None)
    assert step.snapshot
    assert entries_put(step.updates) == (entry,)
    assert bundle_told(step.updates) == node.bundle


async def test_a_follower_who_is_up_to_date_hears_so_at_once(world: World) -> None:
    client, _ = await joined_client(world)
    before = await first(client, None)
    step = await first(client, before.cursor)
    assert not step.snapshot
    assert (entries_put(step.updates), entries_gone(step.updates)) == ((), ())
    assert step.cursor == before.cursor


async def test_a_cursor_of_another_incarnation_gives_a_snapshot(world: World) -> None:
    client, _ = await joined_client(world)
    assert (await first(client, Cursor(incarnation="another", number=1))).snapshot


async def test_what_comes_and_goes_is_pushed(world: World) -> None:
    client, node = await joined_client(world)
    async with asyncio.timeout(SECONDS), aclosing(client.follow(None)) as changes:
        assert entries_put((await anext(changes)).updates) == ()
        entry = await world.create(entry_below(node))
        assert entries_put((await anext(changes)).updates) == (entry,)
        await world.delete(entry.id)
        assert entries_gone((await anext(changes)).updates) == (entry.id,)


async def test_what_is_acknowledged_the_issuer_knows(world: World) -> None:
    client, node = await joined_client(world)
    await world.create(entry_below(node))
    cursor = (await first(client, None)).cursor
    assert await world.acknowledged(node) < cursor.number
    await client.acknowledge(cursor, Enforcement(number=cursor.number))
    async with asyncio.timeout(SECONDS):
        while await world.acknowledged(node) != cursor.number:  # noqa: ASYNC110 - the issuer writes it a little later
            await asyncio.sleep(0)


async def test_x509_svids_are_minted_in_the_order_of_the_request_each_refused_by_itself(world: World) -> None:
    client, node = await joined_client(world)
    entries = [await world.create(entry_below(node, path=path)) for path in ("/a", "/b")]
    ids = [entries[1].id, EntryID("unknown"), entries[0].id]
    keys = [generate_private_key(KeyKind.EC_P256) for _ in ids]
    answers = await client.mint_x509(
        [
            X509Request(entry_id=entry_id, public_key=public_key_to_der(key.public_key()))
            for entry_id, key in zip(ids, keys, strict=True)
        ]
    )
    b, unknown, a = answers
    assert isinstance(unknown, Refused)
    for answer, key, path in ((a, keys[2], "/a"), (b, keys[0], "/b")):
        assert isinstance(answer, MintedX509)
        svid = take_x509(answer.chain, key, bundle=node.bundle, at=world.clock.now())
        assert svid.spiffe_id.path == path


async def test_jwt_svids_are_minted_in_the_order_of_the_request_each_refused_by_itself(world: World) -> None:
    client, node = await joined_client(world)
    entry = await world.create(entry_below(node))
    unknown, minted = await client.mint_jwt(
        [JWTRequest(entry_id=EntryID("unknown"), audiences=("x",)), JWTRequest(entry_id=entry.id, audiences=("x", "y"))]
    )
    assert isinstance(unknown, Refused)
    assert isinstance(minted, MintedJWT)
    take_jwt(minted.token, spiffe_id=entry.spiffe_id, audiences=("y", "x"))
    assert minted.issued_at < minted.expires_at


async def test_a_renewed_node_can_be_used_and_the_feed_of_the_old_one_ends(world: World) -> None:
    client, node = await joined_client(world)
    async with asyncio.timeout(SECONDS), aclosing(client.follow(None)) as changes:
        await anext(changes)
        key = generate_private_key(KeyKind.EC_P256)
        credential = await client.renew(key)
        await client.use(renewed(node, credential, key, at=NodeClock(world.clock).read()))
        assert [change async for change in changes] == []
    assert (await first(client, None)).snapshot


async def test_a_call_under_way_ends_as_it_was_when_another_node_is_used(world: World) -> None:
    client, node = await joined_client(world)
    entry = await world.create(entry_below(node))
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        mint = group.create_task(client.mint_jwt([JWTRequest(entry_id=entry.id, audiences=("x",))]))
        await asyncio.sleep(0)
        key = generate_private_key(KeyKind.EC_P256)
        credential = await client.renew(key)
        await client.use(renewed(node, credential, key, at=NodeClock(world.clock).read()))
    assert isinstance(mint.result()[0], MintedJWT)


async def test_a_node_comes_back_by_the_key_of_its_svid_as_itself(world: World) -> None:
    client, node = await joined_client(world)
    await acknowledge_nothing(client)
    key = generate_private_key(KeyKind.EC_P256)
    credential = await client.readmit(node, key)
    back = renewed(node, credential, key, at=NodeClock(world.clock).read())
    await client.use(back)
    await acknowledge_nothing(client)
    assert back.svid.spiffe_id == node.svid.spiffe_id


async def test_reported_uses_are_taken(world: World) -> None:
    client, node = await joined_client(world)
    entry = await world.create(entry_below(node))
    use = a_use(entry_id=entry.id, first_at=world.clock.now(), last_at=world.clock.now())
    assert await client.report_uses([use, a_use(entry_id=EntryID("none"))])
    assert await client.report_uses([])
    reported = ReportedUses(since=timedelta(seconds=1), until=timedelta())
    await client.acknowledge(Cursor(incarnation="none", number=0), Enforcement(number=0), reported)
    assert await client.report_uses([], last=reported)


async def test_an_answer_that_nobody_waits_for_is_not_taken(tmp_path: Path) -> None:
    async with LiveIssuer(tmp_path).running() as live:
        client = GRPCIssuerClient()
        await joined_client(replace(in_memory(), clock=SystemClock(), client=lambda: client, invite=live.invite))
        assert not await client.answer("none", Answer(unknown=1))
        await client.close()


async def test_an_issuer_that_does_not_know_of_reports_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unknown(_: NodeService, __: object, context: "grpc.aio.ServicerContext[object, object]") -> None:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "Method not found!"
        )  # as gRPC answers for an earlier release

    monkeypatch.setattr(NodeService, "ReportUses", unknown)
    async with LiveIssuer(tmp_path).running() as live:
        client = GRPCIssuerClient()
        world = replace(in_memory(), clock=SystemClock(), client=lambda: client, invite=live.invite)
        await joined_client(world)
        assert not await client.report_uses([a_use()])
        await client.close()


async def acknowledge_nothing(client: IssuerClient) -> None:
    await client.acknowledge(Cursor(incarnation="none", number=0), Enforcement(number=0))
