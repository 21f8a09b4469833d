"""What the Workload API does with entries that only observe: nothing is given for them, and what would have been is noted."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from attestor.uses import Row
from cognomen.protocol.entry import RegistrationEntry
from svid.wire.pb import workload_pb2 as pb
from tests.doubles.clock import FakeClock
from tests.doubles.workloadside import WorkloadSide, call, entry, open_stream, serving

ME = f"unix:uid:{os.geteuid()}"
WEB = entry("web", ME)
CRM = replace(entry("crm", ME), observe=True, default=True, audiences=("https://crm.example.org",))
REQUEST = pb.X509SVIDRequest()


def noted(side: WorkloadSide) -> dict[tuple[str, str | None], Row]:
    """The rows that are new, by entry and what would have been."""
    return {(row.entry.id, row.observed): row for row in side.uses.unseen(1000)}


@pytest.fixture
def side() -> WorkloadSide:
    return WorkloadSide(clock=FakeClock())


def enforced(entry: RegistrationEntry, *, revision: int = 2) -> RegistrationEntry:
    return replace(entry, observe=False, revision=revision)


async def test_a_caller_that_matches_nothing_else_is_refused_and_noted(side: WorkloadSide, tmp_path: Path) -> None:
    side.synchronise(CRM, mint=False)
    async with serving(side.flow(), tmp_path / "s") as channel:
        async with open_stream(channel, "FetchX509SVID", REQUEST, pb.X509SVIDResponse) as answers:
            refused = await answers.refusal()
        assert (refused.status, refused.message) == (Status.PERMISSION_DENIED, "no identity issued")
        row = noted(side)["crm", ""]
        assert (row.uid, row.pid, row.x509, row.jwt, row.times) == (os.geteuid(), os.getpid(), True, False, 1)
        with pytest.raises(GRPCError) as jwt:
            await call(channel, "FetchJWTSVID", pb.JWTSVIDRequest(audience=CRM.audiences), pb.JWTSVIDResponse)
        assert jwt.value.status is Status.PERMISSION_DENIED
        assert (row.jwt, row.times) == (True, 2)
    assert not side.cache.svids


async def test_it_is_never_the_default_identity_and_enforcing_it_reaches_an_open_stream(
    side: WorkloadSide, tmp_path: Path
) -> None:
    side.synchronise(WEB, CRM, mint=False)
    side.mint(WEB)
    async with (
        serving(side.flow(), tmp_path / "s") as channel,
        open_stream(channel, "FetchX509SVID", REQUEST, pb.X509SVIDResponse) as answers,
    ):
        assert [one.spiffe_id for one in (await answers.next()).svids] == [str(WEB.spiffe_id)]
        side.put(enforced(CRM))
        assert [one.spiffe_id for one in (await answers.next()).svids] == [str(CRM.spiffe_id), str(WEB.spiffe_id)]
        side.put(replace(CRM, revision=3), mint=False)
        assert [one.spiffe_id for one in (await answers.next()).svids] == [str(WEB.spiffe_id)]
    assert set(noted(side)) == {("web", None), ("crm", ""), ("crm", None)}


async def test_an_entry_that_begins_to_observe_is_noted_on_streams_that_are_open(
    side: WorkloadSide, tmp_path: Path
) -> None:
    side.synchronise(WEB)
    async with (
        serving(side.flow(), tmp_path / "s") as channel,
        open_stream(channel, "FetchX509SVID", REQUEST, pb.X509SVIDResponse) as answers,
    ):
        await answers.next()
        side.put(CRM, mint=False)
        side.put(replace(WEB, hint="told last", revision=2))
        await answers.next()
        row = noted(side)["crm", ""]
        assert row.times >= 1
        before = row.times
        side.mint(WEB)
        await answers.next()
        assert row.times == before + 1  # it would have been renewed as well


async def test_audiences_that_it_would_refuse_are_noted_each_once_and_many_together(
    side: WorkloadSide, tmp_path: Path
) -> None:
    side.synchronise(WEB, CRM, mint=False)
    async with serving(side.flow(), tmp_path / "s") as channel:
        for _ in range(2):
            request = pb.JWTSVIDRequest(audience=["https://crm.example.org", "a", "b", "a"])
            (token,) = (await call(channel, "FetchJWTSVID", request, pb.JWTSVIDResponse)).svids
            assert token.spiffe_id == str(WEB.spiffe_id)
        rows = noted(side)
        assert {key: row.times for key, row in rows.items()} == {("crm", "a"): 2, ("crm", "b"): 2, ("web", None): 2}
        only_web = pb.JWTSVIDRequest(audience=["c"], spiffe_id=str(WEB.spiffe_id))
        await call(channel, "FetchJWTSVID", only_web, pb.JWTSVIDResponse)
        assert noted(side) == {}
        for number in range(70):
            await call(channel, "FetchJWTSVID", pb.JWTSVIDRequest(audience=[f"n{number}"]), pb.JWTSVIDResponse)
        rows = noted(side)
        assert len(rows) == 63  # of 64, two were there
        assert rows["crm", "…"].times == 8
