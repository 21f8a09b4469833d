"""The join door's stream: evidence, challenges and answers, with a node attestor that asks; bounded in number and time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import grpc
import pytest

from cognomen.daemon.troubles import Troubles
from cognomen.wire.pb import node_pb2
from cognomen.wire.pb.node_pb2_grpc import JoinStub
from issuer.api.doors import join_server
from issuer.api.join import JoinService
from issuer.config import OnClone
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.flows.answer_clones import AnswerClones
from issuer.flows.attest_node import AttestNode
from issuer.flows.audit_refusals import AuditRefusals
from issuer.flows.defer_writes import DeferWrites
from issuer.flows.issue_node_svid import IssueNodeSVID
from issuer.flows.readmit_node import ReadmitNode
from issuer.flows.watch_enforcement import WatchEnforcement
from issuer.keymanager.memory import MemoryKeyManager
from issuer.metrics import Metrics
from issuer.nodeattestor.port import AttestedNode, Challenge
from svid.clock import SystemClock
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import TRUST_DOMAIN
from tests.flow.issuer_harness import new_key, public_der
from tests.flow.test_issuer_join import refusal

if TYPE_CHECKING:
    from cognomen.wire.pb.node_pb2_grpc import JoinAsyncStub

CALL: TypeAlias = "grpc.aio.StreamStreamCall[node_pb2.AttestNodeRequest, node_pb2.AttestNodeResponse]"


class Asking:
    """A node attestor that asks a question, and knows no node."""

    name = "asking"

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    async def attest(self, evidence: bytes, challenge: Challenge) -> AttestedNode:
        self.answers.append(await challenge(evidence + b"?"))
        return AttestedNode(token_hash="00")  # noqa: S106 - no secret


@asynccontextmanager
async def door(asking: Asking, *, seconds: float = 10, at_a_time: int = 32) -> AsyncIterator[grpc.aio.Channel]:
    store, clock = await SQLiteDatastore.open(None), SystemClock()
    deferred = DeferWrites(metrics=Metrics(), datastore=store, clock=clock, troubles=Troubles(clock))
    node_svids = IssueNodeSVID(
        issuance=issuance(store, clock, MemoryKeyManager(), deferred=deferred),
        clock=clock,
        trust_domain=TRUST_DOMAIN,
        ttl=timedelta(hours=1),
    )
    attest = AttestNode(
        datastore=store,
        attestors={asking.name: asking},
        node_svids=node_svids,
        refusals=AuditRefusals(metrics=Metrics(), datastore=store, clock=clock),
        clock=clock,
        trust_domain=TRUST_DOMAIN,
    )
    readmit = ReadmitNode(
        datastore=store,
        node_svids=node_svids,
        refusals=AuditRefusals(metrics=Metrics(), datastore=store, clock=clock),
        clones=AnswerClones(
            datastore=store,
            clock=clock,
            watch=WatchEnforcement(clock=clock, metrics=Metrics()),
            troubles=Troubles(clock),
            on_clone=OnClone.ALARM,
        ),
        clock=clock,
        trust_domain=TRUST_DOMAIN,
        window=timedelta(days=5),
    )
    server = join_server(JoinService(attest, readmit, store, TRUST_DOMAIN, seconds=seconds, at_a_time=at_a_time))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)
    await store.close()


def evidence(attestor: str = "asking") -> node_pb2.AttestNodeRequest:
    shown = node_pb2.Evidence(attestor=attestor, evidence=b"who", public_key=public_der(new_key()))
    return node_pb2.AttestNodeRequest(evidence=shown)


def begin(channel: grpc.aio.Channel) -> CALL:
    stub: JoinAsyncStub = JoinStub(channel)
    return stub.AttestNode()


async def test_a_challenge_reaches_the_joiner_and_its_answer_the_attestor() -> None:
    asking = Asking()
    async with door(asking) as channel:
        stream = begin(channel)
        await stream.write(evidence())
        asked = await stream.read()
        assert isinstance(asked, node_pb2.AttestNodeResponse)
        assert asked.challenge == b"who?"
        await stream.write(node_pb2.AttestNodeRequest(answer=b"me"))
        assert (await refusal(stream.read())).code() is grpc.StatusCode.UNAUTHENTICATED  # it knows no node
        assert asking.answers == [b"me"]


@pytest.mark.parametrize(
    ("steps", "detail"),
    [
        ([node_pb2.AttestNodeRequest(answer=b"early")], "step: expected evidence first, found another"),
        ([node_pb2.AttestNodeRequest()], "step: expected evidence first, found another"),
        ([evidence(), evidence()], "step: expected an answer, found another"),
        ([evidence("none")], "attestor: expected one of asking, found another"),
        ([], "step: expected one more message, found the end"),
        ([evidence()], "step: expected one more message, found the end"),
    ],
)
async def test_steps_out_of_order_are_refused(steps: list[node_pb2.AttestNodeRequest], detail: str) -> None:
    async with door(Asking()) as channel:
        stream = begin(channel)
        for step in steps:
            await stream.write(step)
        await stream.done_writing()

        async def to_the_end() -> None:
            while await stream.read() is not grpc.aio.EOF:
                pass

        refused = await refusal(to_the_end())
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert refused.details() == detail


async def test_a_joiner_that_says_nothing_is_let_go() -> None:
    async with door(Asking(), seconds=0.2) as channel:
        refused = await refusal(begin(channel).read())
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.details() == "join: expected it to take at most 0.2 s"


async def test_one_join_more_than_allowed_is_refused() -> None:
    async with door(Asking(), at_a_time=2) as channel:
        waiting = [begin(channel) for _ in range(2)]
        for stream in waiting:
            await stream.write(evidence())
            assert await stream.read() is not grpc.aio.EOF
        late = begin(channel)
        await late.write(evidence())
        refused = await refusal(late.read())
        assert refused.details() == "joins: expected at most 2 at a time, found one more"
        for stream in waiting:
            stream.cancel()


GARBAGE = b"\xff\xff\xff garbage"


@pytest.mark.parametrize("method", ["AttestNode", "Readmit", "BeginReadmission", "GetBundle"])
async def test_bytes_that_are_no_message_are_refused_without_a_traceback(
    method: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with door(Asking()) as channel:
        call = channel.stream_stream(
            f"/cognomen.node.v1.Join/{method}", request_serializer=bytes, response_deserializer=bytes
        )()
        await call.write(GARBAGE)
        await call.done_writing()
        refused = await refusal(call.read())
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.details() == "message: expected one that can be parsed, found other bytes"
    assert caplog.text == ""
    assert "Traceback" not in "".join(capfd.readouterr())
