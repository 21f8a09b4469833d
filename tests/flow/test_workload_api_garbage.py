"""No method of the Workload API leaves anything to the garbage collector, however its calls end."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import uvloop
from google.protobuf.message import Message

from attestor.workloadattestor.port import WorkloadAttestor
from cognomen.gate.gate import Limits
from cognomen.protocol.errors import Kind, Refused
from svid.wire.pb import callers_pb2, denials_pb2, workload_pb2
from tests.doubles.garbage import Caller, End, Headers, garbage_of
from tests.doubles.workloadattestor import WorkloadAttestorDouble
from tests.doubles.workloadside import HEADER, WorkloadSide, entry, served

CALLS = 200
UID = f"unix:uid:{os.getuid()}"
_API, _DENIALS, _CALLERS = "SpiffeWorkloadAPI", "cognomen.workload.v1.Denials", "cognomen.workload.v1.Callers"
_JWT = workload_pb2.JWTSVIDRequest(audience=["db"])
STREAMS: dict[str, Message] = {
    f"{_API}/FetchX509SVID": workload_pb2.X509SVIDRequest(),
    f"{_API}/FetchX509Bundles": workload_pb2.X509BundlesRequest(),
    f"{_API}/FetchJWTBundles": workload_pb2.JWTBundlesRequest(),
    f"{_DENIALS}/Follow": denials_pb2.FollowRequest(),
    f"{_CALLERS}/Follow": callers_pb2.FollowCallersRequest(),
}
UNARY: dict[str, tuple[str, Message]] = {
    "token": (f"{_API}/FetchJWTSVID", _JWT),
    "no audience": (f"{_API}/FetchJWTSVID", workload_pb2.JWTSVIDRequest()),
    "identity of another": (
        f"{_API}/FetchJWTSVID",
        workload_pb2.JWTSVIDRequest(audience=["db"], spiffe_id="spiffe://a/b"),
    ),
    "bad token": (f"{_API}/ValidateJWTSVID", workload_pb2.ValidateJWTSVIDRequest(audience="db", svid="a.b.c")),
    "receipt": (f"{_DENIALS}/Enforced", denials_pb2.EnforcedRequest(point="p", gone=True)),
    "bad receipt": (f"{_DENIALS}/Enforced", denials_pb2.EnforcedRequest()),
    "not built": (f"{_API}/FetchWITSVID", workload_pb2.WITSVIDRequest()),
}


def left_by(
    side: WorkloadSide,
    path: Path,
    method: str,
    request: Message,
    *,
    end: End = End.BY_SERVER,
    headers: Headers = HEADER,
    attestors: Sequence[WorkloadAttestor] = (),
) -> Counter[str]:
    """What so many calls leave, as the daemon runs them: a transport of asyncio's own loop is a cycle by itself."""

    async def measure() -> Counter[str]:
        side.synchronise(entry("a", UID), entry("b", UID))
        flow, limits = side.flow(*attestors), Limits(rate=10**9)
        async with served(
            flow, path / "s", denials=side.denials_flow(), callers=side.callers_flow(flow), limits=limits
        ) as server:
            message = request.SerializeToString()
            caller = Caller(path / "s", lambda: server.calls, method, message, headers=headers)
            return await garbage_of(lambda count: caller.call(end, count), CALLS)

    return uvloop.run(measure())


@pytest.mark.parametrize("end", [End.RESET_AT_ONCE, End.RESET, End.CONNECTION_LOST])
@pytest.mark.parametrize("method", STREAMS)
def test_a_stream_that_its_caller_ends_leaves_no_garbage(tmp_path: Path, method: str, end: End) -> None:
    left = left_by(WorkloadSide(), tmp_path, method, STREAMS[method], end=end)
    assert left.total() < CALLS / 10, left


@pytest.mark.parametrize("method", STREAMS)
def test_a_stream_that_its_deadline_ends_leaves_no_garbage(tmp_path: Path, method: str) -> None:
    left = left_by(WorkloadSide(), tmp_path, method, STREAMS[method], headers=(*HEADER, ("grpc-timeout", "20m")))
    assert left.total() < CALLS / 10, left


@pytest.mark.parametrize("case", UNARY)
def test_a_call_that_is_answered_or_refused_leaves_no_garbage(tmp_path: Path, case: str) -> None:
    left = left_by(WorkloadSide(), tmp_path, *UNARY[case])
    assert left.total() < CALLS / 10, left


@pytest.mark.parametrize("method", [f"{_API}/FetchX509SVID", f"{_API}/FetchJWTSVID"])
def test_a_caller_whom_nobody_attests_leaves_no_garbage(tmp_path: Path, method: str) -> None:
    attestor = WorkloadAttestorDouble()
    attestor.refuses = Refused(Kind.UNAVAILABLE, "not now")
    left = left_by(WorkloadSide(), tmp_path, method, _JWT, attestors=[attestor, attestor])
    assert left.total() < CALLS / 10, left


def test_tokens_that_the_issuer_refuses_leave_no_garbage(tmp_path: Path) -> None:
    side = WorkloadSide(refuses_tokens=Refused(Kind.EXHAUSTED, "later"))
    left = left_by(side, tmp_path, f"{_API}/FetchJWTSVID", _JWT)
    assert left.total() < CALLS / 10, left


def test_a_call_without_the_header_leaves_no_garbage(tmp_path: Path) -> None:
    left = left_by(WorkloadSide(), tmp_path, f"{_API}/FetchX509SVID", _JWT, headers=())
    assert left.total() < CALLS / 10, left
