"""The way back of a node through the join door, and who does not come in by it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from cognomen.protocol.invite import Invite
from cognomen.protocol.possession import Purpose
from cognomen.protocol.readmission import readmission_bytes
from cognomen.wire.pb import admin_pb2, node_pb2
from issuer.datastore.sqlite import SQLiteDatastore
from svid.keys import KeyID, LocalSigningKey, PrivateKey
from tests.doubles.possession import possession
from tests.flow.issuer_harness import (
    TRUST_DOMAIN,
    Issuer,
    Node,
    call,
    join,
    new_key,
    public_der,
    running,
    secure_channel,
)

SECOND = timedelta(seconds=1)


@dataclass(kw_only=True)
class Return:
    """A readmission, for tests to bend."""

    issuer: Issuer
    node: Node
    key: PrivateKey
    nonce: bytes = b""
    signed_by: PrivateKey | None = None
    signs: bytes | None = None
    key_signature: bytes | None = None

    async def begin(self) -> bytes:
        reply = await self._call(
            "BeginReadmission", node_pb2.BeginReadmissionRequest(), node_pb2.BeginReadmissionResponse
        )
        assert isinstance(reply, node_pb2.BeginReadmissionResponse)
        return reply.nonce

    async def __call__(self) -> Node:
        nonce = self.nonce or await self.begin()
        signer = LocalSigningKey(KeyID("node"), self.signed_by or self.node.key)
        message = self.signs or readmission_bytes(TRUST_DOMAIN, nonce, public_der(self.key))
        request = node_pb2.ReadmitRequest(
            certificate=self.node.credential.chain[0],
            nonce=nonce,
            public_key=public_der(self.key),
            signature=signer.sign(message),
            key_signature=possession(self.key, Purpose.READMISSION, nonce)
            if self.key_signature is None
            else self.key_signature,
        )
        reply = await self._call("Readmit", request, node_pb2.NodeCredential)
        assert isinstance(reply, node_pb2.NodeCredential)
        return Node(self.issuer.bound.node_address, self.key, reply)

    async def _call(self, name: str, request: object, reply: type) -> object:
        pem = (await self.issuer.invite()).bundle.to_pem()
        async with secure_channel(self.issuer.bound.join_address, pem) as channel:
            return await call(channel, f"/cognomen.node.v1.Join/{name}", request, reply.FromString)  # type: ignore[arg-type,attr-defined]  # messages


async def refused(attempt: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await attempt
    return error.value.code(), error.value.details() or ""


async def read_on(feed: "grpc.aio.UnaryStreamCall[node_pb2.FollowRequest, node_pb2.Change]") -> None:
    """Read what a node is told until its feed ends."""
    while await feed.read() is not grpc.aio.EOF:
        pass


async def until_over(node: Node) -> None:
    """Wait until TLS refuses the node's SVID: gRPC reads the wall clock."""
    while True:
        try:
            await node.acknowledge(node_pb2.Cursor(incarnation="none"))
        except grpc.aio.AioRpcError:
            return
        await node.close()


async def audit(directory: Path) -> str:
    store = await SQLiteDatastore.open(directory / "state" / "issuer.db")
    try:
        rows = await store.read(lambda tx: tx.audit.rows(after=0, limit=1000))
    finally:
        await store.close()
    return "\n".join(row.body.decode() for row in rows)


async def test_a_node_whose_svid_ran_out_returns_and_calls_again(tmp_path: Path) -> None:
    async with running(tmp_path, node_svid_ttl=SECOND) as issuer:
        node = await issuer.join()
        await until_over(node)
    async with running(tmp_path) as issuer:
        back = await Return(issuer=issuer, node=node, key=new_key())()
        assert back.spiffe_id == node.spiffe_id
        await back.acknowledge(node_pb2.Cursor(incarnation="none"))
        await back.close()
    assert '"node readmitted"' in await audit(tmp_path)


async def test_a_lost_reply_is_repeated_with_the_same_old_key(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        await Return(issuer=issuer, node=node, key=new_key())()  # never used
        back = await Return(issuer=issuer, node=node, key=new_key())()
        await back.acknowledge(node_pb2.Cursor(incarnation="none"))
        await back.close()


async def test_a_nonce_is_good_once_also_at_the_same_time(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        nonce = await Return(issuer=issuer, node=node, key=new_key()).begin()
        attempts = (Return(issuer=issuer, node=node, key=new_key(), nonce=nonce)() for _ in range(5))
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
        assert len(errors) == 4
        assert {error.details() for error in errors} == {"nonce: already used"}


async def test_an_older_svid_of_the_node_does_not_return_and_is_on_record_as_a_clone(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        clone = await issuer.join()
        await clone.acknowledge(node_pb2.Cursor(incarnation="none"))
        node = await clone.renew()
        await node.acknowledge(node_pb2.Cursor(incarnation="none"))
        code, detail = await refused(Return(issuer=issuer, node=clone, key=new_key())())
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "superseded" in detail
        await clone.close()
        await node.close()
    assert "suspected clone" in await audit(tmp_path)


Bend = Callable[[Return], None]


def signed_by_another(attempt: Return) -> None:
    attempt.signed_by = new_key()


def for_another_key(attempt: Return) -> None:
    attempt.signs = b"something else"


def with_a_made_up_nonce(attempt: Return) -> None:
    attempt.nonce = bytes(56)


def with_a_short_nonce(attempt: Return) -> None:
    attempt.nonce = b"n"


@pytest.mark.parametrize("bend", [signed_by_another, for_another_key, with_a_made_up_nonce, with_a_short_nonce])
async def test_what_proves_nothing_is_refused(tmp_path: Path, bend: Bend) -> None:
    async with running(tmp_path) as issuer:
        attempt = Return(issuer=issuer, node=await issuer.join(), key=new_key())
        bend(attempt)
        code, _ = await refused(attempt())
        assert code is grpc.StatusCode.UNAUTHENTICATED


async def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "a") as one, running(tmp_path / "b") as other:
        attempt = Return(issuer=one, node=await other.join(), key=new_key())
        code, detail = await refused(attempt())
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert "none of our authorities" in detail


@pytest.mark.parametrize("certificate", [b"", b"nonsense", bytes(9000)])
async def test_what_is_no_certificate_is_invalid(tmp_path: Path, certificate: bytes) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        node.credential = node_pb2.NodeCredential(chain=[certificate], bundle=node.credential.bundle)
        code, _ = await refused(Return(issuer=issuer, node=node, key=new_key())())
        assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_after_the_window_nobody_returns_and_the_operator_is_told_how(tmp_path: Path) -> None:
    async with running(tmp_path, node_svid_ttl=SECOND, return_window=timedelta(0)) as issuer:
        node = await issuer.join()
        code, detail = await refused(Return(issuer=issuer, node=node, key=new_key())())
        assert (code, detail) == (grpc.StatusCode.PERMISSION_DENIED, "return: disabled")


async def test_a_banned_node_is_sent_away_at_once_and_does_not_return(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        feed = node.follow()
        assert isinstance(await feed.read(), node_pb2.Change)
        await issuer.admin("BanNode", admin_pb2.GetNodeRequest(id=node.id), admin_pb2.Node)
        code, detail = await refused(read_on(feed))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "banned" in detail
        for attempt in (Return(issuer=issuer, node=node, key=new_key())(), issuer_invites(issuer, node.id)):
            code, detail = await refused(attempt)
            assert (code, detail.splitlines()[0]) == (grpc.StatusCode.PERMISSION_DENIED, "node: banned")
        await node.close()


async def test_an_evicted_node_is_forgotten_and_its_feed_ends_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        feed = node.follow()
        assert isinstance(await feed.read(), node_pb2.Change)
        await issuer.admin("EvictNode", admin_pb2.GetNodeRequest(id=node.id), admin_pb2.Node)
        code, _ = await refused(read_on(feed))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        code, _ = await refused(issuer.node_row(node.id))
        assert code is grpc.StatusCode.NOT_FOUND
        await node.close()


async def test_a_node_that_is_invited_again_stays_the_same(tmp_path: Path) -> None:
    async with running(tmp_path, return_window=timedelta(0)) as issuer:
        node = await issuer.join({"team": "travel"})
        again = await issuer_joins_again(issuer, node.id)
        assert again.spiffe_id == node.spiffe_id
        await again.acknowledge(node_pb2.Cursor(incarnation="none"))
        row = await issuer.node_row(node.id)
        assert [selector.value for selector in row.selectors] == ["label:team:travel"]
        await again.close()


async def test_nodes_that_never_came_back_are_purged_and_shown_before(tmp_path: Path) -> None:
    async with running(tmp_path, node_svid_ttl=SECOND) as issuer:
        gone = await issuer.join()
        await until_over(gone)
        request = admin_pb2.PurgeNodesRequest(dry_run=True)
        for dry_run in (True, False):
            request.dry_run = dry_run
            reply = await issuer.admin("PurgeNodes", request, admin_pb2.PurgeNodesResponse)
            assert isinstance(reply, admin_pb2.PurgeNodesResponse)
            assert [node.id for node in reply.nodes] == [gone.id]
        code, _ = await refused(issuer.node_row(gone.id))
        assert code is grpc.StatusCode.NOT_FOUND
    assert '"node purged"' in await audit(tmp_path)


async def issuer_invites(issuer: Issuer, node_id: str) -> admin_pb2.CreateInviteResponse:
    made = await issuer.admin(
        "CreateInvite", admin_pb2.CreateInviteRequest(node_id=node_id), admin_pb2.CreateInviteResponse
    )
    assert isinstance(made, admin_pb2.CreateInviteResponse)
    return made


async def issuer_joins_again(issuer: Issuer, node_id: str) -> Node:
    return await join(Invite.parse((await issuer_invites(issuer, node_id)).invite))


async def test_a_node_returns_with_a_key_that_it_has(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        attempt = Return(issuer=issuer, node=await issuer.join(), key=new_key())
        nonce = await attempt.begin()
        for key, bound_to in ((new_key(), nonce), (attempt.key, b"another nonce")):
            bent = replace(attempt, nonce=nonce, key_signature=possession(key, Purpose.READMISSION, bound_to))
            assert (await refused(bent()))[0] is grpc.StatusCode.UNAUTHENTICATED
        code, detail = await refused(replace(attempt, nonce=nonce, key_signature=b"")())
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "is the attestor older than the issuer?" in detail
        node = await replace(attempt, nonce=nonce)()
        assert node.spiffe_id == attempt.node.spiffe_id
