"""The join door's stream: evidence, challenges and answers, with a node attestor that asks; bounded in number and time."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import grpc
import pytest
from structlog.testing import capture_logs

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from cognomen.protocol.possession import Purpose
from cognomen.protocol.selector import Selector
from cognomen.wire.pb import node_pb2
from cognomen.wire.pb.node_pb2_grpc import JoinStub
from issuer.api.crowd import KnownAddresses
from issuer.api.doors import join_server
from issuer.api.join import JoinService
from issuer.api.joinroom import JoinLimits, JoinRoom
from issuer.api.passage import Proof
from issuer.config import OnClone
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.attestation import ByIdentity, ByToken
from issuer.flows.attest_node import AttestNode
from issuer.flows.readmit_node import ReadmitNode
from issuer.keepers.clone_alarm import CloneAlarm
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.node_svids import NodeSVIDs
from issuer.keepers.refusal_record import RefusalRecord
from issuer.keymanager.memory import MemoryKeyManager
from issuer.nodeattestor.port import Challenge
from issuer.queries import Queries
from svid.clock import SystemClock
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import TRUST_DOMAIN
from tests.doubles.issuersurroundings import around
from tests.doubles.possession import possession
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

    async def attest(self, evidence: bytes, challenge: Challenge) -> ByToken:
        self.answers.append(await challenge(evidence + b"?"))
        return ByToken(token_hash="00")  # noqa: S106 - no secret


@asynccontextmanager
async def door(
    asking: Asking,
    *,
    seconds: float = 10,
    at_a_time: int = 32,
    address: Callable[[str], bytes | None] = lambda _: b"here",
) -> AsyncIterator[grpc.aio.Channel]:
    store, clock = await SQLiteDatastore.open(None), SystemClock()
    surroundings = around(clock)
    refusals = RefusalRecord(around=surroundings, datastore=store)
    deferred = DeferredWrites(around=surroundings, datastore=store)
    node_svids = NodeSVIDs(
        issuance=issuance(store, clock, MemoryKeyManager(), deferred=deferred),
        around=surroundings,
        trust_domain=TRUST_DOMAIN,
        ttl=timedelta(hours=1),
    )
    attest = AttestNode(
        datastore=store,
        attestors={asking.name: asking},
        node_svids=node_svids,
        refusals=refusals,
        around=surroundings,
        trust_domain=TRUST_DOMAIN,
    )
    readmit = ReadmitNode(
        datastore=store,
        node_svids=node_svids,
        refusals=refusals,
        clones=CloneAlarm(
            datastore=store, around=surroundings, watch=EnforcementWatch(around=surroundings), on_clone=OnClone.ALARM
        ),
        around=surroundings,
        trust_domain=TRUST_DOMAIN,
        window=timedelta(days=5),
    )
    room = JoinRoom(KnownAddresses(), JoinLimits(at_work=at_a_time, waiting=at_a_time, seconds=seconds))
    service = JoinService(attest, readmit, Queries(store, TRUST_DOMAIN), room, address)
    through_tls = Proof(certificate=None, tls_version="TLSv1.3", session_reused=False)
    server = join_server(service, lambda _: through_tls, refusals)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(0)
        await store.close()


def evidence(attestor: str = "asking") -> node_pb2.AttestNodeRequest:
    key = new_key()
    shown = node_pb2.Evidence(
        attestor=attestor,
        evidence=b"who",
        public_key=public_der(key),
        key_signature=possession(key, Purpose.JOIN, b"who"),
    )
    return node_pb2.AttestNodeRequest(evidence=shown)


def begin(channel: grpc.aio.Channel) -> CALL:
    stub: JoinAsyncStub = JoinStub(channel)
    return stub.AttestNode()


class Failing(Asking):
    """One that fails in a way of its own, or returns that."""

    def __init__(self, raises: BaseException | None = None, *, returns: object = None) -> None:
        super().__init__()
        self.raises, self.returns = raises, returns

    async def attest(self, evidence: bytes, challenge: Challenge) -> ByToken:
        del evidence, challenge
        if self.raises is not None:
            raise self.raises
        return self.returns  # type: ignore[return-value]  # as a plugin without types may


async def refused_with(attestor: Failing) -> tuple[grpc.aio.AioRpcError, str]:
    """What the joiner reads, and the reason in the issuer's log."""
    with capture_logs() as logs:
        async with door(attestor) as channel:
            stream = begin(channel)
            await stream.write(evidence())
            error = await refusal(stream.read())
    (reason,) = (str(line["reason"]) for line in logs if line["event"] == "refused")
    return error, reason


@pytest.mark.parametrize("raised", [KeyError("secret"), SystemExit(1), KeyboardInterrupt(), TimeoutError()])
async def test_whatever_an_attestor_raises_names_it_and_the_door_stays_open(raised: BaseException) -> None:
    async with door(Failing(raised)) as channel:
        for _ in range(2):
            stream = begin(channel)
            await stream.write(evidence())
            error = await refusal(stream.read())
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            assert error.details() == f"node attestor asking failed: {type(raised).__name__}"


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (None, "expected ByToken or ByIdentity, found NoneType"),
        (ByIdentity(node_id=NodeID("a/b")), "expected a node id that fits a SPIFFE ID"),
        (
            ByIdentity(node_id=NodeID("a"), selectors=frozenset(Selector("asking", f"n:{n}") for n in range(65))),
            "expected at most 64 selectors, found 65",
        ),
    ],
)
async def test_an_attestor_that_answers_nonsense_lets_nobody_in_and_the_joiner_tries_again(
    returned: object, reason: str
) -> None:
    error, said = await refused_with(Failing(returns=returned))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "node attestor asking failed")
    assert said.startswith(f"node attestor asking: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """A refusal by an attestor, what the joiner reads, and what is on record."""

    raised: BaseException
    code: grpc.StatusCode
    read: str
    on_record: str


@pytest.mark.parametrize(
    "says",
    [
        Says(
            raised=Refused(Kind.UNAUTHENTICATED, "signature: expected another"),
            code=grpc.StatusCode.UNAUTHENTICATED,
            read="signature: expected another",
            on_record="node attestor asking: signature: expected another",
        ),
        Says(
            raised=Refused(Kind.INVALID, "two\nlines" + "x" * 1000),
            code=grpc.StatusCode.INVALID_ARGUMENT,
            read="two\\nlines" + "x" * 246 + "… (1009 characters)",
            on_record="node attestor asking: two\\nlines",
        ),
        Says(
            raised=Refused(Kind.INTERNAL, "no such database"),
            code=grpc.StatusCode.UNAVAILABLE,
            read="node attestor asking failed",
            on_record="node attestor asking: no such database",
        ),
        Says(
            raised=KeyError("secret"),
            code=grpc.StatusCode.UNAVAILABLE,
            read="node attestor asking failed: KeyError",
            on_record="node attestor asking failed: KeyError",
        ),
    ],
)
async def test_what_an_attestor_refuses_is_on_record_with_its_name_and_reason(says: Says) -> None:
    error, said = await refused_with(Failing(says.raised))
    assert (error.code(), error.details()) == (says.code, says.read)
    assert said.startswith(says.on_record)
    assert said.isprintable()
    assert len(said) < 300


async def test_a_joiner_that_breaks_off_is_no_fault_of_the_attestor() -> None:
    with capture_logs() as logs:
        async with door(Asking()) as channel:
            stream = begin(channel)
            await stream.write(evidence())
            await stream.read()
            await stream.write(evidence())
            await refusal(stream.read())
    assert [line["reason"] for line in logs if line["event"] == "refused"] == ["request: not accepted, INVALID"]


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
        ([node_pb2.AttestNodeRequest(answer=b"early")], "step: expected evidence first, found another message"),
        ([node_pb2.AttestNodeRequest()], "step: expected evidence first, found another message"),
        ([evidence(), evidence()], "step: expected an answer, found another message"),
        ([evidence("none")], "attestor: unknown, expected one of asking"),
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
        assert refused.details() == "join: took longer than 0.2 s"


async def asked(channel: grpc.aio.Channel) -> CALL:
    """A join that owes an answer."""
    stream = begin(channel)
    await stream.write(evidence())
    assert getattr(await stream.read(), "challenge", None) == b"who?"
    return stream


async def test_of_those_that_owe_an_answer_the_oldest_makes_room_for_one_more_than_allowed() -> None:
    async with door(asking := Asking(), at_a_time=2) as channel:
        first, second, third = [await asked(channel) for _ in range(3)]
        refused = await refusal(first.read())
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.details() == "joins: expected at most 2 that wait or owe an answer, found one more; try again"
        for stream in (second, third):
            await stream.write(node_pb2.AttestNodeRequest(answer=b"me"))
            assert (await refusal(stream.read())).code() is grpc.StatusCode.UNAUTHENTICATED  # it was judged
        assert asking.answers == [b"me", b"me"]


async def test_a_joiner_whose_connection_has_ended_gets_no_room() -> None:
    async with door(Asking(), address=lambda _: None) as channel:
        refused = await refusal(begin(channel).read())
    assert refused.details() == "TLS: the connection is closed"


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
    assert refused.details() == "message: cannot be parsed"
    assert caplog.text == ""
    assert "Traceback" not in "".join(capfd.readouterr())
