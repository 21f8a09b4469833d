"""The node door: which calls are let in, and what becomes of node SVIDs."""

import asyncio
import contextlib
import ssl
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_public_key
from h2.connection import H2Connection
from h2.events import RemoteSettingsChanged
from h2.settings import SettingCodes

from cognomen.wire.pb import node_pb2
from svid.encoding import certificates_from_der
from tests.flow.issuer_harness import Node, attest, entry, join, new_key, public_der, roots_of, running, secure_channel
from tests.flow.test_issuer_join import audit_reasons, refusal


async def empty_mint(node: Node) -> grpc.StatusCode:
    """Call with nothing to mint: INVALID_ARGUMENT says that the caller was let in."""
    return (await refusal(node.mint())).code()


def tls(node: Node, directory: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=roots_of(node.credential.bundle).decode())
    pem = directory / "node.pem"
    key = node.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(key + node.leaf.public_bytes(Encoding.PEM))
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["h2"])
    return context


async def settings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> RemoteSettingsChanged:
    """What a server says first, to whoever has said something."""
    connection = H2Connection()
    connection.initiate_connection()
    writer.write(connection.data_to_send())
    while True:
        for event in connection.receive_data(await reader.read(4096)):
            if isinstance(event, RemoteSettingsChanged):
                return event


async def test_a_connection_may_have_as_many_calls_open_as_an_attestor_needs(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer, asyncio.timeout(20):
        node = await issuer.join()
        host, _, port = node.address.rpartition(":")
        context = tls(node, tmp_path)
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        most = (await settings(reader, writer)).changed_settings[SettingCodes.MAX_CONCURRENT_STREAMS]
        writer.close()
        await node.close()
    assert most.new_value == 8


async def test_no_certificate_is_no_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        stranger = Node(node.address, node.key, node.credential)
        stranger._channels.append(secure_channel(node.address, roots_of(node.credential.bundle)))
        assert await empty_mint(stranger) is grpc.StatusCode.UNAVAILABLE
        await stranger.close()


async def test_a_workloads_svid_is_no_nodes(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        made = await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1"))
        key = new_key()
        (minted,) = await node.mint((made.entries[0].id, public_der(key)))
        credential = node_pb2.NodeCredential(chain=minted.credential.chain, bundle=node.credential.bundle)
        workload = Node(node.address, key, credential)
        refused = await refusal(workload.mint())
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "expected the ID of a node" in (refused.details() or "")
        await workload.close()
        await node.close()


async def test_an_expired_svid_is_refused_on_a_connection_that_stands(tmp_path: Path) -> None:
    async with running(tmp_path, node_svid_ttl=timedelta(seconds=2)) as issuer:
        node = await issuer.join()
        feed = node.follow()
        assert await feed.read() is not grpc.aio.EOF
        assert await empty_mint(node) is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await feed.read()
        assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "expired" in (ended.value.details() or "")
        assert await empty_mint(node) is grpc.StatusCode.UNAUTHENTICATED
        await node.close()


async def test_a_renewed_svid_is_pending_until_its_first_use_and_the_older_one_is_refused_then(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        older = await issuer.join()
        newer = await older.renew()
        row = await issuer.node_row(older.id)
        assert (row.current_serial, row.pending_serial) == (older.serial, newer.serial)
        assert await empty_mint(older) is grpc.StatusCode.INVALID_ARGUMENT
        assert await empty_mint(newer) is grpc.StatusCode.INVALID_ARGUMENT
        row = await issuer.node_row(older.id)
        assert (row.current_serial, row.pending_serial) == (newer.serial, "")
        refused = await refusal(older.mint())
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "superseded" in (refused.details() or "")
        assert any("superseded" in reason for reason in await audit_reasons(tmp_path))
        await older.close()
        await newer.close()


async def test_a_renewal_whose_reply_was_lost_may_be_repeated_with_the_same_key(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node, key = await issuer.join(), new_key()
        lost, had = await node.renew(key), await node.renew(key)
        assert await empty_mint(had) is grpc.StatusCode.INVALID_ARGUMENT
        assert await empty_mint(lost) is grpc.StatusCode.PERMISSION_DENIED
        for each in (node, lost, had):
            await each.close()


async def test_a_renewal_for_another_nodes_key_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        one, other = await issuer.join(), await issuer.join()
        refused = await refusal(one.renew(other.key))
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
        await one.close()


async def test_the_node_svid_is_for_the_key_and_node_that_asked(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        invite, key = await issuer.invite(), new_key()
        node = await join(invite, key)
        assert load_der_public_key(public_der(key)) == node.leaf.public_key()
        assert node.spiffe_id.startswith("spiffe://example.org/cognomen/node/join_token/")
        assert any(each.serial == node.serial and each.kind == "node" for each in await issuer.ledger())


async def served_leaf(issuer_address: str, roots: bytes) -> x509.Certificate:
    host, _, port = issuer_address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=roots.decode())
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    facts: ssl.SSLObject = writer.get_extra_info("ssl_object")
    der = facts.getpeercert(binary_form=True)
    writer.close()
    assert der is not None
    return certificates_from_der(der)[0]


async def test_the_issuers_own_svid_is_renewed_at_half_life_without_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path, issuer_svid_ttl=timedelta(seconds=8)) as issuer:
        roots = (await issuer.invite()).bundle.to_pem()
        first = (await served_leaf(issuer.bound.join_address, roots)).serial_number
        async with asyncio.timeout(20):
            serial = first
            while serial == first:
                with contextlib.suppress(
                    ssl.SSLCertVerificationError
                ):  # over before its turn came, on a machine that is that busy
                    serial = (await served_leaf(issuer.bound.join_address, roots)).serial_number
        assert (await attest(await issuer.invite(), new_key())).chain


async def test_nodes_stay_known_over_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        bundle = (await issuer.invite()).bundle
    async with running(tmp_path) as issuer:
        assert (await issuer.invite()).bundle == bundle
        again = Node(issuer.bound.node_address, node.key, node.credential)
        assert await empty_mint(again) is grpc.StatusCode.INVALID_ARGUMENT
        await again.close()
