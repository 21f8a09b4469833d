"""The Workload API through a real socket: what a caller is told, first and at each change."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key
from google.protobuf.message import Message
from grpclib.client import Channel
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError

from svid.bundle import Bundle
from svid.wire.pb import workload_pb2 as pb
from svid.wire.workload import read_jwt_bundles, read_x509_bundles, read_x509_context
from tests.doubles.workloadside import HEADER, TRUST_DOMAIN, WorkloadSide, call, entry, open_stream, serving

UID = f"unix:uid:{os.getuid()}"
EXECUTABLE = f"unix:path:{Path('/proc/self/exe').readlink()}"
X509 = "FetchX509SVID", pb.X509SVIDRequest(), pb.X509SVIDResponse
X509_BUNDLES = "FetchX509Bundles", pb.X509BundlesRequest(), pb.X509BundlesResponse
JWT_BUNDLES = "FetchJWTBundles", pb.JWTBundlesRequest(), pb.JWTBundlesResponse
STREAMS: list[tuple[str, Message, type[Message]]] = [X509, X509_BUNDLES, JWT_BUNDLES]
NAMES = [name for name, _, _ in STREAMS]


@pytest.fixture
def side() -> WorkloadSide:
    return WorkloadSide()


@pytest.fixture
async def channel(side: WorkloadSide, tmp_path: Path) -> AsyncIterator[Channel]:
    async with serving(side.flow(), tmp_path / "api.sock") as channel:
        yield channel


@pytest.mark.clause("WE-02", "WE-07", "WE-12", "WE-14", "WA-01", "WA-09", "WA-16", "WA-17", "WA-18")
async def test_a_caller_gets_its_svid_key_and_bundle_at_once(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    async with open_stream(channel, *X509) as answers:
        answer = await answers.next()
    context = read_x509_context(answer)
    assert [str(svid.spiffe_id) for svid in context.svids] == ["spiffe://example.org/w/a"]
    assert context.bundles[TRUST_DOMAIN].x509_authorities == side.bundle.x509_authorities
    assert load_der_private_key(answer.svids[0].x509_svid_key, password=None) is not None


@pytest.mark.clause("WA-16", "WA-43")
async def test_every_identity_of_a_caller_is_in_each_message_the_oldest_first(
    side: WorkloadSide, channel: Channel
) -> None:
    day = timedelta(days=1)
    side.synchronise(
        entry("young", UID, age=day), entry("old", UID, age=2 * day), entry("other", "unix:uid:4294967294")
    )
    async with open_stream(channel, *X509) as answers:
        answer = await answers.next()
    assert [svid.spiffe_id for svid in answer.svids] == ["spiffe://example.org/w/old", "spiffe://example.org/w/young"]


@pytest.mark.clause("WA-19")
async def test_of_two_entries_with_one_hint_the_older_keeps_it(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("young", UID, hint="db"), entry("old", UID, age=timedelta(days=2), hint="db"))
    async with open_stream(channel, *X509) as answers:
        answer = await answers.next()
    assert [svid.hint for svid in answer.svids] == ["db", ""]


@pytest.mark.clause("WA-07", "WA-08")
async def test_an_entry_that_comes_is_pushed_with_all_the_others(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    async with open_stream(channel, *X509) as answers:
        await answers.next()
        side.put(entry("b", UID))
        answer = await answers.next()
    assert [svid.spiffe_id for svid in answer.svids] == ["spiffe://example.org/w/a", "spiffe://example.org/w/b"]


async def test_an_entry_that_needs_a_fact_nobody_needed_before_is_pushed(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    async with open_stream(channel, *X509) as answers:
        await answers.next()
        side.put(entry("b", UID, EXECUTABLE))
        answer = await answers.next()
    assert len(answer.svids) == 2


@pytest.mark.clause("WA-08")
async def test_a_renewed_svid_is_pushed(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    async with open_stream(channel, *X509) as answers:
        first = await answers.next()
        side.mint(entry("a", UID))
        second = await answers.next()
    assert first.svids[0].x509_svid_key != second.svids[0].x509_svid_key


@pytest.mark.clause("WA-08")
async def test_a_new_authority_is_pushed_with_the_svid(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    async with open_stream(channel, *X509) as answers:
        await answers.next()
        side.rotate()
        answer = await answers.next()
    assert len(read_x509_context(answer).bundles[TRUST_DOMAIN].x509_authorities) == 2


async def test_a_message_that_says_nothing_new_is_not_sent(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    async with open_stream(channel, *X509) as answers:
        await answers.next()
        side.put(entry("b", UID), mint=False)  # wakes the stream: it matches, but there is nothing to send yet
        await asyncio.sleep(0)
        side.put(entry("c", UID))
        answer = await answers.next()
    assert [svid.spiffe_id for svid in answer.svids] == ["spiffe://example.org/w/a", "spiffe://example.org/w/c"]


async def test_a_caller_whose_svid_is_being_minted_waits_for_it(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID), mint=False)
    async with open_stream(channel, *X509) as answers, asyncio.TaskGroup() as group:
        waiting = group.create_task(answers.next())
        while not side.cache.wanted():  # noqa: ASYNC110 - the stream has subscribed
            await asyncio.sleep(0)
        assert not waiting.done()
        side.mint(entry("a", UID))
    answer = waiting.result()
    assert len(answer.svids) == 1


@pytest.mark.clause("WE-17", "WA-21", "WA-26", "WA-33")
@pytest.mark.parametrize("stream", STREAMS, ids=NAMES)
async def test_a_caller_that_nothing_matches_is_denied(
    side: WorkloadSide, channel: Channel, stream: tuple[str, Message, type[Message]]
) -> None:
    side.synchronise(entry("a", "unix:uid:4294967294"))
    async with open_stream(channel, *stream) as answers:
        err = await answers.refusal()
    assert (err.status, err.message) == (Status.PERMISSION_DENIED, "no identity issued")


@pytest.mark.clause("WE-16")
@pytest.mark.parametrize("stream", STREAMS, ids=NAMES)
async def test_before_the_first_complete_snapshot_everybody_is_told_to_come_again(
    channel: Channel, stream: tuple[str, Message, type[Message]]
) -> None:
    async with open_stream(channel, *stream) as answers:
        err = await answers.refusal()
    assert err.status is Status.UNAVAILABLE


@pytest.mark.clause("WA-06", "WA-21", "WA-26", "WA-33")
@pytest.mark.parametrize("stream", STREAMS, ids=NAMES)
async def test_a_stream_ends_as_denied_when_the_last_entry_goes(
    side: WorkloadSide, channel: Channel, stream: tuple[str, Message, type[Message]]
) -> None:
    side.synchronise(entry("a", UID))
    async with open_stream(channel, *stream) as answers:
        await answers.next()
        side.remove("a")
        err = await answers.refusal()
    assert err.status is Status.PERMISSION_DENIED


@pytest.mark.clause("WA-21")
async def test_an_svid_whose_entry_goes_is_redacted_while_others_stay(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID), entry("b", UID))
    async with open_stream(channel, *X509) as answers:
        await answers.next()
        side.remove("a")
        answer = await answers.next()
    assert [svid.spiffe_id for svid in answer.svids] == ["spiffe://example.org/w/b"]


@pytest.mark.clause("WA-24", "WA-25")
async def test_x509_bundles_name_the_own_trust_domain_and_follow_it(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    async with open_stream(channel, *X509_BUNDLES) as answers:
        first = await answers.next()
        side.rotate()
        second = await answers.next()
    assert list(first.bundles) == ["spiffe://example.org"]
    assert len(read_x509_bundles(second)[TRUST_DOMAIN].x509_authorities) == 2


@pytest.mark.clause("WA-25", "WA-31", "WA-32")
async def test_jwt_bundles_hold_the_keys_that_sign_tokens_and_no_others(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    async with open_stream(channel, *JWT_BUNDLES) as answers:
        answer = await answers.next()
    assert list(answer.bundles) == ["spiffe://example.org"]
    assert read_jwt_bundles(answer)[TRUST_DOMAIN] == Bundle(
        trust_domain=TRUST_DOMAIN, jwt_authorities=side.bundle.jwt_authorities
    )
    assert b"x509-svid" not in answer.bundles["spiffe://example.org"]


METHODS: list[tuple[str, Cardinality, type, type]] = [
    ("FetchX509SVID", Cardinality.UNARY_STREAM, pb.X509SVIDRequest, pb.X509SVIDResponse),
    ("FetchX509Bundles", Cardinality.UNARY_STREAM, pb.X509BundlesRequest, pb.X509BundlesResponse),
    ("FetchJWTSVID", Cardinality.UNARY_UNARY, pb.JWTSVIDRequest, pb.JWTSVIDResponse),
    ("FetchJWTBundles", Cardinality.UNARY_STREAM, pb.JWTBundlesRequest, pb.JWTBundlesResponse),
    ("ValidateJWTSVID", Cardinality.UNARY_UNARY, pb.ValidateJWTSVIDRequest, pb.ValidateJWTSVIDResponse),
    ("FetchWITSVID", Cardinality.UNARY_STREAM, pb.WITSVIDRequest, pb.WITSVIDResponse),
    ("FetchWITBundles", Cardinality.UNARY_STREAM, pb.WITBundlesRequest, pb.WITBundlesResponse),
]
WRONG_HEADERS = {
    "none": (),
    "another case": (("workload.spiffe.io", "True"),),
    "another value": (("workload.spiffe.io", "1"),),
    "twice": (*HEADER, *HEADER),
    "twice, one wrong": (*HEADER, ("workload.spiffe.io", "false")),
}


@pytest.mark.clause("WE-06")
@pytest.mark.parametrize("headers", WRONG_HEADERS.values(), ids=WRONG_HEADERS)
@pytest.mark.parametrize("method", METHODS, ids=[method[0] for method in METHODS])
async def test_a_request_without_exactly_the_security_header_is_refused(
    side: WorkloadSide,
    channel: Channel,
    method: tuple[str, Cardinality, type, type],
    headers: tuple[tuple[str, str], ...],
) -> None:
    side.synchronise(entry("a", UID))
    name, _, request, reply = method
    with pytest.raises(GRPCError) as caught:
        await call(channel, name, request(), reply, metadata=headers)
    assert caught.value.status is Status.INVALID_ARGUMENT
    assert "workload.spiffe.io" in (caught.value.message or "")


@pytest.mark.clause("WA-02", "WA-39", "WE-18")
@pytest.mark.parametrize("method", METHODS[-2:], ids=["FetchWITSVID", "FetchWITBundles"])
async def test_the_wit_profile_is_unimplemented(
    side: WorkloadSide, channel: Channel, method: tuple[str, Cardinality, type, type]
) -> None:
    side.synchronise(entry("a", UID))
    name, _, request, reply = method
    with pytest.raises(GRPCError) as caught:
        await call(channel, name, request(), reply)
    assert caught.value.status is Status.UNIMPLEMENTED


@pytest.mark.clause("WA-03", "WE-19", "WE-20")
async def test_the_service_has_the_standards_methods_and_no_others(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise()
    assert {f"{method.name}" for method in pb.DESCRIPTOR.services_by_name["SpiffeWorkloadAPI"].methods} == {
        name for name, *_ in METHODS
    }
    with pytest.raises(GRPCError) as caught:
        await call(channel, "FetchEverything", pb.X509SVIDRequest(), pb.X509SVIDResponse)
    assert caught.value.status is Status.UNIMPLEMENTED
