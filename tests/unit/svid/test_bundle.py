import base64
import json
from contextlib import suppress
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from certs.ca import NOW, Draft, make_authority, make_certificate, make_key
from svid.bundle import MAX_AUTHORITIES, MAX_REFRESH_HINT, MAX_SEQUENCE, Bundle
from svid.errors import BundleError
from svid.keys import PublicKey
from svid.spiffeid import TrustDomain

TRUST_DOMAIN = TrustDomain("example.org")
CERTIFICATES = tuple(make_authority(f"authority-{number}").certificate for number in range(3))
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
KEYS: list[PublicKey] = [
    RSA_KEY,
    *(make_key("jwt", curve).public_key() for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())),
]

bundles = st.builds(
    Bundle,
    trust_domain=st.just(TRUST_DOMAIN),
    x509_authorities=st.lists(st.sampled_from(CERTIFICATES), unique=True).map(tuple),
    jwt_authorities=st.dictionaries(st.text("abc.-_é ", min_size=1), st.sampled_from(KEYS), max_size=4),
    sequence=st.none() | st.integers(0, MAX_SEQUENCE),
    refresh_hint=st.none()
    | st.integers(0, MAX_REFRESH_HINT // timedelta(seconds=1)).map(lambda n: timedelta(seconds=n)),
)


@given(bundles)
def test_a_bundle_written_and_parsed_is_the_same(bundle: Bundle) -> None:
    document = bundle.to_jwks()
    assert Bundle.from_jwks(TRUST_DOMAIN, document) == bundle
    assert Bundle.from_jwks(TRUST_DOMAIN, document).to_jwks() == document


@given(bundles)
def test_each_form_of_the_workload_api_carries_its_authorities_and_no_others(bundle: Bundle) -> None:
    jwt = Bundle.from_jwt_jwks(TRUST_DOMAIN, bundle.jwt_jwks())
    assert jwt == Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities=bundle.jwt_authorities)
    x509 = Bundle.from_der(TRUST_DOMAIN, bundle.x509_der())
    assert x509 == Bundle(trust_domain=TRUST_DOMAIN, x509_authorities=bundle.x509_authorities)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_bundle_or_our_error(document: bytes) -> None:
    for parse in (Bundle.from_jwks, Bundle.from_jwt_jwks, Bundle.from_der, Bundle.from_pem):
        with suppress(BundleError):
            parse(TRUST_DOMAIN, document)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["EC", "RSA", "jwt-svid", "x509-svid", "P-256"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.sampled_from(["kty", "use", "kid", "x"]), values),
    max_leaves=8,
)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["kty", "use", "kid", "crv", "x", "y", "n", "e", "x5c"]), json_values),
        max_size=3,
    )
)
def test_any_keys_are_a_bundle_or_our_error(keys: list[object]) -> None:
    for parse in (Bundle.from_jwks, Bundle.from_jwt_jwks):
        with suppress(BundleError):
            parse(TRUST_DOMAIN, json.dumps({"keys": keys}).encode())


def test_pem_written_and_parsed_is_the_same() -> None:
    bundle = Bundle(trust_domain=TRUST_DOMAIN, x509_authorities=CERTIFICATES)
    assert Bundle.from_pem(TRUST_DOMAIN, bundle.to_pem()) == bundle


def test_pem_without_certificates_is_refused() -> None:
    with pytest.raises(BundleError, match="at least 1 CERTIFICATE block"):
        Bundle.from_pem(TRUST_DOMAIN, b"")


def test_no_der_is_a_bundle_that_vouches_for_nothing() -> None:
    assert Bundle.from_der(TRUST_DOMAIN, b"") == Bundle(trust_domain=TRUST_DOMAIN)


def test_a_certificate_that_comes_twice_stands_once() -> None:
    bundle = Bundle(trust_domain=TRUST_DOMAIN, x509_authorities=CERTIFICATES + CERTIFICATES)
    assert bundle.x509_authorities == CERTIFICATES


def test_a_bundle_is_read_only() -> None:
    keys: dict[str, PublicKey] = {"a": RSA_KEY}
    bundle = Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities=keys)
    keys["b"] = RSA_KEY
    assert bundle.jwt_authorities == {"a": RSA_KEY}
    with pytest.raises(TypeError):
        bundle.jwt_authorities["b"] = RSA_KEY  # type: ignore[index]  # that it cannot be is the test
    with pytest.raises(FrozenInstanceError):
        bundle.sequence = 1  # type: ignore[misc]  # that it cannot be is the test
    assert replace(bundle, sequence=1).jwt_authorities == {"a": RSA_KEY}


@pytest.mark.parametrize("kid", ["", "a\n", "a" * 1025, "\ud800"])
def test_a_key_id_is_short_and_printable(kid: str) -> None:
    with pytest.raises(BundleError, match="expected 1 to 1024 printable characters"):
        Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities={kid: RSA_KEY})


@pytest.mark.parametrize("sequence", [-1, MAX_SEQUENCE + 1])
def test_a_sequence_has_64_bits(sequence: int) -> None:
    with pytest.raises(BundleError, match=f"sequence: expected 0 to {MAX_SEQUENCE}, found {sequence}"):
        Bundle(trust_domain=TRUST_DOMAIN, sequence=sequence)


@pytest.mark.parametrize("hint", [timedelta(seconds=-1), MAX_REFRESH_HINT + timedelta(seconds=1)])
def test_a_refresh_hint_is_sensible(hint: timedelta) -> None:
    with pytest.raises(BundleError, match="refresh_hint: expected 0 to 366 days"):
        Bundle(trust_domain=TRUST_DOMAIN, refresh_hint=hint)


def test_authorities_are_bounded() -> None:
    keys: dict[str, PublicKey] = {str(number): RSA_KEY for number in range(MAX_AUTHORITIES + 1)}
    with pytest.raises(BundleError, match="expected at most 256, found 257"):
        Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities=keys)


def test_a_document_is_bounded() -> None:
    with pytest.raises(BundleError, match="expected at most 1048576 bytes, found 1048577"):
        Bundle.from_jwks(TRUST_DOMAIN, b" " * (1048577))


def test_the_keys_of_a_document_are_bounded() -> None:
    with pytest.raises(BundleError, match="expected at most 512, found 513"):
        Bundle.from_jwks(TRUST_DOMAIN, json.dumps({"keys": [{}] * 513}).encode())


def test_a_weak_rsa_key_is_left_out_of_a_document_and_refused_in_a_value() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()  # noqa: S505 - the test
    numbers = weak.public_numbers()
    jwk = json.loads(Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities={"a": RSA_KEY}).to_jwks())["keys"][0]
    n = numbers.n.to_bytes(128)
    document = {"keys": [jwk | {"n": _base64url(n)}]}
    assert Bundle.from_jwks(TRUST_DOMAIN, json.dumps(document).encode()) == Bundle(trust_domain=TRUST_DOMAIN)
    with pytest.raises(BundleError, match="key 'a': expected P-256, P-384, P-521 or RSA of 2048 to 8192 bits"):
        Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities={"a": weak})


def test_a_private_key_in_a_document_is_read_as_its_public_half() -> None:
    jwk = json.loads(Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities={"a": KEYS[1]}).to_jwks())["keys"][0]
    document = json.dumps({"keys": [jwk | {"d": _base64url(b"\1" * 32)}]}).encode()
    assert Bundle.from_jwks(TRUST_DOMAIN, document).jwt_authorities == {"a": KEYS[1]}


@pytest.mark.parametrize("member", ["n", "e"])
@pytest.mark.parametrize("value", [None, 1, "", "A" * 2049, "*", "AA"])
def test_a_malformed_rsa_key_is_refused(member: str, value: object) -> None:
    jwk = json.loads(Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities={"a": RSA_KEY}).to_jwks())["keys"][0]
    with pytest.raises(BundleError, match="key 'a': expected"):
        Bundle.from_jwks(TRUST_DOMAIN, json.dumps({"keys": [jwk | {member: value}]}).encode())


def test_a_jwt_bundle_may_leave_use_out_but_holds_no_other_use() -> None:
    keys = json.loads(Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities={"a": KEYS[1], "b": KEYS[2]}).to_jwks())["keys"]
    del keys[0]["use"]
    keys[1]["use"] = "wit-svid"
    parsed = Bundle.from_jwt_jwks(TRUST_DOMAIN, json.dumps({"keys": keys}).encode())
    assert parsed.jwt_authorities == {"a": KEYS[1]}


def test_an_authority_with_a_key_that_we_do_not_use_is_refused() -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW)
    with pytest.raises(BundleError, match=r"authority: key: expected P-256.*found Ed25519PublicKey"):
        Bundle(trust_domain=TRUST_DOMAIN, x509_authorities=(builder.sign(key, None),))


def test_an_authority_with_a_key_that_nobody_knows_is_refused() -> None:
    der = make_certificate(Draft(name="leaf"), None).public_bytes(Encoding.DER)
    p256 = bytes.fromhex("06082a8648ce3d030107")
    unknown = bytes.fromhex("06082a8648ce3d03017f")
    with pytest.raises(BundleError, match="authority: key: unknown or malformed public key"):
        Bundle.from_der(TRUST_DOMAIN, der.replace(p256, unknown))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
