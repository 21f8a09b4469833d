"""Trust Domain and Bundle 4, X509-SVID 6, JWT-SVID 6: the bundle documents that we read and write."""

import base64
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from svid.bundle import Bundle
from svid.errors import BundleError
from tests.spec.vectors import TRUST, TRUST_DOMAIN, read_bundle, refusal

WRITTEN = json.loads(TRUST.to_jwks())
X509_KEYS = [key for key in WRITTEN["keys"] if key["use"] == "x509-svid"]
JWT_KEYS = [key for key in WRITTEN["keys"] if key["use"] == "jwt-svid"]


@pytest.mark.clause("TB-04", "TB-10")
def test_a_bundle_is_a_jwk_set_whose_keys_are_an_array() -> None:
    assert read_bundle("full") == TRUST
    assert json.loads(Bundle(trust_domain=TRUST_DOMAIN).to_jwks()) == {"keys": []}
    assert refusal("bundle", "no_keys") == refusal("bundle", "keys_null") == "Trust Domain and Bundle 4.1.3"


@pytest.mark.clause("TB-05")
def test_members_that_nobody_knows_are_ignored() -> None:
    assert read_bundle("other_members").x509_authorities == TRUST.x509_authorities


@pytest.mark.clause("TB-06", "TB-07", "TB-08")
def test_the_sequence_is_an_integer_of_64_bits() -> None:
    assert WRITTEN["spiffe_sequence"] == 7
    assert read_bundle("largest_sequence").sequence == 2**64 - 1
    for name in ("as_text", "null", "true", "negative", "of_65_bits"):
        assert refusal("bundle", f"sequence_{name}") == "Trust Domain and Bundle 4.1"


@pytest.mark.clause("TB-09")
def test_the_refresh_hint_is_whole_seconds() -> None:
    assert TRUST.refresh_hint == timedelta(seconds=300)
    assert WRITTEN["spiffe_refresh_hint"] == 300
    assert refusal("bundle", "hint_with_fraction") == "Trust Domain and Bundle 4.1"


@pytest.mark.clause("TB-11", "TB-14", "TB-15")
@pytest.mark.parametrize(
    "name", ["unknown_key_type", "unknown_use", "unknown_curve", "use_in_upper_case", "no_use", "no_kty"]
)
def test_a_key_of_an_unknown_type_or_use_is_ignored_and_the_others_are_not(name: str) -> None:
    bundle = read_bundle(name)
    assert bundle.x509_authorities == TRUST.x509_authorities
    assert not bundle.jwt_authorities


@pytest.mark.clause("TB-12")
def test_no_keys_left_means_that_nothing_is_trusted() -> None:
    bundle = read_bundle("no_keys_left")
    assert bundle.sequence == 8
    assert not bundle.x509_authorities
    assert not bundle.jwt_authorities


@pytest.mark.clause("TB-13", "X5-28")
def test_keys_are_written_with_the_members_of_the_standard_and_no_others() -> None:
    assert all(key.keys() == {"kty", "crv", "x", "y", "use", "x5c"} for key in X509_KEYS)
    assert all(key.keys() == {"kty", "crv", "x", "y", "use", "kid"} for key in JWT_KEYS)
    assert WRITTEN.keys() == {"keys", "spiffe_sequence", "spiffe_refresh_hint"}


@pytest.mark.clause("X5-29", "X5-30", "X5-31")
def test_an_x509_key_is_written_with_its_one_certificate_and_no_key_id() -> None:
    assert len(X509_KEYS) == len(TRUST.x509_authorities) == 1
    der = TRUST.x509_authorities[0].public_bytes(Encoding.DER)
    assert X509_KEYS[0]["x5c"] == [base64.b64encode(der).decode()]
    assert "kid" not in X509_KEYS[0]


@pytest.mark.clause("X5-31")
@pytest.mark.parametrize("name", ["x5c_as_text", "x5c_not_base64", "x5c_empty_text"])
def test_a_certificate_that_is_none_is_refused(name: str) -> None:
    assert refusal("bundle", name) == "X509-SVID 6.1"


@pytest.mark.clause("X5-33")
@pytest.mark.parametrize("name", ["no_x5c", "empty_x5c"])
def test_an_x509_key_without_certificate_is_ignored(name: str) -> None:
    bundle = read_bundle(name)
    assert not bundle.x509_authorities
    assert len(bundle.jwt_authorities) == 1


@pytest.mark.clause("X5-34")
def test_only_the_first_certificate_of_a_key_counts() -> None:
    assert read_bundle("two_x5c").x509_authorities == TRUST.x509_authorities


@pytest.mark.clause("X5-35")
def test_the_x509_keys_together_are_the_authorities() -> None:
    assert read_bundle("same_certificate_twice").x509_authorities == TRUST.x509_authorities
    assert not read_bundle("jwt_keys_alone").x509_authorities


@pytest.mark.clause("JW-21", "JW-22")
def test_a_jwt_key_is_written_with_its_key_id() -> None:
    assert [key["kid"] for key in JWT_KEYS] == sorted(TRUST.jwt_authorities)


@pytest.mark.clause("WA-31", "WA-32")
def test_the_jwt_bundle_of_the_workload_api_holds_jwt_keys_alone() -> None:
    assert json.loads(TRUST.jwt_jwks()) == {"keys": JWT_KEYS}


@pytest.mark.clause("WA-18")
def test_the_x509_bundle_of_the_workload_api_is_der_back_to_back_and_no_pem() -> None:
    der = b"".join(certificate.public_bytes(Encoding.DER) for certificate in TRUST.x509_authorities)
    assert TRUST.x509_der() == der
    with pytest.raises(BundleError, match="expected DER"):
        Bundle.from_der(TRUST_DOMAIN, TRUST.to_pem())
