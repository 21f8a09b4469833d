"""What the Workload API notes of uses: what is about to be given, before a byte of it is sent, and nothing that was refused."""

import os
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError

from attestor.decisions.update import X509Message
from attestor.flows.serve_workload import ServeWorkload
from attestor.uses import Row
from cognomen.gate.caller import Caller, Process
from cognomen.protocol.errors import Kind, Refused
from svid.wire.pb import workload_pb2 as pb
from tests.doubles.clock import FakeClock
from tests.doubles.workloadside import WorkloadSide, call, entry, open_stream, serving

ME = f"unix:uid:{os.geteuid()}"
WEB, DB = entry("web", ME), entry("db", ME)
OTHERS = entry("others", "unix:uid:4242")
REQUEST = pb.X509SVIDRequest()


def noted(side: WorkloadSide) -> dict[str, Row]:
    """The rows, by entry."""
    return {row.entry.id: row for row in side.uses.unseen(100)}


@pytest.fixture
def side() -> WorkloadSide:
    return WorkloadSide(clock=FakeClock())


async def test_a_stream_notes_each_identity_when_it_is_sent_and_again_when_it_changes(
    side: WorkloadSide, tmp_path: Path
) -> None:
    side.synchronise(WEB, DB, OTHERS)
    async with (
        serving(side.flow(), tmp_path / "s") as channel,
        open_stream(channel, "FetchX509SVID", REQUEST, pb.X509SVIDResponse) as answers,
    ):
        assert len((await answers.next()).svids) == 2
        rows = noted(side)
        assert {name: (row.uid, row.x509, row.jwt) for name, row in rows.items()} == {
            "web": (os.geteuid(), True, False),
            "db": (os.geteuid(), True, False),
        }
        assert isinstance(side.clock, FakeClock)
        side.clock.advance(60)
        side.mint(WEB)
        await answers.next()
        assert [rows[name].last - rows[name].first for name in ("web", "db")] == [60, 60]
        assert noted(side) == {}  # the rows that are known


async def test_an_identity_that_is_not_minted_yet_is_not_noted(side: WorkloadSide, tmp_path: Path) -> None:
    side.synchronise(WEB)
    side.put(DB, mint=False)
    async with (
        serving(side.flow(), tmp_path / "s") as channel,
        open_stream(channel, "FetchX509SVID", REQUEST, pb.X509SVIDResponse) as answers,
    ):
        await answers.next()
        assert set(noted(side)) == {"web"}
        side.mint(DB)
        await answers.next()
        assert set(noted(side)) == {"db"}


async def test_a_token_notes_its_own_identity_alone(side: WorkloadSide, tmp_path: Path) -> None:
    side.synchronise(WEB, DB)
    async with serving(side.flow(), tmp_path / "s") as channel:
        request = pb.JWTSVIDRequest(audience=["x"], spiffe_id=str(DB.spiffe_id))
        await call(channel, "FetchJWTSVID", request, pb.JWTSVIDResponse)
    assert {name: (row.x509, row.jwt) for name, row in noted(side).items()} == {"db": (False, True)}


async def test_what_is_refused_is_not_noted(side: WorkloadSide, tmp_path: Path) -> None:
    side.synchronise(OTHERS)
    async with serving(side.flow(), tmp_path / "s") as channel:
        with pytest.raises(GRPCError):
            await call(channel, "FetchJWTSVID", pb.JWTSVIDRequest(audience=["x"]), pb.JWTSVIDResponse)
        async with open_stream(channel, "FetchX509SVID", REQUEST, pb.X509SVIDResponse) as answers:
            await answers.refusal()
        side.put(WEB)
        side.refuses_tokens = Refused(Kind.UNAVAILABLE, "no")
        with pytest.raises(GRPCError):
            await call(channel, "FetchJWTSVID", pb.JWTSVIDRequest(audience=["x"]), pb.JWTSVIDResponse)
    assert noted(side) == {}


async def test_who_hangs_up_before_the_end_of_a_message_is_noted(side: WorkloadSide) -> None:
    side.synchronise(WEB)
    flow: ServeWorkload = side.flow()
    caller = Caller(
        pid=os.getpid(),
        uid=os.geteuid(),
        gid=os.getegid(),
        groups=frozenset(),
        process=Process(os.pidfd_open(os.getpid())),
    )

    async def send(_: X509Message) -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await flow.watch_x509(caller, send)
    caller.process.close()
    assert set(noted(side)) == {"web"}
