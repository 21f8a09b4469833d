"""Whoever was given an identity keeps its connections when others take all that there are."""

from pathlib import Path

from svid.wire.pb import workload_pb2 as pb
from tests.doubles.clock import FakeClock
from tests.doubles.gated import As
from tests.doubles.workloadattestor import WorkloadAttestorDouble
from tests.doubles.workloadside import WorkloadSide, call, entry, open_stream, serving


async def test_who_was_given_an_identity_or_a_token_is_known_for_a_day(tmp_path: Path) -> None:
    side, identify = WorkloadSide(), As()
    side.synchronise(entry("a", "test:program:a"))
    attestor = WorkloadAttestorDouble("test:program:a")
    flow = side.flow(attestor)
    identify.uid = 11
    async with serving(flow, tmp_path / "s", identify=identify) as channel:
        assert not flow.holds_identity(11)
        async with open_stream(channel, "FetchX509SVID", pb.X509SVIDRequest(), pb.X509SVIDResponse) as answers:
            await answers.next()
        assert flow.holds_identity(11)
    identify.uid = 12
    async with serving(flow, tmp_path / "t", identify=identify) as channel:
        await call(channel, "FetchJWTSVID", pb.JWTSVIDRequest(audience=["a"]), pb.JWTSVIDResponse)
        assert flow.holds_identity(12)


async def test_who_is_refused_is_not_and_after_a_day_nobody_is(tmp_path: Path) -> None:
    clock, identify = FakeClock(), As()
    side = WorkloadSide(clock=clock)
    side.synchronise(entry("a", "test:program:a"))
    attestor = WorkloadAttestorDouble("test:program:b")
    flow = side.flow(attestor)
    identify.uid = 11
    async with serving(flow, tmp_path / "s", identify=identify) as channel:
        async with open_stream(channel, "FetchX509SVID", pb.X509SVIDRequest(), pb.X509SVIDResponse) as answers:
            await answers.refusal()
        assert not flow.holds_identity(11)
        attestor.selectors = ("test:program:a",)
        async with open_stream(channel, "FetchX509SVID", pb.X509SVIDRequest(), pb.X509SVIDResponse) as answers:
            await answers.next()
    assert flow.holds_identity(11)
    clock.advance(86_400)
    assert not flow.holds_identity(11)
