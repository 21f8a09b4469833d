"""JWT-SVIDs through a real socket: asked for, handed out, validated."""

import json
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from certs.ca import make_token
from cognomen.protocol.errors import Kind, Refused
from svid.jwtsvid import JWTSVID
from svid.spiffeid import SpiffeID
from svid.wire.pb import workload_pb2 as pb
from svid.wire.workload import read_jwt_svids, read_validation
from tests.doubles.issuerclient import Authority
from tests.doubles.workloadside import HEADER, TRUST_DOMAIN, WorkloadSide, call, entry, serving

UID = f"unix:uid:{os.getuid()}"
MINUTE = timedelta(minutes=1)


@pytest.fixture
def side() -> WorkloadSide:
    return WorkloadSide()


@pytest.fixture
async def channel(side: WorkloadSide, tmp_path: Path) -> AsyncIterator[Channel]:
    async with serving(side.flow(), tmp_path / "api.sock") as channel:
        yield channel


async def fetch(channel: Channel, *audiences: str, spiffe_id: str = "") -> tuple[JWTSVID, ...]:
    request = pb.JWTSVIDRequest(audience=audiences, spiffe_id=spiffe_id)
    return read_jwt_svids(await call(channel, "FetchJWTSVID", request, pb.JWTSVIDResponse))


async def fetch_refused(channel: Channel, *audiences: str, spiffe_id: str = "") -> GRPCError:
    with pytest.raises(GRPCError) as caught:
        await fetch(channel, *audiences, spiffe_id=spiffe_id)
    return caught.value


async def validate_refused(channel: Channel, token: str, audience: str) -> GRPCError:
    request = pb.ValidateJWTSVIDRequest(audience=audience, svid=token)
    with pytest.raises(GRPCError) as caught:
        await call(channel, "ValidateJWTSVID", request, pb.ValidateJWTSVIDResponse)
    return caught.value


@pytest.mark.parametrize("value", ["true", "false", "TRUE", "1"])
async def test_a_caller_may_ask_for_a_fresh_token(value: str, side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    metadata = (*HEADER, ("cognomen-fresh", value))
    await call(channel, "FetchJWTSVID", pb.JWTSVIDRequest(audience=["db"]), pb.JWTSVIDResponse, metadata=metadata)
    assert side.is_fresh is (value == "true")


@pytest.mark.clause("WA-01", "WA-27", "WA-29")
async def test_a_caller_gets_a_token_for_the_audiences_it_named(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    (svid,) = await fetch(channel, "db", "queue")
    assert set(svid.audiences) == {"db", "queue"}
    assert str(svid.spiffe_id) == "spiffe://example.org/w/a"


@pytest.mark.clause("WA-28", "WA-43")
async def test_without_a_spiffe_id_a_caller_gets_a_token_of_each_identity(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("young", UID, hint="h"), entry("old", UID, age=timedelta(days=2), hint="h"))
    svids = await fetch(channel, "db")
    assert [(svid.spiffe_id.path, svid.hint) for svid in svids] == [("/w/old", "h"), ("/w/young", "")]


@pytest.mark.clause("WA-28")
async def test_with_a_spiffe_id_a_caller_gets_a_token_of_that_identity_only(
    side: WorkloadSide, channel: Channel
) -> None:
    side.synchronise(entry("a", UID), entry("b", UID), entry("b-again", UID, path=("w", "b")))
    svids = await fetch(channel, "db", spiffe_id="spiffe://example.org/w/b")
    assert [svid.spiffe_id.path for svid in svids] == ["/w/b"]


@pytest.mark.clause("WA-30")
@pytest.mark.parametrize("name", ["other", "nobody"])
async def test_a_token_of_somebody_elses_or_nobodys_identity_is_denied(
    side: WorkloadSide, channel: Channel, name: str
) -> None:
    side.synchronise(entry("a", UID), entry("other", "unix:uid:4294967294"))
    err = await fetch_refused(channel, "db", spiffe_id=f"spiffe://example.org/w/{name}")
    assert (err.status, err.message) == (Status.PERMISSION_DENIED, "no identity issued")


@pytest.mark.clause("WA-30")
async def test_a_caller_without_identity_gets_no_token(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise()
    assert (await fetch_refused(channel, "db")).status is Status.PERMISSION_DENIED


@pytest.mark.clause("WA-13")
@pytest.mark.parametrize(
    ("audiences", "spiffe_id"),
    [
        ([], ""),
        ([""], ""),
        (["db", ""], ""),
        (["a"] * 17, ""),
        (["a" * 1025], ""),
        (["a" * 1000] * 16, ""),
        (["a\n"], ""),
        (["db"], "example.org/a"),
        (["db"], "spiffe://example.org/a\n"),
        (["db"], "spiffe://example.org/%61"),
        (["db"], "spiffe://example.org/" + "a" * 2048),
    ],
    ids=[
        "no audience",
        "an empty audience",
        "one of two empty",
        "too many",
        "too long",
        "too long together",
        "control character",
        "no scheme",
        "newline",
        "percent",
        "2,069 bytes",
    ],
)
async def test_a_malformed_request_for_a_token_is_refused(
    side: WorkloadSide, channel: Channel, audiences: list[str], spiffe_id: str
) -> None:
    side.synchronise(entry("a", UID))
    err = await fetch_refused(channel, *audiences, spiffe_id=spiffe_id)
    assert err.status is Status.INVALID_ARGUMENT
    assert (err.message or "").startswith(("audience: ", "spiffe_id: "))
    assert side.tokens == 0


@pytest.mark.clause("WE-16")
async def test_an_issuer_that_is_away_makes_tokens_unavailable(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID), entry("b", UID))
    side.refuses_tokens = Refused(Kind.UNAVAILABLE, "issuer: cannot be reached", hint="secret of the operator")
    err = await fetch_refused(channel, "db")
    assert (err.status, err.message) == (Status.UNAVAILABLE, "issuer: cannot be reached")


@pytest.mark.clause("WE-16")
async def test_before_the_first_complete_snapshot_tokens_are_unavailable(channel: Channel) -> None:
    assert (await fetch_refused(channel, "db")).status is Status.UNAVAILABLE
    assert (await validate_refused(channel, "a.b.c", "db")).status is Status.UNAVAILABLE


@pytest.mark.clause("WA-34", "WA-35", "WA-36")
async def test_a_valid_token_is_validated_with_its_claims(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    (svid,) = await fetch(channel, "db")
    request = pb.ValidateJWTSVIDRequest(audience="db", svid=svid.token)
    answer = await call(channel, "ValidateJWTSVID", request, pb.ValidateJWTSVIDResponse)
    found = read_validation(answer)
    assert str(found.spiffe_id) == found.claims["sub"] == "spiffe://example.org/w/a"
    assert found.claims["aud"] == ["db"]
    assert found.claims["exp"] == svid.expires_at.timestamp()


async def test_a_token_that_was_revoked_is_refused_from_then_on(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    (svid,) = await fetch(channel, "db")
    (other,) = await fetch(channel, "queue")
    side.deny(svid)
    err = await validate_refused(channel, svid.token, "db")
    assert (err.status, err.message) == (Status.INVALID_ARGUMENT, "svid: it was revoked")
    request = pb.ValidateJWTSVIDRequest(audience="queue", svid=other.token)
    assert (await call(channel, "ValidateJWTSVID", request, pb.ValidateJWTSVIDResponse)).claims


async def test_a_caller_without_identity_may_validate(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise()
    token = side.authorities[0].token(SpiffeID.parse("spiffe://example.org/w/a"), ["db"], ttl=MINUTE)
    request = pb.ValidateJWTSVIDRequest(audience="db", svid=token)
    assert (await call(channel, "ValidateJWTSVID", request, pb.ValidateJWTSVIDResponse)).claims


@pytest.mark.clause("WA-34", "WA-38")
async def test_a_token_that_proves_nothing_to_that_audience_is_refused(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    spiffe_id = SpiffeID.parse("spiffe://example.org/w/a")
    (ours,) = side.authorities
    tokens = {
        "another audience": ours.token(spiffe_id, ["queue"], ttl=MINUTE),
        "expired": ours.token(spiffe_id, ["db"], ttl=-MINUTE),
        "another authority": Authority(TRUST_DOMAIN, side.clock).token(spiffe_id, ["db"], ttl=MINUTE),
        "another trust domain": ours.token(SpiffeID.parse("spiffe://other.org/w/a"), ["db"], ttl=MINUTE),
        "no token": "abc",
    }
    for name, token in tokens.items():
        err = await validate_refused(channel, token, "db")
        assert err.status is Status.INVALID_ARGUMENT, name
        assert (err.message or "").startswith("svid: "), name


def signed_with(side: WorkloadSide, more: str) -> str:
    """A token of today's authority that says this, too: a piece of JSON text, which no JSON writer of ours would write."""
    (ours,) = side.authorities
    claims = {"sub": "spiffe://example.org/w/a", "aud": ["db"], "exp": int((side.clock.now() + MINUTE).timestamp())}
    text = f"{json.dumps(claims)[:-1]},{more}}}"
    return make_token(text, ours.jwt_key, header={"alg": "ES256", "kid": ours.kid})


@pytest.mark.parametrize(
    "more",
    [r'"a":"\ud800"', r'"\udc00":1', f'"a":{1 << 1024}', '"a":1e309', '"a":-1e309', f'"a":{"[" * 60}{"]" * 60}'],
    ids=["half a surrogate pair", "one in a name", "a huge integer", "no end", "no beginning", "too deep"],
)
async def test_claims_that_no_answer_could_hold_are_refused_though_they_are_signed(
    side: WorkloadSide, channel: Channel, more: str
) -> None:
    side.synchronise(entry("a", UID))
    err = await validate_refused(channel, signed_with(side, more), "db")
    assert (err.status, err.message) == (Status.INVALID_ARGUMENT, "svid: claims: expected a JSON object as base64url")


@pytest.mark.parametrize(
    "more", [r'"a":"\ud83d\ude00\u0000"', f'"a":{1 << 1023}', f'"a":{"[" * 31}{"]" * 31}'], ids=range(3)
)
async def test_claims_at_the_bounds_are_told(side: WorkloadSide, channel: Channel, more: str) -> None:
    side.synchronise(entry("a", UID))
    request = pb.ValidateJWTSVIDRequest(audience="db", svid=signed_with(side, more))
    found = read_validation(await call(channel, "ValidateJWTSVID", request, pb.ValidateJWTSVIDResponse))
    assert found.claims["a"] == json.loads(f"{{{more}}}")["a"]


async def test_a_token_of_somebody_who_never_ends_is_validated(side: WorkloadSide, channel: Channel) -> None:
    side.synchronise(entry("a", UID))
    (ours,) = side.authorities
    claims = {"sub": "spiffe://example.org/w/a", "aud": ["db"], "exp": 253_402_300_799}
    token = make_token(claims, ours.jwt_key, header={"alg": "ES256", "kid": ours.kid})
    request = pb.ValidateJWTSVIDRequest(audience="db", svid=token)
    assert (await call(channel, "ValidateJWTSVID", request, pb.ValidateJWTSVIDResponse)).claims["exp"]


@pytest.mark.clause("WA-13", "WA-36")
@pytest.mark.parametrize(("token", "audience", "field"), [("a.b.c", "", "audience"), ("", "db", "svid")])
async def test_validation_needs_a_token_and_an_audience(
    side: WorkloadSide, channel: Channel, token: str, audience: str, field: str
) -> None:
    side.synchronise(entry("a", UID))
    err = await validate_refused(channel, token, audience)
    assert (err.status, err.message) == (Status.INVALID_ARGUMENT, f"{field}: missing")
