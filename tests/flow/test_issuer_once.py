"""What is good once is good once: invites, and keys that are somebody's already; and who asks for a key shows that it has it."""

import contextlib
import sqlite3
from collections.abc import Awaitable
from pathlib import Path

import grpc
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cognomen.protocol.auditlog import Checkpoint
from cognomen.protocol.possession import Purpose, possession_bytes
from cognomen.wire.pb import node_pb2
from issuer.keymanager.disk import DiskKeyManager
from svid.keys import PrivateKey, public_key_to_der
from tests.doubles.possession import possession
from tests.flow.issuer_harness import TRUST_DOMAIN, Node, attest, call, entry, join, new_key, public_der, running
from tests.flow.test_issuer_join import audit_reasons, refusal
from tests.flow.test_issuer_node_door import empty_mint, served_leaf

OLDER = "is the attestor older than the issuer?"


async def refused(attempt: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    error = await refusal(attempt)
    return error.code(), error.details() or ""


# a token is used once


async def test_a_token_whose_svid_was_used_is_used_up(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        invite, key = await issuer.invite(), new_key()
        await attest(invite, key)
        node = await join(invite, key)  # the first answer was lost
        assert await empty_mint(node) is grpc.StatusCode.INVALID_ARGUMENT
        assert await refused(attest(invite, key)) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "join token: already used, and so is the SVID that it gave",
        )
        assert await empty_mint(node) is grpc.StatusCode.INVALID_ARGUMENT, "the node is as it was"
        assert any("already used, and so is the SVID" in row for row in await audit_reasons(tmp_path))
        await node.close()


async def test_a_used_token_does_not_work_again_after_a_renewal(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        invite, key = await issuer.invite(), new_key()
        first = await join(invite, key)
        pending = await first.renew()
        assert (await refused(attest(invite, key)))[0] is grpc.StatusCode.PERMISSION_DENIED
        assert await empty_mint(pending) is grpc.StatusCode.INVALID_ARGUMENT
        assert (await refused(attest(invite, key)))[0] is grpc.StatusCode.PERMISSION_DENIED
        back = await pending.renew(key)  # even for the key of the join
        assert (await refused(attest(invite, key)))[0] is grpc.StatusCode.PERMISSION_DENIED
        for node in (first, pending, back):
            await node.close()


# who asks for a key has it


async def test_a_joiner_that_does_not_have_the_key_is_refused_and_the_token_is_still_good(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        invite, victim, mine = await issuer.invite(), new_key(), new_key()
        evidence = invite.token.encode()
        for signature, status, words in (
            (possession(mine, Purpose.JOIN, evidence), grpc.StatusCode.UNAUTHENTICATED, "key_signature: invalid"),
            (possession(victim, Purpose.JOIN, b"x" * 43), grpc.StatusCode.UNAUTHENTICATED, "key_signature: invalid"),
            (b"", grpc.StatusCode.INVALID_ARGUMENT, OLDER),
        ):
            code, detail = await refused(attest(invite, victim, key_signature=signature))
            assert code is status
            assert detail.startswith("key_signature: ")
            assert words in detail
        assert (await attest(invite, mine)).chain


async def renewal(node: Node, key: PrivateKey, signature: bytes) -> None:
    request = node_pb2.RenewNodeRequest(public_key=public_der(key), key_signature=signature)
    await call(node.channel(), "/cognomen.node.v1.Node/RenewNode", request, node_pb2.NodeCredential.FromString)


async def test_a_renewal_is_for_a_key_that_the_node_has(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node, victim, mine = await issuer.join(), new_key(), new_key()
        serial = node.serial.encode()
        for signature in (
            possession(mine, Purpose.RENEWAL, serial),
            possession(victim, Purpose.JOIN, serial),
            possession(victim, Purpose.RENEWAL, b"another SVID"),
        ):
            code, _ = await refused(renewal(node, victim, signature))
            assert code is grpc.StatusCode.UNAUTHENTICATED
        assert OLDER in (await refused(renewal(node, victim, b"")))[1]
        await node.close()


async def test_what_proved_a_key_for_one_renewal_proves_it_for_no_later_one(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node, key = await issuer.join(), new_key()
        signature = possession(key, Purpose.RENEWAL, node.serial.encode())
        await renewal(node, key, signature)
        newer = await node.renew()
        code, _ = await refused(renewal(newer, key, signature))
        assert code is grpc.StatusCode.UNAUTHENTICATED
        await newer.close()
        await node.close()


# a key is nobody else's


def own_keys(directory: Path) -> dict[str, bytes]:
    """The public keys that the issuer signs with, by what for."""
    with contextlib.closing(sqlite3.connect(directory / "state" / "issuer.db")) as database:
        authorities = database.execute("SELECT kind, state, public_key FROM authority").fetchall()
        (latest,) = database.execute("SELECT document FROM checkpoint ORDER BY number DESC LIMIT 1").fetchone()
    keys = {f"{kind} {state}": bytes(public_key) for kind, state, public_key in authorities}
    return keys | {"checkpoints": Checkpoint.parse(latest).public_key}


async def test_no_svid_is_minted_over_a_key_that_the_issuer_signs_with(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        stored = await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1"))
        keys = own_keys(tmp_path)
        assert len(keys) == 5
        for key in keys.values():
            (answer,) = await node.mint((stored.entries[0].id, key))
            assert answer.refusal.kind == "DENIED"
            assert "found one that the issuer signs with" in answer.refusal.detail
        (fine,) = await node.mint((stored.entries[0].id, public_der(new_key())))
        assert fine.credential.chain
        await node.close()


async def test_no_node_gets_a_key_that_the_issuer_signs_with_though_it_stole_it(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        invite = await issuer.invite()
        keys = DiskKeyManager(tmp_path / "state" / "keys")
        stolen = await keys.get(next(name for name in await keys.list() if name.startswith("x509-")))
        public_key, evidence = public_key_to_der(stolen.public_key), invite.token.encode()
        signature = stolen.sign(possession_bytes(Purpose.JOIN, TRUST_DOMAIN, evidence, public_key))
        assert await refused(attest(invite, new_key(), public_key=public_key, key_signature=signature)) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "public_key: expected the caller's own key, found one that the issuer signs with",
        )


async def test_no_workload_gets_the_key_of_a_node_or_of_the_issuers_doors(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node, other = await issuer.join(), await issuer.join()
        stored = await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1"))
        served = await served_leaf(issuer.bound.node_address, (await issuer.invite()).bundle.to_pem())
        of_doors = served.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for key in (public_der(node.key), public_der(other.key), of_doors):
            (answer,) = await node.mint((stored.entries[0].id, key))
            assert answer.refusal.kind == "DENIED"
            assert "expected a new key" in answer.refusal.detail
        await other.close()
        await node.close()
