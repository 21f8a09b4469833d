"""A stranger that knows the name of a machine is asked, and never answers: who else can join or come back?"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cognomen.protocol.possession import Purpose
from cognomen.wire.pb import node_pb2
from cognomen.wire.pb.node_pb2_grpc import JoinStub
from tests.doubles.hardwarekey import NAME, Machine
from tests.doubles.installed import install
from tests.doubles.possession import possession
from tests.flow.issuer_harness import Issuer, call, join, new_key, public_der, running, secure_channel
from tests.flow.test_issuer_join import refusal

if TYPE_CHECKING:
    from cognomen.wire.pb.node_pb2_grpc import JoinAsyncStub

CALL: TypeAlias = "grpc.aio.StreamStreamCall[node_pb2.AttestNodeRequest, node_pb2.AttestNodeResponse]"
KEY = ec.generate_private_key(ec.SECP256R1())
MACHINE = Machine("machine-1", KEY)
CONNECTIONS, STREAMS = 8, 4


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the attestor that asks is installed."""
    plugins = {"cognomen.issuer.node_attestors": {NAME: "tests.doubles.hardwarekey:ISSUER_PLUGIN"}}
    monkeypatch.syspath_prepend(str(install(tmp_path / "site", plugins)))


@asynccontextmanager
async def asking(directory: Path) -> AsyncIterator[Issuer]:
    """An issuer that knows one machine, and asks it."""
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    plugins = {"node_attestors": {NAME: {"machines": {"machine-1": pem}}}}
    async with running(directory, node_attestors=f"join_token,{NAME}", plugins=plugins) as issuer:
        yield issuer


async def asked(channel: grpc.aio.Channel) -> tuple[CALL, bytes]:
    """Show evidence that anybody could; returns the stream and the challenge."""
    key, evidence = new_key(), await MACHINE.evidence()
    stub: JoinAsyncStub = JoinStub(channel)
    stream = stub.AttestNode(timeout=20)
    shown = node_pb2.Evidence(
        attestor=NAME,
        evidence=evidence,
        public_key=public_der(key),
        key_signature=possession(key, Purpose.JOIN, evidence),
    )
    await stream.write(node_pb2.AttestNodeRequest(evidence=shown))
    reply = await stream.read()
    assert isinstance(reply, node_pb2.AttestNodeResponse)
    return stream, reply.challenge


@pytest.mark.usefixtures("site")
async def test_challenges_that_nobody_answers_keep_nobody_out(tmp_path: Path) -> None:
    async with asking(tmp_path) as issuer, AsyncExitStack() as leaving:
        invite = await issuer.invite()
        channels = [
            await leaving.enter_async_context(secure_channel(invite.join_address, invite.bundle.to_pem()))
            for _ in range(CONNECTIONS + 1)
        ]
        silent = [(await asked(channel))[0] for channel in channels[1:] for _ in range(STREAMS)]
        # One joins with a token, one that is asked answers, and one that comes back is judged.
        assert (await join(invite)).spiffe_id
        stream, challenge = await asked(channels[0])
        await stream.write(node_pb2.AttestNodeRequest(answer=await MACHINE.answer(challenge)))
        reply = await stream.read()
        assert isinstance(reply, node_pb2.AttestNodeResponse)
        assert reply.attested.chain
        returning = call(
            channels[0],
            "/cognomen.node.v1.Join/Readmit",
            node_pb2.ReadmitRequest(),
            node_pb2.NodeCredential.FromString,
        )
        assert (await refusal(returning)).code() is grpc.StatusCode.INVALID_ARGUMENT
        assert not any(each.done() for each in silent), "they still owe their answers"
