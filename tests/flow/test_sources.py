"""The client and the sources against a real Workload API server that follows a script."""

import asyncio
import queue
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from svid.clock import SystemClock
from svid.errors import BundleError, JWTSVIDError, SpiffeIDError, WorkloadAPIError, X509SVIDError
from svid.jwtsvid import verify as verify_jwt
from svid.spiffeid import SpiffeID, TrustDomain
from svid.wire.pb import workload_pb2 as pb
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.follower import Follower
from svid.workloadapi.sources import JWTSource, X509Source
from svid.x509svid import verify as verify_x509
from tests.doubles.clock import FakeClock
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.workloadapi import Fail, WorkloadAPIDouble

DENIED = Fail(grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
ENDED = Fail(grpc.StatusCode.OK)
SECOND = timedelta(seconds=1)
SOON = timedelta(seconds=10)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[WorkloadAPIDouble]:
    with WorkloadAPIDouble(tmp_path) as double:
        yield double


@pytest.fixture(scope="module")
def domain() -> TrustDomainDouble:
    return TrustDomainDouble()


class Changes:
    """What a source told its subscriber, one at a time."""

    def __init__(self, source: X509Source) -> None:
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.end = source.subscribe(lambda: self._told.put(None))

    def wait(self) -> None:
        self._told.get(timeout=10)

    def is_quiet(self) -> bool:
        return self._told.empty()


# the client


@pytest.mark.clause("WE-02", "WE-05")
def test_every_call_carries_the_header_once(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    svid = domain.svid("/a")
    token = domain.token("/a", "db")
    api.say("FetchX509SVID", domain.answer(svid))
    api.say("FetchX509Bundles", pb.X509BundlesResponse(bundles={"spiffe://example.org": domain.bundle.x509_der()}))
    api.say("FetchJWTBundles", domain.jwt_answer())
    api.say("FetchJWTSVID", pb.JWTSVIDResponse(svids=[pb.JWTSVID(spiffe_id="spiffe://example.org/a", svid=token)]))
    valid = pb.ValidateJWTSVIDResponse(spiffe_id="spiffe://example.org/a")
    valid.claims.update({"sub": "spiffe://example.org/a", "aud": ["db"]})
    api.say("ValidateJWTSVID", valid)
    with WorkloadAPIClient(api.socket) as client:
        assert client.fetch_x509_context().svids[0].spiffe_id == svid.spiffe_id
        assert client.fetch_x509_bundles() == {
            domain.name: domain.bundle.from_der(domain.name, domain.bundle.x509_der())
        }
        assert client.fetch_jwt_bundles()[domain.name].jwt_authorities
        assert client.fetch_jwt_svid("db").token == token
        assert client.validate_jwt_svid(token, "db").claims["aud"] == ["db"]
    assert len(api.calls) == 5
    for call in api.calls:
        assert [value for key, value in call.metadata if key == "workload.spiffe.io"] == ["true"]


def test_a_status_becomes_an_error_with_its_name_and_detail(api: WorkloadAPIDouble) -> None:
    api.say("FetchX509SVID", DENIED)
    with WorkloadAPIClient(api.socket) as client, pytest.raises(WorkloadAPIError, match="no identity issued") as caught:
        client.fetch_x509_context()
    assert caught.value.code == "PERMISSION_DENIED"


def test_a_call_ends_at_its_deadline(api: WorkloadAPIDouble) -> None:
    with WorkloadAPIClient(api.socket, timeout=timedelta(milliseconds=100)) as client:
        for call in (client.fetch_x509_context, lambda: client.fetch_jwt_svid("db")):
            with pytest.raises(WorkloadAPIError) as caught:
                call()
            assert caught.value.code == "DEADLINE_EXCEEDED"


def test_a_stream_that_ends_without_a_message_is_no_answer(api: WorkloadAPIDouble) -> None:
    api.say("FetchX509SVID", ENDED)
    with WorkloadAPIClient(api.socket) as client, pytest.raises(WorkloadAPIError, match="found the end of the stream"):
        client.fetch_x509_context()


def test_nobody_at_the_socket_is_unavailable(tmp_path: Path) -> None:
    with WorkloadAPIClient(f"unix://{tmp_path}/absent.sock") as client, pytest.raises(WorkloadAPIError) as caught:
        client.fetch_jwt_svid("db")
    assert caught.value.code == "UNAVAILABLE"


def test_a_socket_path_with_percent_signs_means_what_the_uri_says(tmp_path: Path, domain: TrustDomainDouble) -> None:
    directory = tmp_path / "with space"
    directory.mkdir()
    with WorkloadAPIDouble(directory) as api:
        api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
        with WorkloadAPIClient(api.socket.replace(" ", "%20")) as client:
            assert client.fetch_x509_context().svids


@pytest.mark.clause("WA-36")
@pytest.mark.parametrize(
    "answer", [pb.ValidateJWTSVIDResponse(), pb.ValidateJWTSVIDResponse(spiffe_id="spiffe://example.org/a")]
)
def test_a_validation_without_id_or_claims_is_no_answer(
    api: WorkloadAPIDouble, answer: pb.ValidateJWTSVIDResponse
) -> None:
    api.say("ValidateJWTSVID", answer)
    with WorkloadAPIClient(api.socket) as client, pytest.raises(WorkloadAPIError, match="missing or empty"):
        client.validate_jwt_svid("a.b.c", "db")


def test_a_token_for_another_audience_or_identity_than_asked_for_is_no_answer(
    api: WorkloadAPIDouble, domain: TrustDomainDouble
) -> None:
    answer = pb.JWTSVIDResponse(svids=[pb.JWTSVID(spiffe_id="spiffe://example.org/a", svid=domain.token("/a", "db"))])
    api.say("FetchJWTSVID", answer, answer, answer)
    with WorkloadAPIClient(api.socket) as client:
        with pytest.raises(JWTSVIDError, match="aud: expected"):
            client.fetch_jwt_svid(["db", "queue"])
        with pytest.raises(JWTSVIDError, match="sub: expected"):
            client.fetch_jwt_svid("db", spiffe_id=SpiffeID(trust_domain=domain.name, path="/b"))
        with pytest.raises(SpiffeIDError):
            client.fetch_jwt_svid("db", spiffe_id="example.org/a")
        assert client.fetch_jwt_svid("db", spiffe_id="spiffe://example.org/a").spiffe_id.path == "/a"


def test_the_request_names_the_audiences_and_the_identity(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    token = domain.token("/a", "db", "queue")
    api.say("FetchJWTSVID", pb.JWTSVIDResponse(svids=[pb.JWTSVID(spiffe_id="spiffe://example.org/a", svid=token)]))
    with WorkloadAPIClient(api.socket) as client:
        client.fetch_jwt_svid(("db", "queue"), spiffe_id=SpiffeID.parse("spiffe://example.org/a"))
    assert api.calls[0].request == pb.JWTSVIDRequest(audience=["db", "queue"], spiffe_id="spiffe://example.org/a")


def test_the_stock_client_and_ours_work_in_one_process(tmp_path: Path, domain: TrustDomainDouble) -> None:
    spiffe = pytest.importorskip("spiffe")
    found = []
    for fetch in (
        lambda socket: spiffe.WorkloadApiClient(socket_path=socket).fetch_x509_svid().spiffe_id,
        lambda socket: WorkloadAPIClient(socket).fetch_x509_context().svids[0].spiffe_id,
    ):
        with WorkloadAPIDouble(tmp_path) as api:
            api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
            found.append(str(fetch(api.socket)))
    assert found == ["spiffe://example.org/a"] * 2


# X509Source


def test_a_source_holds_what_the_first_message_says(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    other = TrustDomainDouble("partner.example")
    api.say("FetchX509SVID", domain.answer(domain.svid("/a"), domain.svid("/b"), federated=(other,)))
    with X509Source(api.socket) as source:
        assert str(source.svid.spiffe_id) == "spiffe://example.org/a"
        assert [svid.spiffe_id.path for svid in source.context.svids] == ["/a", "/b"]
        assert source.bundle_for(domain.name).x509_authorities == domain.bundle.x509_authorities
        assert source.bundle_for(other.name).x509_authorities == other.bundle.x509_authorities
        with pytest.raises(BundleError, match=r"there is none for trust domain absent\.example"):
            source.bundle_for(TrustDomain("absent.example"))


@pytest.mark.clause("WE-08")
def test_the_environment_says_where_the_workload_api_is(
    api: WorkloadAPIDouble, domain: TrustDomainDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", api.socket)
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    with X509Source() as source:
        assert source.svid.spiffe_id.path == "/a"


@pytest.mark.clause("WA-43")
def test_pick_chooses_among_several_identities(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    api.say("FetchX509SVID", domain.answer(domain.svid("/a", hint="internal"), domain.svid("/b", hint="external")))
    with X509Source(api.socket, pick=lambda svids: next(svid for svid in svids if svid.hint == "external")) as source:
        assert source.svid.spiffe_id.path == "/b"


@pytest.mark.clause("WA-11", "WA-12")
def test_a_new_message_replaces_everything_and_is_told_once(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    other = TrustDomainDouble("partner.example")
    api.say("FetchX509SVID", domain.answer(domain.svid("/a"), federated=(other,)))
    with X509Source(api.socket) as source:
        changes = Changes(source)
        renewed = domain.svid("/a")
        api.say("FetchX509SVID", domain.answer(renewed), domain.answer(renewed), domain.answer(domain.svid("/b")))
        changes.wait()
        changes.wait()
        assert source.svid.spiffe_id.path == "/b"
        assert other.name not in source.bundles
        assert changes.is_quiet()


@pytest.mark.clause("WA-14")
def test_a_bad_message_is_dropped_and_the_stream_goes_on(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    broken = domain.answer(domain.svid("/b"))
    broken.svids[0].x509_svid = b"no DER"
    no_bundle = domain.answer(domain.svid("/b"))
    no_bundle.svids[0].bundle = b""
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    with X509Source(api.socket) as source:
        changes = Changes(source)
        api.say("FetchX509SVID", pb.X509SVIDResponse(), broken, no_bundle, domain.answer(domain.svid("/c")))
        changes.wait()
        assert source.svid.spiffe_id.path == "/c"
        assert changes.is_quiet()
    assert len(api.calls) == 1


def test_bytes_that_are_no_message_cost_a_reconnect_and_nothing_else(
    api: WorkloadAPIDouble, domain: TrustDomainDouble
) -> None:
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    with X509Source(api.socket) as source:
        changes = Changes(source)
        api.say("FetchX509SVID", b"\xff\xff\xff", ENDED, domain.answer(domain.svid("/b")))
        changes.wait()
        assert source.svid.spiffe_id.path == "/b"


@pytest.mark.clause("WA-05", "WA-06", "WE-16")
def test_a_lost_stream_is_opened_again_and_meanwhile_the_svid_stays(
    api: WorkloadAPIDouble, domain: TrustDomainDouble
) -> None:
    svid = domain.svid("/a")
    api.say("FetchX509SVID", domain.answer(svid))
    with X509Source(api.socket) as source:
        changes = Changes(source)
        api.say("FetchX509SVID", ENDED, Fail(grpc.StatusCode.UNAVAILABLE, "starting"))
        api.wait_for_calls("FetchX509SVID", 3)
        assert source.svid.serial == svid.serial
        api.say("FetchX509SVID", domain.answer(svid), domain.answer(domain.svid("/b")))
        changes.wait()
        assert source.svid.spiffe_id.path == "/b"
        assert changes.is_quiet()


def test_a_source_outlives_its_server(tmp_path: Path, domain: TrustDomainDouble) -> None:
    with WorkloadAPIDouble(tmp_path) as first:
        first.say("FetchX509SVID", domain.answer(domain.svid("/a")))
        source = X509Source(first.socket)
        changes = Changes(source)
    with source, WorkloadAPIDouble(tmp_path) as second:
        assert source.svid.spiffe_id.path == "/a"
        second.say("FetchX509SVID", domain.answer(domain.svid("/b")))
        changes.wait()
        assert source.svid.spiffe_id.path == "/b"


@pytest.mark.clause("WA-22", "WE-17")
def test_a_denial_ends_the_use_of_the_svid_until_there_is_another(
    api: WorkloadAPIDouble, domain: TrustDomainDouble
) -> None:
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    with X509Source(api.socket) as source:
        changes = Changes(source)
        api.say("FetchX509SVID", DENIED)
        changes.wait()
        for ask in (lambda: source.svid, lambda: source.bundles, lambda: source.bundle_for(domain.name)):
            with pytest.raises(WorkloadAPIError, match="no identity issued") as caught:
                ask()
            assert caught.value.code == "PERMISSION_DENIED"
        api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
        changes.wait()
        assert source.svid.spiffe_id.path == "/a"


def test_an_expired_svid_is_not_served(api: WorkloadAPIDouble) -> None:
    clock = FakeClock()
    domain = TrustDomainDouble(now=clock.now())
    api.say("FetchX509SVID", domain.answer(domain.svid("/a", lifetime=SECOND)))
    with X509Source(api.socket, clock=clock) as source:
        assert source.svid.spiffe_id.path == "/a"
        clock.advance(SECOND)
        with pytest.raises(X509SVIDError, match=r"svid: expired at .*, and no newer one has come"):
            _ = source.svid


def test_whoever_does_not_wait_is_told_that_nothing_came_yet(api: WorkloadAPIDouble) -> None:
    with (
        X509Source(api.socket, timeout=None) as source,
        pytest.raises(WorkloadAPIError, match="not answered yet") as caught,
    ):
        _ = source.context
    assert caught.value.code == "UNAVAILABLE"


def test_whoever_waits_in_vain_learns_why(api: WorkloadAPIDouble) -> None:
    api.say("FetchX509SVID", *[DENIED] * 20)
    with pytest.raises(WorkloadAPIError, match="no identity issued") as caught:
        X509Source(api.socket, timeout=timedelta(milliseconds=200))
    assert caught.value.code == "PERMISSION_DENIED"


@pytest.mark.clause("WE-15", "WE-18")
@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "UNIMPLEMENTED"])
def test_a_refusal_for_good_is_reported_at_once_and_not_asked_again(api: WorkloadAPIDouble, code: str) -> None:
    api.say("FetchX509SVID", Fail(grpc.StatusCode[code], "never"))
    with pytest.raises(WorkloadAPIError, match="never") as caught:
        X509Source(api.socket, timeout=SOON)
    assert caught.value.code == code
    assert len(api.calls) == 1


def test_a_refusal_for_good_leaves_the_svid_until_it_expires(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    with X509Source(api.socket) as source:
        changes = Changes(source)
        api.say("FetchX509SVID", Fail(grpc.StatusCode.UNIMPLEMENTED, "no more"))
        changes.wait()
        assert source.svid.spiffe_id.path == "/a"


def test_close_ends_the_thread_and_every_use(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    before = threading.active_count()
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    source = X509Source(api.socket)
    source.close()
    source.close()
    with pytest.raises(WorkloadAPIError, match="already closed"):
        _ = source.svid
    assert not [thread for thread in threading.enumerate() if thread.name == "svid-follower"], before


def test_a_source_may_be_closed_by_its_own_subscriber(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    source = X509Source(api.socket)
    closed: list[str] = []
    done = threading.Event()

    def close() -> None:
        source.close()
        closed.append(threading.current_thread().name)
        done.set()

    source.subscribe(close)
    api.say("FetchX509SVID", domain.answer(domain.svid("/b")))
    assert done.wait(10)
    assert len(closed) <= 2, "once for the change, once for the closing, and not for ever"


def test_a_subscriber_that_fails_harms_nobody(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    def fail() -> None:
        raise LookupError("a bug of the subscriber's")

    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    with X509Source(api.socket) as source:
        source.subscribe(fail)
        changes = Changes(source)
        for path in ("/b", "/c"):
            api.say("FetchX509SVID", domain.answer(domain.svid(path)))
            changes.wait()
            assert source.svid.spiffe_id.path == path


def test_whoever_unsubscribed_hears_nothing(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    with X509Source(api.socket) as source:
        gone, changes = Changes(source), Changes(source)
        gone.end()
        gone.end()
        api.say("FetchX509SVID", domain.answer(domain.svid("/b")))
        changes.wait()
        assert gone.is_quiet()


# in asyncio


async def test_changes_yields_now_and_at_each_change_and_ends_with_the_source(
    api: WorkloadAPIDouble, domain: TrustDomainDouble
) -> None:
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    seen = []
    async with asyncio.timeout(10):
        with await X509Source.connect(api.socket) as source:
            async for context in source.changes():
                seen.append(context.svids[0].spiffe_id.path)
                if seen == ["/a"]:
                    api.say("FetchX509SVID", domain.answer(domain.svid("/b")))
                else:
                    source.close()
    assert seen == ["/a", "/b"]


async def test_changes_raises_when_the_identity_is_taken_away(
    api: WorkloadAPIDouble, domain: TrustDomainDouble
) -> None:
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    async with asyncio.timeout(10):
        with await X509Source.connect(api.socket) as source:
            changes = source.changes()
            assert await anext(changes) is source.context
            api.say("FetchX509SVID", DENIED)
            with pytest.raises(WorkloadAPIError, match="no identity issued"):
                await anext(changes)


async def test_changes_raises_when_nothing_will_ever_come_again(
    api: WorkloadAPIDouble, domain: TrustDomainDouble
) -> None:
    api.say("FetchX509SVID", domain.answer(domain.svid("/a")))
    async with asyncio.timeout(10):
        with await X509Source.connect(api.socket) as source:
            changes = source.changes()
            assert await anext(changes) is source.context
            api.say("FetchX509SVID", Fail(grpc.StatusCode.UNIMPLEMENTED, "no more"))
            with pytest.raises(WorkloadAPIError, match="no more"):
                await anext(changes)


async def test_connect_says_why_nothing_came(api: WorkloadAPIDouble) -> None:
    api.say("FetchX509SVID", *[DENIED] * 20)
    with pytest.raises(WorkloadAPIError, match="no identity issued"):
        await X509Source.connect(api.socket, timeout=timedelta(milliseconds=200))
    api.say("FetchJWTBundles", Fail(grpc.StatusCode.INVALID_ARGUMENT, "no header"))
    with pytest.raises(WorkloadAPIError, match="no header"):
        await JWTSource.connect(api.socket)


async def test_a_jwt_source_is_made_in_asyncio(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    api.say("FetchJWTBundles", domain.jwt_answer())
    async with asyncio.timeout(10):
        with await JWTSource.connect(api.socket) as source:
            assert source.verify(domain.token("/a", "db"), "db").spiffe_id.path == "/a"


# JWTSource


@pytest.mark.clause("WA-23", "WA-33")
def test_bundles_of_either_kind_vouch_for_their_own_kind_alone(
    api: WorkloadAPIDouble, domain: TrustDomainDouble
) -> None:
    svid, token = domain.svid("/a"), domain.token("/a", "db")
    api.say("FetchX509SVID", domain.answer(svid))
    api.say("FetchJWTBundles", domain.jwt_answer())
    with X509Source(api.socket) as x509, JWTSource(api.socket) as jwt:
        with pytest.raises(JWTSVIDError):
            verify_jwt(token, x509.bundles.get, audience="db", at=domain.now)
        with pytest.raises(X509SVIDError):
            verify_x509(svid.chain, jwt.bundle_for(domain.name), at=domain.now)


@pytest.mark.clause("WA-38")
def test_a_token_is_verified_by_the_bundle_of_its_subjects_trust_domain_alone(
    api: WorkloadAPIDouble, domain: TrustDomainDouble
) -> None:
    partner = TrustDomainDouble("partner.example")
    answer = domain.jwt_answer()
    answer.MergeFrom(partner.jwt_answer())
    api.say("FetchJWTBundles", answer)
    genuine = partner.token("/a", "db")
    partner.name = domain.name
    forged = partner.token("/a", "db")
    with JWTSource(api.socket) as source:
        assert str(source.verify(genuine, "db").spiffe_id) == "spiffe://partner.example/a"
        with pytest.raises(JWTSVIDError):
            source.verify(forged, "db")


def test_a_jwt_source_fetches_and_verifies(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    token = domain.token("/a", "db")
    api.say("FetchJWTBundles", domain.jwt_answer())
    api.say("FetchJWTSVID", pb.JWTSVIDResponse(svids=[pb.JWTSVID(spiffe_id="spiffe://example.org/a", svid=token)]))
    with JWTSource(api.socket) as source:
        fetched = source.fetch("db")
        assert source.verify(fetched.token, "db").spiffe_id == fetched.spiffe_id
        assert source.bundle_for(domain.name).jwt_authorities
        with pytest.raises(JWTSVIDError, match="aud: expected"):
            source.verify(fetched.token, "queue")
        with pytest.raises(JWTSVIDError):
            source.verify(TrustDomainDouble("partner.example").token("/a", "db"), "db")


def test_a_denied_jwt_source_verifies_nothing(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    api.say("FetchJWTBundles", domain.jwt_answer())
    with JWTSource(api.socket) as source:
        told = threading.Event()
        source.subscribe(told.set)
        api.say("FetchJWTBundles", DENIED)
        assert told.wait(10)
        with pytest.raises(WorkloadAPIError, match="no identity issued"):
            source.verify(domain.token("/a", "db"), "db")


def test_a_follower_whose_stream_fails_in_a_way_that_nobody_expects_opens_another(api: WorkloadAPIDouble) -> None:
    def decode(message: pb.X509SVIDResponse) -> str:
        (svid,) = message.svids  # ValueError for another number
        return svid.hint

    api.say("FetchX509SVID", pb.X509SVIDResponse())
    with WorkloadAPIClient(api.socket) as client:
        follower = Follower(client.open_x509_contexts, decode, SystemClock())
        changed = threading.Event()
        follower.subscribe(lambda: changed.set() if follower.latest == "after" else None)
        api.wait_for_calls("FetchX509SVID", 2)
        api.say("FetchX509SVID", pb.X509SVIDResponse(svids=[pb.X509SVID(hint="after")]))
        assert changed.wait(10)
        follower.end()
        follower.thread.join(10)
        assert not follower.thread.is_alive()
