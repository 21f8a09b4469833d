"""The reason of a refusal crosses the wire, so that an attestor can say what to do about it."""

from pathlib import Path

import grpc
import pytest

from attestor.config import AttestorConfig
from attestor.decisions.node import Node
from attestor.issuerclient.grpc import GRPCIssuerClient
from cognomen.protocol.errors import Kind, Reason, Refused
from cognomen.protocol.feed import Cursor
from cognomen.protocol.receipts import Enforcement
from cognomen.protocol.status import REASON
from cognomen.wire.pb import admin_pb2, node_pb2
from tests.flow.issuer_harness import running
from tests.flow.test_attestor_rejoin import joined, saved
from tests.flow.test_issuer_join import refusal


async def refused_call(node: Node) -> Refused:
    client = GRPCIssuerClient()
    await client.use(node)
    try:
        with pytest.raises(Refused) as refused:
            await client.acknowledge(Cursor(incarnation="none", number=0), Enforcement(number=0))
    finally:
        await client.close()
    return refused.value


async def test_a_banned_node_hears_that_it_is(tmp_path: Path) -> None:
    config = AttestorConfig(state_dir=tmp_path / "node")
    async with running(tmp_path) as issuer:
        spiffe_id = await joined(config, await issuer.invite())
        await issuer.admin("BanNode", admin_pb2.GetNodeRequest(id=str(spiffe_id)), admin_pb2.Node)
        found = await refused_call(saved(config))
    assert (found.kind, found.detail, found.reason) == (Kind.DENIED, "issuer: node: banned", Reason.BANNED)


async def test_an_evicted_node_hears_that_it_is(tmp_path: Path) -> None:
    config = AttestorConfig(state_dir=tmp_path / "node")
    async with running(tmp_path) as issuer:
        spiffe_id = await joined(config, await issuer.invite())
        await issuer.admin("EvictNode", admin_pb2.GetNodeRequest(id=str(spiffe_id)), admin_pb2.Node)
        found = await refused_call(saved(config))
    assert (found.kind, found.reason) == (Kind.DENIED, Reason.EVICTED)


async def test_a_node_hears_that_a_later_svid_of_it_is_in_use(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        await node.acknowledge(node_pb2.Cursor())
        after = await node.renew()
        await after.acknowledge(node_pb2.Cursor())
        error = await refusal(node.acknowledge(node_pb2.Cursor()))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert error.trailing_metadata().get(REASON) == "node-svid-superseded"
        await node.close()
        await after.close()
