"""JWT-SVID: what a validator accepts and refuses, by the golden files. What we sign is in the issuer's tests."""

from datetime import timedelta

import pytest

from certs.ca import COMPONENT, NOW, make_key, make_token
from svid.bundle import Bundle
from svid.errors import JWTSVIDError
from svid.jwtsvid import ALGORITHMS, verify
from svid.spiffeid import SpiffeID
from tests.spec.vectors import TRUST_DOMAIN, read_bundle, refusal, verify_token

REASONING = SpiffeID.parse(COMPONENT)


@pytest.mark.clause("JW-01", "JW-02")
@pytest.mark.parametrize("name", ["json_serialization", "two_parts", "four_parts"])
def test_only_compact_jws_is_accepted(name: str) -> None:
    assert refusal("jwtsvid", name) == "JWT-SVID 1"


@pytest.mark.clause("JW-03")
@pytest.mark.parametrize("name", ["b64_false", "key_in_header", "key_address_in_header"])
def test_other_header_members_are_refused(name: str) -> None:
    assert refusal("jwtsvid", name) == "JWT-SVID 2"


@pytest.mark.clause("JW-04")
def test_the_algorithms_are_these_nine() -> None:
    assert set(ALGORITHMS) == {f"{family}{size}" for family in ("RS", "ES", "PS") for size in (256, 384, 512)}
    assert verify_token("es256").spiffe_id == verify_token("es384").spiffe_id == REASONING


@pytest.mark.clause("JW-05", "JW-06")
@pytest.mark.parametrize(
    "name", ["none", "hs256", "hs256_with_public_key", "eddsa", "es256k", "ml_dsa_44", "es256_in_lower_case"]
)
def test_any_other_algorithm_is_refused(name: str) -> None:
    assert refusal("jwtsvid", f"alg_{name}") == "JWT-SVID 2.1"


@pytest.mark.clause("JW-06")
def test_the_algorithm_is_looked_at_first() -> None:
    token = make_token("no JSON", make_key("a"), header={"alg": "HS256", "typ": "x", "crit": [], "kid": 1})
    with pytest.raises(JWTSVIDError, match="alg: expected"):
        verify(token, lambda _: None, audience="connector", at=NOW)


@pytest.mark.clause("JW-07")
def test_a_token_may_have_no_key_id() -> None:
    assert verify_token("no_kid").spiffe_id == REASONING


@pytest.mark.clause("JW-08")
def test_the_type_is_absent_jwt_or_jose() -> None:
    assert verify_token("no_typ").spiffe_id == verify_token("typ_jose").spiffe_id == REASONING
    assert refusal("jwtsvid", "typ_other") == refusal("jwtsvid", "typ_in_lower_case") == "JWT-SVID 2.3"


@pytest.mark.clause("JW-09")
@pytest.mark.parametrize("name", ["no_sub", "sub_no_id", "sub_with_newline"])
def test_the_subject_is_a_spiffe_id(name: str) -> None:
    assert refusal("jwtsvid", name) == "JWT-SVID 3.1"


@pytest.mark.clause("JW-10", "JW-11")
@pytest.mark.parametrize("name", ["no_aud", "empty_aud", "another_audience", "audience_in_upper_case"])
def test_a_token_for_nobody_or_for_others_is_refused(name: str) -> None:
    assert refusal("jwtsvid", name) == "JWT-SVID 3.2"


@pytest.mark.clause("JW-11")
def test_one_audience_among_several_is_enough() -> None:
    assert verify_token("two_audiences").audiences == ("other", "connector")


@pytest.mark.clause("JW-13", "JW-14")
@pytest.mark.parametrize("name", ["no_exp", "exp_as_text"])
def test_a_token_without_end_is_refused(name: str) -> None:
    assert refusal("jwtsvid", name) == "JWT-SVID 3.3"


@pytest.mark.clause("JW-15")
def test_a_token_is_refused_from_its_end_on_but_for_the_leeway() -> None:
    assert refusal("jwtsvid", "expired") == "JWT-SVID 3.3"
    key = make_key("a")
    bundle = Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities={"authority-1": key.public_key()})
    token = make_token({"sub": COMPONENT, "aud": "connector", "exp": int(NOW.timestamp())}, key)
    verify(token, {TRUST_DOMAIN: bundle}.get, audience="connector", at=NOW, leeway=timedelta(seconds=1))


@pytest.mark.clause("JW-17")
def test_an_audience_may_be_a_text() -> None:
    assert verify_token("audience_as_text").audiences == ("connector",)


@pytest.mark.clause("JW-17")
def test_not_before_is_honoured_where_it_is_there() -> None:
    assert refusal("jwtsvid", "not_yet_valid") == "JWT-SVID 4"


@pytest.mark.clause("JW-17")
def test_a_critical_header_that_nobody_knows_is_refused() -> None:
    assert refusal("jwtsvid", "crit") == "JWT-SVID 2"


@pytest.mark.clause("JW-17")
@pytest.mark.parametrize("name", ["signed_by_another", "no_signature", "claims_changed", "unknown_kid"])
def test_the_signature_is_checked(name: str) -> None:
    assert refusal("jwtsvid", name) == "JWT-SVID 4"


@pytest.mark.clause("JW-17")
@pytest.mark.parametrize("name", ["alg_of_another_curve", "alg_of_another_type"])
def test_the_key_fits_the_algorithm(name: str) -> None:
    assert refusal("jwtsvid", name) == "JWT-SVID 4"


@pytest.mark.clause("JW-18", "JW-24")
def test_other_claims_are_handed_on() -> None:
    claims = verify_token("other_claims").claims
    assert claims["https://example.org/task"] == {"id": [1, None, "x"]}
    assert claims["jti"] == "1"


@pytest.mark.clause("JW-21", "JW-22")
@pytest.mark.parametrize("name", ["no_kid", "empty_kid", "kid_twice", "no_y", "not_on_the_curve"])
def test_a_key_of_a_bundle_has_its_id_and_its_parameters(name: str) -> None:
    assert refusal("bundle", name) == "JWT-SVID 6.1"


@pytest.mark.clause("JW-23")
def test_a_bundle_without_jwt_keys_does_no_jwt_svids() -> None:
    assert not read_bundle("x509_keys_alone").jwt_authorities
    assert not read_bundle("unknown_use").jwt_authorities


@pytest.mark.clause("JW-26")
def test_a_verifier_names_the_audiences_it_accepts() -> None:
    with pytest.raises(JWTSVIDError, match="expected at least 1 acceptable audience"):
        verify("", lambda _: None, audience=(), at=NOW)


@pytest.mark.clause("WA-38")
def test_only_the_bundle_of_the_subjects_trust_domain_counts() -> None:
    assert refusal("jwtsvid", "sub_of_another_trust_domain") == "Trust Domain and Bundle 3"
