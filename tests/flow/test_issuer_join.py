"""The join door: who gets in with a token, and who does not."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cognomen.wire.pb import admin_pb2, node_pb2
from svid.bundle import Bundle
from tests.flow.issuer_harness import (
    TRUST_DOMAIN,
    Issuer,
    attest,
    call,
    join,
    new_key,
    public_der,
    running,
    secure_channel,
)


async def refusal(attempt: object) -> grpc.aio.AioRpcError:
    assert asyncio.iscoroutine(attempt)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await attempt
    return refused.value


async def audit_reasons(directory: Path) -> list[str]:
    """What was refused, as the audit has it; the issuer may run."""
    with contextlib.closing(sqlite3.connect(directory / "state" / "issuer.db")) as database:
        bodies = [bytes(body) for (body,) in database.execute("SELECT body FROM audit ORDER BY number LIMIT 1000")]
    return [body.decode() for body in bodies if b'"decision":"refused"' in body]


async def test_of_two_nodes_with_one_token_at_once_exactly_one_wins(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        invite = await issuer.invite()
        outcomes = await asyncio.gather(*(join(invite) for _ in range(8)), return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
        assert len(refused) == 7
        assert {each.code() for each in refused} == {grpc.StatusCode.PERMISSION_DENIED}
        assert any("already used by another key" in row for row in await audit_reasons(tmp_path))


async def test_the_same_key_may_repeat_and_is_the_same_node(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        invite, key = await issuer.invite(), new_key()
        first, second = await join(invite, key), await join(invite, key)
        assert first.spiffe_id == second.spiffe_id
        assert (await issuer.node_row(first.id)).pending_serial == second.serial


async def test_a_token_that_is_over_admits_nobody(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        invite = await issuer.invite(ttl=timedelta(seconds=1))
        key = new_key()
        await attest(invite, key)
        while True:  # the token's life is short; the same key may repeat within it
            try:
                await attest(invite, key)
            except grpc.aio.AioRpcError as refused:
                assert refused.code() is grpc.StatusCode.UNAUTHENTICATED  # noqa: PT017 - it may come at any turn
                assert "expired" in (refused.details() or "")  # noqa: PT017 - as above
                break


async def test_labels_become_node_selectors(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join({"team": "travel"})
        row = await issuer.node_row(node.spiffe_id)
        assert [(each.type, each.value) for each in row.selectors] == [("join_token", "label:team:travel")]


@pytest.mark.parametrize(
    "evidence",
    [b"", b"x" * 43, b"x" * 42, b"\x00" * 43, b"../" * 14 + b"a", b"y" * 16_000],
    ids=lambda e: f"{len(e)}-{e[:3]!r}",
)
async def test_what_is_no_token_of_ours_is_refused(tmp_path: Path, evidence: bytes) -> None:
    async with running(tmp_path) as issuer:
        refused = await refusal(attest(await issuer.invite(), new_key(), evidence=evidence))
        assert refused.code() in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT}


async def test_evidence_over_its_limit_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        refused = await refusal(attest(await issuer.invite(), new_key(), evidence=b"x" * (16 * 1024 + 1)))
        assert refused.details() == "evidence: expected at most 16384 bytes, found 16385"


def spki(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "make",
    [
        lambda: spki(ec.generate_private_key(ec.SECP521R1()).public_key()),
        lambda: spki(ec.generate_private_key(ec.SECP256K1()).public_key()),
        lambda: spki(rsa.generate_private_key(65537, 2048).public_key()),
        lambda: b"no key",
        lambda: public_der(new_key()) + b"\x00",
    ],
    ids=["p521", "secp256k1", "rsa", "bytes", "trailing"],
)
async def test_a_key_that_we_do_not_certify_is_refused(tmp_path: Path, make: Callable[[], bytes]) -> None:
    async with running(tmp_path) as issuer:
        refused = await refusal(attest(await issuer.invite(), new_key(), public_key=make()))
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (refused.details() or "").startswith("public_key: ")


async def test_a_workloads_key_cannot_become_a_nodes(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        other = await issuer.join()
        refused = await refusal(attest(await issuer.invite(), other.key))
        assert refused.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "expected a new key" in (refused.details() or "")


async def test_the_join_door_gives_our_bundle(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        invite = await issuer.invite()
        async with secure_channel(invite.join_address, invite.bundle.to_pem()) as channel:
            reply = await call(
                channel,
                "/cognomen.node.v1.Join/GetBundle",
                node_pb2.GetBundleRequest(),
                node_pb2.GetBundleResponse.FromString,
            )
        assert isinstance(reply, node_pb2.GetBundleResponse)
        assert Bundle.from_jwks(TRUST_DOMAIN, reply.bundle) == invite.bundle
        assert len(invite.bundle.x509_authorities) == 2  # active and next
        assert len(invite.bundle.jwt_authorities) == 2


@pytest.mark.parametrize(
    ("labels", "ttl", "field"),
    [
        ({"a:b": "c"}, None, "labels"),
        ({"a": ""}, None, "labels"),
        ({}, timedelta(0), "ttl"),
        ({}, timedelta(days=2), "ttl"),
    ],
)
async def test_an_invite_that_cannot_be_is_refused(
    tmp_path: Path, labels: dict[str, str], ttl: timedelta | None, field: str
) -> None:
    async with running(tmp_path) as issuer:
        refused = await refusal(issuer.invite(labels, ttl=ttl))
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (refused.details() or "").startswith(f"{field}: ")


async def garbage(connecting: Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]], data: bytes) -> None:
    """Send bytes that mean nothing, and wait until the other side has had enough."""
    reader, writer = await connecting
    async with asyncio.timeout(15):
        with contextlib.suppress(OSError):  # it may have had enough already
            writer.write(data)
            await writer.drain()
            writer.write_eof()
            await reader.read()
    writer.close()


@pytest.mark.parametrize("door", ["join_address", "node_address"])
async def test_garbage_bytes_leave_the_doors_standing(tmp_path: Path, door: str) -> None:
    async with running(tmp_path) as issuer:
        host, _, port = getattr(issuer.bound, door).rpartition(":")
        for data in (b"\x00" * 4096, b"\xff" * 4096, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"a" * 9000):
            await garbage(asyncio.open_connection(host, int(port)), data)
        assert await still_works(issuer)


async def test_garbage_bytes_leave_the_admin_socket_standing(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        await garbage(asyncio.open_unix_connection(issuer.config.admin_socket), b"\xff" * 4096)
        assert await still_works(issuer)


async def still_works(issuer: Issuer) -> bool:
    node = await issuer.join()
    nodes = await issuer.admin("ListNodes", admin_pb2.ListNodesRequest(), admin_pb2.ListNodesResponse)
    assert isinstance(nodes, admin_pb2.ListNodesResponse)
    return node.id in {each.id for each in nodes.nodes}
