"""Numbers and texts in tokens and bundles of somebody else: what reads or verifies them gives a value or our error, nothing else."""

import json
import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from certs.ca import COMPONENT, NOW, make_authority, make_token
from svid.bundle import MAX_REFRESH_HINT, MAX_SEQUENCE, Bundle
from svid.encoding import MAX_JSON_DEPTH, json_object
from svid.errors import BundleError, JWTSVIDError, WorkloadAPIError
from svid.jwtsvid import verify as verify_token
from svid.spiffeid import TrustDomain
from svid.wire.pb import workload_pb2 as pb
from svid.wire.workload import read_validation, write_validation

TRUST_DOMAIN = TrustDomain("example.org")
ROOT = make_authority("authority-1")
BUNDLE = Bundle(
    trust_domain=TRUST_DOMAIN,
    x509_authorities=(ROOT.certificate,),
    jwt_authorities={"authority-1": ROOT.key.public_key()},
)
CLAIMS: dict[str, object] = {"sub": COMPONENT, "aud": ["connector"], "exp": int(NOW.timestamp()) + 300}
LAST_SECOND = 253_402_300_799  # of year 9999


# moments of tokens


def moment(**claims: object) -> str:
    return make_token(CLAIMS | claims, ROOT.key)


@pytest.mark.parametrize("leeway", [timedelta(), timedelta(seconds=1), timedelta(days=366), timedelta.max], ids=str)
@pytest.mark.parametrize("at", [datetime.min.replace(tzinfo=UTC), NOW, datetime.max.replace(tzinfo=UTC)], ids=str)
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("seconds", [0, 0.5, LAST_SECOND])
def test_a_moment_at_an_end_of_the_calendar_is_a_token_or_our_error(
    name: str, seconds: float, at: datetime, leeway: timedelta
) -> None:
    with suppress(JWTSVIDError):
        verify_token(moment(**{name: seconds}), lambda _: BUNDLE, audience="connector", at=at, leeway=leeway)


def test_a_token_that_ends_in_the_last_second_of_year_9999_is_valid_now() -> None:
    for leeway in (timedelta(), timedelta(minutes=1)):
        svid = verify_token(moment(exp=LAST_SECOND), lambda _: BUNDLE, audience="connector", at=NOW, leeway=leeway)
        assert svid.expires_at == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def test_leeway_goes_no_further_at_the_ends_of_the_calendar() -> None:
    for claims in ({"exp": 0}, {"nbf": LAST_SECOND}):
        with pytest.raises(JWTSVIDError, match=r"expired at|not valid before"):
            verify_token(moment(**claims), lambda _: BUNDLE, audience="connector", at=NOW, leeway=timedelta(days=366))


# what JSON says that others cannot


def nested(depth: int, *, in_lists: bool) -> str:
    return "[" * depth + "]" * depth if in_lists else '{"a":' * depth + "1" + "}" * depth


UNFIT = {
    "half a surrogate pair": r'{"a":"\ud800"}',
    "the other half": r'{"a":["\udfff"]}',
    "halves in the wrong order": r'{"a":"\udc00\ud800"}',
    "half a pair in a name": r'{"\ud800":1}',
    "half a pair in a name within": r'{"a":{"\ud800":1}}',
    "an integer of 1,025 bits": f'{{"a":{1 << 1024}}}',
    "a negative one": f'{{"a":[{-(1 << 1024)}]}}',
    "an integer of 5,000 digits": f'{{"a":{"1" * 5000}}}',
    "a float beyond the last": '{"a":1e309}',
    "a float below the first": '{"a":{"b":-1e309}}',
    "lists, one too deep": f'{{"a":{nested(MAX_JSON_DEPTH, in_lists=True)}}}',
    "objects, one too deep": f'{{"a":{nested(MAX_JSON_DEPTH, in_lists=False)}}}',
    "far too deep": f'{{"a":{nested(5000, in_lists=True)}}}',
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in UNFIT.items()])
def test_json_that_could_not_go_on_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the message is the library's, in part
        json_object(text.encode())
    claims = json.dumps(CLAIMS)[:-1] + "," + text[1:]
    with pytest.raises(JWTSVIDError, match="claims: expected a JSON object"):
        verify_token(make_token(claims, ROOT.key), lambda _: BUNDLE, audience="connector", at=NOW)
    document = BUNDLE.to_jwks().decode()[:-1] + "," + text[1:]
    with pytest.raises(BundleError):
        Bundle.from_jwks(TRUST_DOMAIN, document.encode())


@pytest.mark.parametrize(
    "text",
    [
        r'{"a":"\ud83d\ude00"}',
        r'{"a":"\u0000"}',
        f'{{"a":{1 << 1023}}}',
        '{"a":1.7976931348623157e308}',
        '{"a":1e-400}',
        f'{{"a":{nested(MAX_JSON_DEPTH - 1, in_lists=True)}}}',
        f'{{"a":{nested(MAX_JSON_DEPTH - 1, in_lists=False)}}}',
    ],
)
def test_json_at_the_bounds_goes_all_the_way(text: str) -> None:
    claims = json.dumps(CLAIMS)[:-1] + "," + text[1:]
    svid = verify_token(make_token(claims, ROOT.key), lambda _: BUNDLE, audience="connector", at=NOW)
    answer = pb.ValidateJWTSVIDResponse.FromString(write_validation(svid).SerializeToString())
    assert read_validation(answer).claims["a"] == json.loads(text)["a"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 1030), 1 << 1030)
    | st.floats()
    | st.text(st.characters(), max_size=5),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), values, max_size=3)
    ),
    max_leaves=8,
)
NAMES = ("sub", "aud", "exp", "iat", "nbf", "jti", "iss", "a", "\ud800")


@given(st.dictionaries(st.sampled_from(NAMES), json_values))
@example({"a": "\ud800"})
@example({"iss": 1})
def test_a_token_that_verifies_can_be_told_of_by_the_workload_api(claims: dict[str, object]) -> None:
    try:
        svid = verify_token(
            make_token(CLAIMS | claims, ROOT.key), lambda _: BUNDLE, audience={"connector", "a"}, at=NOW
        )
    except JWTSVIDError:
        return
    answer = pb.ValidateJWTSVIDResponse.FromString(write_validation(svid).SerializeToString())
    assert read_validation(answer).claims.keys() == svid.claims.keys()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_claim_that_is_no_number_of_json_is_our_error(number: float) -> None:
    answer = pb.ValidateJWTSVIDResponse(spiffe_id=COMPONENT)
    answer.claims.update({"a": [{"b": number}]})
    with pytest.raises(WorkloadAPIError, match="claims: expected only finite numbers"):
        read_validation(answer)


# numbers of bundles


@pytest.mark.parametrize("name", ["spiffe_sequence", "spiffe_refresh_hint"])
@pytest.mark.parametrize(
    "value",
    ["-1", "1.5", "1e3", "1e309", "true", "null", '"1"', "[1]", str(1 << 64), str(1 << 1024), "1" * 5000],
    ids=lambda value: value[:20],
)
def test_a_number_of_a_bundle_that_is_none_is_our_error(name: str, value: str) -> None:
    with pytest.raises(BundleError):
        Bundle.from_jwks(TRUST_DOMAIN, f'{{"keys":[],"{name}":{value}}}'.encode())


def test_the_greatest_numbers_of_a_bundle_are_read() -> None:
    hint = MAX_REFRESH_HINT // timedelta(seconds=1)
    document = f'{{"keys":[],"spiffe_sequence":{MAX_SEQUENCE},"spiffe_refresh_hint":{hint}}}'
    bundle = Bundle.from_jwks(TRUST_DOMAIN, document.encode())
    assert (bundle.sequence, bundle.refresh_hint) == (MAX_SEQUENCE, MAX_REFRESH_HINT)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(("kty", "use", "kid", "crv", "x", "y", "n", "e", "x5c", "alg")),
            json_values | st.sampled_from(("EC", "RSA", "x509-svid", "jwt-svid", "P-256", "P-521", "AQAB", "AQ", "AA")),
        ),
        max_size=3,
    )
)
@example([{"kty": "RSA", "use": "jwt-svid", "kid": "a", "n": "AQAB", "e": "AA"}])
@example([{"kty": "RSA", "use": "jwt-svid", "kid": "a", "n": "é", "e": "\ud800"}])
@example([{"kty": "EC", "use": "x509-svid", "x5c": ["\ud800"]}])
def test_any_keys_are_a_bundle_or_our_error(keys: list[object]) -> None:
    for read in (Bundle.from_jwks, Bundle.from_jwt_jwks):
        with suppress(BundleError):
            read(TRUST_DOMAIN, json.dumps({"keys": keys}).encode())
