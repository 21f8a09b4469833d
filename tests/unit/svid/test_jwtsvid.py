import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from certs.ca import COMPONENT, NOW, make_key, make_token
from svid.bundle import Bundle
from svid.errors import JWTSVIDError
from svid.jwtsvid import ALGORITHMS, JWTSVID, MAX_TOKEN_BYTES, verify
from svid.keys import PublicKey
from svid.spiffeid import SpiffeID, TrustDomain

TRUST_DOMAIN = TrustDomain("example.org")
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
KEYS = {
    "ES256": make_key("jwt"),
    "ES384": make_key("jwt", ec.SECP384R1()),
    "ES512": make_key("jwt", ec.SECP521R1()),
}
CLAIMS: dict[str, object] = {"sub": COMPONENT, "aud": ["connector"], "exp": int(NOW.timestamp()) + 300}
TOKEN = make_token(CLAIMS, KEYS["ES256"], header={"alg": "ES256", "kid": "ES256"})
BUNDLE = Bundle(
    trust_domain=TRUST_DOMAIN,
    jwt_authorities={"RSA": RSA_KEY.public_key(), **{name: key.public_key() for name, key in KEYS.items()}},
)


def bundle_for(trust_domain: TrustDomain) -> Bundle | None:
    return BUNDLE if trust_domain == TRUST_DOMAIN else None


def checked(token: str, audience: str = "connector", at: datetime = NOW, leeway: timedelta = timedelta()) -> JWTSVID:
    return verify(token, bundle_for, audience=audience, at=at, leeway=leeway)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("named", [True, False])
def test_each_algorithm_verifies_with_and_without_key_id(algorithm: str, named: bool) -> None:  # noqa: FBT001 - a case
    key = KEYS.get(algorithm, RSA_KEY)
    headers = {"kid": algorithm if algorithm in KEYS else "RSA"} if named else None
    token = jwt.encode(CLAIMS, key, algorithm=algorithm, headers=headers)
    assert checked(token).spiffe_id == SpiffeID.parse(COMPONENT)


def test_a_verified_token_says_what_it_says() -> None:
    claims = CLAIMS | {"iat": int(NOW.timestamp()), "task": {"id": 1}}
    token = make_token(claims, KEYS["ES256"])
    svid = verify(token, lambda _: BUNDLE_OF_ONE, audience={"other", "connector"}, at=NOW)
    assert svid.token == token
    assert svid.spiffe_id == SpiffeID.parse(COMPONENT)
    assert svid.audiences == ("connector",)
    assert svid.issued_at == NOW
    assert svid.expires_at == NOW + timedelta(seconds=300)
    assert svid.claims == claims
    assert svid.hint == ""


BUNDLE_OF_ONE = Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities={"authority-1": KEYS["ES256"].public_key()})


def test_a_token_shows_neither_itself_nor_its_claims() -> None:
    svid = JWTSVID.parse_insecure(TOKEN, hint="internal")
    assert svid.hint == "internal"
    assert svid.key_id == "ES256"
    assert svid.issued_at is None
    assert TOKEN not in repr(svid)
    assert "exp" not in repr(svid).replace("expires_at", "")
    with pytest.raises(TypeError):
        svid.claims["sub"] = "x"  # type: ignore[index]  # that it cannot be is the test


def test_an_insecurely_parsed_token_is_looked_at_neither_for_signature_nor_for_time() -> None:
    token = make_token(CLAIMS | {"exp": 1}, make_key("stranger"))
    assert JWTSVID.parse_insecure(token).expires_at == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("parts", "clause"), [("", "1"), ("a.b", "1"), ("a.b.c.d", "1"), ("é.b.c", "4"), (TOKEN[:-1] + "*", "4")]
)
def test_what_is_no_compact_serialization_is_refused(parts: str, clause: str) -> None:
    with pytest.raises(JWTSVIDError) as e:
        JWTSVID.parse_insecure(parts)
    assert e.value.clause == f"JWT-SVID {clause}"


def test_a_token_is_bounded() -> None:
    with pytest.raises(JWTSVIDError, match="expected at most 16384 bytes, found 16385"):
        JWTSVID.parse_insecure("a" * (MAX_TOKEN_BYTES + 1))


def test_the_algorithm_is_looked_at_before_anything_else() -> None:
    token = make_token("no claims", make_key("a"), header={"alg": "none", "typ": "x", "crit": []}, signature=b"")
    with pytest.raises(JWTSVIDError, match="alg: expected one of ES256"):
        checked(token)


def test_leeway_counts_for_the_end_and_for_the_beginning() -> None:
    token = make_token(CLAIMS | {"nbf": int(NOW.timestamp())}, KEYS["ES256"], header={"alg": "ES256"})
    end, second = NOW + timedelta(seconds=300), timedelta(seconds=1)
    checked(token, at=NOW)
    checked(token, at=end - second)
    checked(token, at=end, leeway=second)
    checked(token, at=NOW - second, leeway=second)
    for moment, leeway in ((end, timedelta()), (end + second, second), (NOW - second, timedelta())):
        with pytest.raises(JWTSVIDError, match=r"expired at|not valid before"):
            checked(token, at=moment, leeway=leeway)


def test_a_moment_may_have_a_fraction() -> None:
    token = make_token(CLAIMS | {"exp": NOW.timestamp() + 0.5}, KEYS["ES256"], header={"alg": "ES256"})
    assert checked(token).expires_at == NOW + timedelta(milliseconds=500)


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["1", True, None, -1, 1e300, 253_402_300_800, [1]])
def test_a_moment_that_is_none_is_refused(name: str, value: object) -> None:
    token = make_token(CLAIMS | {name: value}, KEYS["ES256"], header={"alg": "ES256"})
    with pytest.raises(JWTSVIDError, match=f"{name}: expected seconds since 1970"):
        checked(token)


def test_a_verifier_without_audience_accepts_nothing() -> None:
    with pytest.raises(JWTSVIDError, match="expected at least 1 acceptable audience, found 0"):
        verify(TOKEN, bundle_for, audience=[], at=NOW)


def test_an_audience_is_a_whole_value() -> None:
    for audience in ("conn", "c", "CONNECTOR", ""):
        with pytest.raises(JWTSVIDError, match=f"aud: expected '{audience}', found '"):
            checked(TOKEN, audience=audience)
    with pytest.raises(JWTSVIDError, match="aud: expected one of 'a', 'b', found '"):
        verify(TOKEN, bundle_for, audience=["b", "a"], at=NOW)


def test_only_the_bundle_of_the_subjects_trust_domain_is_asked_for() -> None:
    asked: list[TrustDomain] = []

    def ask(trust_domain: TrustDomain) -> None:
        asked.append(trust_domain)

    with pytest.raises(JWTSVIDError, match=r"bundle: there is none for trust domain example\.org"):
        verify(TOKEN, ask, audience="connector", at=NOW)
    assert asked == [TRUST_DOMAIN]


def test_the_bundle_of_another_trust_domain_is_not_taken() -> None:
    other = replace(BUNDLE, trust_domain=TrustDomain("example.com"))
    with pytest.raises(JWTSVIDError, match=r"bundle: there is none for trust domain example\.org"):
        verify(TOKEN, lambda _: other, audience="connector", at=NOW)


def keys_of(*names: str) -> Callable[[TrustDomain], Bundle]:
    keys: dict[str, PublicKey] = {name: BUNDLE.jwt_authorities[name] for name in names}
    return lambda _: Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities=keys)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_must_fit_the_algorithm(algorithm: str) -> None:
    right = algorithm if algorithm in KEYS else "RSA"
    token = jwt.encode(CLAIMS, KEYS.get(algorithm, RSA_KEY), algorithm=algorithm)
    wrong = BUNDLE.jwt_authorities.keys() - {right}
    with pytest.raises(JWTSVIDError, match=f"no authority of example.org for {algorithm}"):
        verify(token, keys_of(*wrong), audience="connector", at=NOW)


def test_without_key_id_each_fitting_key_is_tried() -> None:
    others: dict[str, PublicKey] = {name: make_key(name).public_key() for name in ("a", "b")}
    bundle = Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities={**others, "z": KEYS["ES256"].public_key()})
    token = make_token(CLAIMS, KEYS["ES256"], header={"alg": "ES256"})
    assert verify(token, lambda _: bundle, audience="connector", at=NOW).token == token


def test_a_key_id_names_one_key_and_no_other_is_tried() -> None:
    bundle = Bundle(
        trust_domain=TRUST_DOMAIN,
        jwt_authorities={"ES256": make_key("a").public_key(), "z": KEYS["ES256"].public_key()},
    )
    with pytest.raises(JWTSVIDError, match="signature: not by an authority"):
        verify(TOKEN, lambda _: bundle, audience="connector", at=NOW)


def test_a_token_id_that_is_no_text_is_refused() -> None:
    token = make_token(CLAIMS | {"jti": 1}, KEYS["ES256"], header={"alg": "ES256"})
    with pytest.raises(JWTSVIDError, match="not a valid JWT"):
        checked(token)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=3), values, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit"]), json_values | st.sampled_from(ALGORITHMS)))
def test_any_header_is_a_token_or_our_error(header: object) -> None:
    with suppress(JWTSVIDError):
        checked(make_token(CLAIMS, KEYS["ES256"], header=header))


@given(st.dictionaries(st.sampled_from(["sub", "aud", "exp", "iat", "nbf", "jti"]), json_values))
def test_any_claims_are_a_token_or_our_error(claims: dict[str, object]) -> None:
    with suppress(JWTSVIDError):
        checked(make_token(CLAIMS | claims, KEYS["ES256"], header={"alg": "ES256"}))


@given(st.text(st.characters(codec="ascii"), max_size=50))
def test_any_text_is_a_token_or_our_error(text: str) -> None:
    with suppress(JWTSVIDError):
        checked(text)


def test_claims_are_what_json_says() -> None:
    assert json.loads(json.dumps(dict(JWTSVID.parse_insecure(TOKEN).claims))) == CLAIMS
