"""`attestor rejoin` and the way back of a node that was away for too long, against a real issuer."""

from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest

from attestor.config import AttestorConfig
from attestor.decisions.node import REJOIN, Node, resumable
from attestor.main import rejoin
from attestor.state.disk import DiskState
from cognomen.process.privatefile import alone_in, private_directory
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from cognomen.wire.pb import admin_pb2
from svid.clock import SystemClock
from svid.spiffeid import SpiffeID
from tests.flow.issuer_harness import Issuer, running

TTL = timedelta(minutes=2)


async def invite_again(issuer: Issuer, node_id: SpiffeID) -> Invite:
    request = admin_pb2.CreateInviteRequest(node_id=str(node_id))
    made = await issuer.admin("CreateInvite", request, admin_pb2.CreateInviteResponse)
    assert isinstance(made, admin_pb2.CreateInviteResponse)
    return Invite.parse(made.invite)


async def joined(config: AttestorConfig, invite: Invite) -> SpiffeID:
    said: list[SpiffeID] = []
    await rejoin(config, invite, said.append)
    (spiffe_id,) = said
    return spiffe_id


def saved(config: AttestorConfig) -> Node:
    kept = DiskState(config.state_dir).load()
    assert isinstance(kept, Node)
    return kept


class Shifted(SystemClock):
    """The wall clock of both ends, which a test puts forward."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


@pytest.fixture
def shifted(monkeypatch: pytest.MonkeyPatch) -> type[Shifted]:
    monkeypatch.setattr(Shifted, "ahead", timedelta())
    for module in ("issuer.main", "attestor.main"):
        monkeypatch.setattr(f"{module}.SystemClock", Shifted)
    return Shifted


async def test_a_node_that_may_not_return_rejoins_as_itself_with_a_new_key(
    tmp_path: Path, shifted: type[Shifted]
) -> None:
    config = AttestorConfig(state_dir=tmp_path / "node")
    async with running(tmp_path, node_svid_ttl=TTL, return_window=timedelta()) as issuer:
        first = await joined(config, await issuer.invite())
        before = saved(config)
        shifted.ahead = TTL
        again = await joined(config, await invite_again(issuer, first))
        after = saved(config)
    assert again == first == after.svid.spiffe_id
    assert after.svid.private_key.public_key() != before.svid.private_key.public_key()


async def test_the_invite_of_before_is_not_taken_for_a_new_one_once_the_svid_ran_out(
    tmp_path: Path, shifted: type[Shifted]
) -> None:
    config = AttestorConfig(state_dir=tmp_path / "node")
    async with running(tmp_path, node_svid_ttl=TTL) as issuer:
        invite = await issuer.invite()
        assert await joined(config, invite) == await joined(config, invite)  # said twice, joined once
        shifted.ahead = TTL
        with pytest.raises(Refused, match="invite: this node has already joined with it") as refused:
            await joined(config, invite)
    assert refused.value.kind is Kind.INVALID
    assert "cognomen node invite --node-id" in refused.value.hint


async def test_an_invite_of_before_a_rejoin_is_refused_with_the_node_that_goes_on_without_it(tmp_path: Path) -> None:
    config = AttestorConfig(state_dir=tmp_path / "node")
    async with running(tmp_path) as issuer:
        old = await issuer.invite()
        first = await joined(config, old)
        assert await joined(config, await invite_again(issuer, first)) == first
        with pytest.raises(Refused) as refused:
            await joined(config, old)
        kept = DiskState(config.state_dir).load()
    assert refused.value.hint.startswith(f"this state belongs to {first}, which joined with another invite")
    resumed = resumable(kept, None)
    assert resumed is not None
    assert resumed.svid.spiffe_id == first


async def test_an_evicted_node_follows_the_hint_and_joins_as_a_new_one(tmp_path: Path) -> None:
    assert "--node-id ID (without --node-id where it was evicted or banned)" in REJOIN
    config = AttestorConfig(state_dir=tmp_path / "node")
    async with running(tmp_path) as issuer:
        first = await joined(config, await issuer.invite())
        await issuer.admin("EvictNode", admin_pb2.GetNodeRequest(id=str(first)), admin_pb2.Node)
        with pytest.raises(grpc.aio.AioRpcError, match="no node has the id"):
            await invite_again(issuer, first)
        again = await joined(config, await issuer.invite())
    assert again != first
    assert saved(config).svid.spiffe_id == again


async def test_a_banned_node_follows_the_hint_and_joins_as_a_new_one(tmp_path: Path) -> None:
    config = AttestorConfig(state_dir=tmp_path / "node")
    async with running(tmp_path) as issuer:
        first = await joined(config, await issuer.invite())
        await issuer.admin("BanNode", admin_pb2.GetNodeRequest(id=str(first)), admin_pb2.Node)
        with pytest.raises(
            grpc.aio.AioRpcError, match=r"node: banned\nits machine may join as a new node: .*without --node"
        ):
            await invite_again(issuer, first)
        again = await joined(config, await issuer.invite())
    assert again != first
    assert saved(config).svid.spiffe_id == again


async def test_only_unban_ends_a_ban_and_the_node_joins_as_a_new_one(tmp_path: Path) -> None:
    config = AttestorConfig(state_dir=tmp_path / "node")
    async with running(tmp_path) as issuer:
        first = await joined(config, await issuer.invite())
        named = admin_pb2.GetNodeRequest(id=str(first))
        with pytest.raises(grpc.aio.AioRpcError, match="node: not banned\nto forget it: cognomen node evict"):
            await issuer.admin("UnbanNode", named, admin_pb2.Node)
        await issuer.admin("BanNode", named, admin_pb2.Node)
        with pytest.raises(
            grpc.aio.AioRpcError, match=r"node: banned\n.* to forget the node and the ban: cognomen node unban"
        ):
            await issuer.admin("EvictNode", named, admin_pb2.Node)
        was = await issuer.admin("UnbanNode", named, admin_pb2.Node)
        assert isinstance(was, admin_pb2.Node)
        assert was.state == "unbanned"
        with pytest.raises(grpc.aio.AioRpcError, match="no node has the id"):
            await issuer.admin("GetNode", named, admin_pb2.Node)
        again = await joined(config, await issuer.invite())
    assert again != first


async def test_a_state_in_use_is_left_alone(tmp_path: Path) -> None:
    config = AttestorConfig(state_dir=tmp_path / "node")
    async with running(tmp_path) as issuer:
        invite = await issuer.invite()
        with alone_in(private_directory(config.state_dir), "attestor"), pytest.raises(Refused) as refused:
            await joined(config, invite)
    assert refused.value.kind is Kind.EXISTS
