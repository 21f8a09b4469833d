"""A node joins, resumes, renews: against an issuer in memory, with a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from attestor.decisions.node import Node
from attestor.flows.join_issuer import JoinIssuer
from attestor.flows.keep_node import KeepNode
from attestor.nodeattestor.join_token import JoinToken
from attestor.state.disk import DiskState
from attestor.state.port import State
from bench.rig.attestorsurroundings import surroundings
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from svid.keys import public_key_to_der
from svid.spiffeid import TrustDomain
from svid.x509svid import verify
from tests.doubles.clock import FakeClock
from tests.doubles.issuerclient import Authority, InMemoryIssuerClient, IssuerInMemory
from tests.doubles.state import MemoryState
from tests.doubles.until import until

TD = TrustDomain("example.org")
FULL = Refused(Kind.UNAVAILABLE, "no space left on device")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def issuer(clock: FakeClock) -> IssuerInMemory:
    return IssuerInMemory(clock, TD)


@pytest.fixture
def client(issuer: IssuerInMemory) -> InMemoryIssuerClient:
    return issuer.client()


async def join(
    issuer: IssuerInMemory,
    state: State,
    invite: Invite | None,
    *,
    client: InMemoryIssuerClient | None = None,
    trust_domain: TrustDomain | None = None,
) -> Node:
    client = client or issuer.client()
    flow = JoinIssuer(
        trust_domain=trust_domain, state=state, door=client, client=client, around=surroundings(issuer.clock)
    )
    return await flow.run(invite, JoinToken(invite) if invite else None)


@asynccontextmanager
async def kept(node: Node, state: State, client: InMemoryIssuerClient, clock: FakeClock) -> AsyncIterator[KeepNode]:
    keeper = KeepNode(node, state=state, door=client, client=client, around=surroundings(clock))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keeper.run())
        yield keeper
        task.cancel()


async def test_an_invite_makes_a_node_that_is_kept_and_used(
    issuer: IssuerInMemory, client: InMemoryIssuerClient
) -> None:
    state = MemoryState()
    node = await join(issuer, state, issuer.invite(), client=client, trust_domain=TD)
    assert node.svid.spiffe_id.is_below("/cognomen/node/join_token")
    assert state.load() == node
    assert client.node == node


async def test_a_restart_needs_no_invite(issuer: IssuerInMemory, tmp_path: Path) -> None:
    node = await join(issuer, DiskState(tmp_path / "state"), issuer.invite())
    again = await join(issuer, DiskState(tmp_path / "state"), None)
    assert again.svid.chain == node.svid.chain
    assert len(issuer.joined_keys) == 1


async def test_a_restart_with_the_same_invite_joins_no_second_time(issuer: IssuerInMemory) -> None:
    state = MemoryState()
    await join(issuer, state, issuer.invite())
    await join(issuer, state, issuer.invite())
    assert len(issuer.joined_keys) == 1


async def test_a_new_invite_makes_another_node_with_another_key(issuer: IssuerInMemory) -> None:
    state = MemoryState()
    first = await join(issuer, state, issuer.invite("one"))
    second = await join(issuer, state, issuer.invite("two"))
    assert first.svid.spiffe_id != second.svid.spiffe_id
    assert len(set(issuer.joined_keys)) == 2


async def test_an_invite_that_is_no_good_loses_no_node(issuer: IssuerInMemory, tmp_path: Path) -> None:
    node = await join(issuer, DiskState(tmp_path / "state"), issuer.invite())
    with pytest.raises(Refused, match="join token: unknown"):
        await join(issuer, DiskState(tmp_path / "state"), IssuerInMemory(issuer.clock, TD).invite("unknown"))
    assert (await join(issuer, DiskState(tmp_path / "state"), None)).svid.chain == node.svid.chain


async def test_a_lost_reply_is_repeated_with_the_same_key(
    issuer: IssuerInMemory, clock: FakeClock, client: InMemoryIssuerClient
) -> None:
    issuer.loses_replies = 2
    async with asyncio.TaskGroup() as group:
        joining = group.create_task(join(issuer, MemoryState(), issuer.invite(), client=client))
        await until(lambda: len(issuer.joined_keys) == 1 and clock.sleepers == 1)
        clock.advance(5)
        await until(lambda: len(issuer.joined_keys) == 2 and clock.sleepers == 1)
        clock.advance(5)
    assert joining.result() == client.node
    assert len(issuer.joined_keys) == 3
    assert len(set(issuer.joined_keys)) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "issuer.example.org"])
async def test_an_invite_that_names_loopback_is_told_of_if_nobody_answers_there(
    issuer: IssuerInMemory, clock: FakeClock, host: str
) -> None:
    issuer.set_reachable(reachable=False)
    invite = replace(issuer.invite(), node_address=f"{host}:8443", join_address=f"{host}:8444")
    around, client = surroundings(clock), issuer.client()
    flow = JoinIssuer(trust_domain=None, state=MemoryState(), door=client, client=client, around=around)
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            joining = group.create_task(flow.run(invite, JoinToken(invite)))
            await until(lambda: clock.sleepers == 1)
            (trouble,) = around.troubles.all()
            issuer.set_reachable(reachable=True)
            clock.advance(5)
            await joining
    said = "the invite names 127.0.0.1:8443 and 127.0.0.1:8444, which is this machine itself; if the issuer runs on another machine"
    assert (said in trouble.reason) is (said in str(logs[0]["hint"])) is (host == "127.0.0.1")
    assert list(around.troubles.all()) == []


async def test_a_crash_after_a_lost_reply_repeats_with_the_same_key(issuer: IssuerInMemory, tmp_path: Path) -> None:
    issuer.loses_replies = 1
    async with asyncio.TaskGroup() as group:
        joining = group.create_task(join(issuer, DiskState(tmp_path / "state"), issuer.invite()))
        await until(lambda: len(issuer.joined_keys) == 1)
        joining.cancel()  # kill -9, as far as the state can tell
    node = await join(issuer, DiskState(tmp_path / "state"), issuer.invite())
    assert public_key_to_der(node.svid.private_key.public_key()) == issuer.joined_keys[0]


async def test_the_key_is_kept_before_the_issuer_hears_of_it(issuer: IssuerInMemory) -> None:
    state = MemoryState()
    state.refuses = FULL
    with pytest.raises(Refused, match="no space left"):
        await join(issuer, state, issuer.invite())
    assert not issuer.joined_keys


async def test_a_used_token_ends_the_start_with_the_issuers_word(issuer: IssuerInMemory) -> None:
    await join(issuer, MemoryState(), issuer.invite())
    with pytest.raises(Refused, match="already used by another key") as refused:
        await join(issuer, MemoryState(), issuer.invite())
    assert refused.value.kind is Kind.DENIED


async def test_an_invite_for_another_trust_domain_than_configured_is_refused(issuer: IssuerInMemory) -> None:
    with pytest.raises(Refused, match="invite: expected the trust domain"):
        await join(issuer, MemoryState(), issuer.invite(), trust_domain=TrustDomain("example.net"))
    assert not issuer.joined_keys


async def test_a_state_of_another_trust_domain_than_configured_is_refused(issuer: IssuerInMemory) -> None:
    state = MemoryState()
    await join(issuer, state, issuer.invite())
    with pytest.raises(Refused, match="state: expected the trust domain"):
        await join(issuer, state, None, trust_domain=TrustDomain("example.net"))


async def test_neither_state_nor_invite_is_refused_with_the_next_step(issuer: IssuerInMemory) -> None:
    with pytest.raises(Refused) as refused:
        await join(issuer, MemoryState(), None)
    assert refused.value.kind is Kind.NOT_FOUND
    assert "cognomen node invite" in refused.value.hint


async def test_a_node_whose_svid_ran_out_comes_back_by_its_key_and_is_the_same(
    issuer: IssuerInMemory, client: InMemoryIssuerClient, clock: FakeClock
) -> None:
    state = MemoryState()
    before = await join(issuer, state, issuer.invite(), client=client)
    clock.advance(timedelta(hours=10))
    node = await join(issuer, state, None, client=client)
    async with kept(node, state, client, clock) as keeper:
        await until(lambda: keeper.node is not node)
        assert keeper.node.svid.spiffe_id == before.svid.spiffe_id
        assert keeper.node.svid.private_key != before.svid.private_key
        assert clock.now() < keeper.node.svid.not_after
        assert state.load() == keeper.node


async def test_while_the_issuer_is_away_a_return_is_tried_at_least_each_second(
    issuer: IssuerInMemory, client: InMemoryIssuerClient, clock: FakeClock
) -> None:
    state = MemoryState()
    node = await join(issuer, state, issuer.invite(), client=client)
    issuer.set_reachable(reachable=False)
    clock.advance(timedelta(hours=10))
    async with kept(node, state, client, clock) as keeper:
        for _ in range(100):
            await until(lambda: clock.sleepers == 1)
            clock.advance(1)
        issuer.set_reachable(reachable=True)
        await until(lambda: clock.sleepers == 1)
        clock.advance(1)
        await until(lambda: keeper.node is not node)


async def test_an_svid_that_runs_out_during_a_long_delay_is_got_back_at_once(
    issuer: IssuerInMemory, client: InMemoryIssuerClient, clock: FakeClock
) -> None:
    state = MemoryState()
    node = await join(issuer, state, issuer.invite(), client=client)
    issuer.refused_node = Refused(Kind.UNAUTHENTICATED, "not you")  # delays of up to a minute
    clock.advance(timedelta(minutes=30))
    async with kept(node, state, client, clock) as keeper:
        while (left := (node.svid.not_after - clock.now()).total_seconds()) > 1:
            await until(lambda: clock.sleepers == 1)
            clock.advance(min(left - 1, 7))
        await until(lambda: clock.sleepers == 1)
        assert keeper.node is node
        clock.advance(1)
        await until(lambda: keeper.node is not node)


async def test_a_return_that_is_refused_is_tried_again_slowly_and_the_way_back_is_told(
    issuer: IssuerInMemory,
    client: InMemoryIssuerClient,
    clock: FakeClock,
) -> None:
    state = MemoryState()
    node = await join(issuer, state, issuer.invite(), client=client)
    clock.advance(timedelta(hours=1))
    issuer.refused_return = Refused(Kind.DENIED, "node: banned")
    with structlog.testing.capture_logs() as logged:
        async with kept(node, state, client, clock) as keeper:
            for _ in range(20):
                await until(lambda: clock.sleepers == 1)
                clock.advance(60)
            assert any("cognomen attestor rejoin" in line.get("hint", "") for line in logged)
            issuer.refused_return = None
            await until(lambda: clock.sleepers == 1)
            clock.advance(60)
            await until(lambda: keeper.node is not node)


async def test_an_answer_of_another_authority_is_not_taken(issuer: IssuerInMemory, clock: FakeClock) -> None:
    invite = issuer.invite()
    issuer.authority = Authority(TD, clock)  # in nobody's bundle
    with pytest.raises(Refused, match="node SVID: ") as refused:
        await join(issuer, MemoryState(), invite)
    assert refused.value.kind is Kind.INTERNAL


async def test_the_node_svid_is_renewed_at_half_life_with_a_new_key(
    issuer: IssuerInMemory, client: InMemoryIssuerClient, clock: FakeClock
) -> None:
    state = MemoryState()
    node = await join(issuer, state, issuer.invite(), client=client)
    async with kept(node, state, client, clock) as keeper:
        for _ in range(59):
            await until(lambda: clock.sleepers == 1)
            clock.advance(30)
        assert keeper.node == node
        await until(lambda: clock.sleepers == 1)
        clock.advance(30)
        await until(lambda: client.node is keeper.node is not node)
    assert keeper.node.svid.serial != node.svid.serial
    assert keeper.node.svid.private_key.public_key() != node.svid.private_key.public_key()
    assert state.load() == keeper.node


async def test_a_renewed_node_svid_is_not_used_before_it_is_kept(
    issuer: IssuerInMemory, client: InMemoryIssuerClient, clock: FakeClock
) -> None:
    state = MemoryState()
    node = await join(issuer, state, issuer.invite(), client=client)
    state.refuses = FULL
    clock.advance(timedelta(minutes=30))
    async with kept(node, state, client, clock) as keeper:
        await until(lambda: clock.sleepers == 1)
        assert client.node is keeper.node is node
        state.refuses = None
        clock.advance(1)
        await until(lambda: client.node is not node)
        assert state.load() == client.node


async def test_an_issuer_that_is_away_is_asked_again_for_the_node_svid(
    issuer: IssuerInMemory, client: InMemoryIssuerClient, clock: FakeClock
) -> None:
    state = MemoryState()
    node = await join(issuer, state, issuer.invite(), client=client)
    issuer.set_reachable(reachable=False)
    clock.advance(timedelta(minutes=30))
    async with kept(node, state, client, clock) as keeper:
        await until(lambda: clock.sleepers == 1)
        clock.advance(1)
        await until(lambda: clock.sleepers == 1)
        issuer.set_reachable(reachable=True)
        clock.advance(2)
        await until(lambda: keeper.node is not node)


async def test_a_new_bundle_is_kept_and_used(
    issuer: IssuerInMemory, client: InMemoryIssuerClient, clock: FakeClock
) -> None:
    state = MemoryState()
    node = await join(issuer, state, issuer.invite(), client=client)
    issuer.rotate()
    keeper = KeepNode(node, state=state, door=client, client=client, around=surroundings(clock))
    await keeper.trust(issuer.bundle)
    saved = state.load()
    assert isinstance(saved, Node)
    assert saved.bundle == issuer.bundle
    assert client.node == saved


async def test_a_node_svid_whose_authority_left_the_bundle_is_renewed_at_once(
    issuer: IssuerInMemory, client: InMemoryIssuerClient, clock: FakeClock
) -> None:
    state = MemoryState()
    node = await join(issuer, state, issuer.invite(), client=client)
    async with kept(node, state, client, clock) as keeper:
        await until(lambda: clock.sleepers == 1)
        issuer.lose_authorities()
        await keeper.trust(issuer.bundle)
        await until(lambda: keeper.node.svid.serial != node.svid.serial or keeper.node.svid.chain != node.svid.chain)
        verify(keeper.node.svid.chain, issuer.bundle, at=clock.now())
