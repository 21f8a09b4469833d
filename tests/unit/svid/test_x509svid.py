from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from certs.ca import CA_USAGE, COMPONENT, NOW, Draft, make_authority, make_certificate, make_key, make_leaf
from svid.bundle import Bundle
from svid.errors import SVIDError, UnusableKeyError, X509SVIDError
from svid.keys import private_key_to_der
from svid.spiffeid import SpiffeID, TrustDomain
from svid.x509svid import X509SVID, check_leaf, check_signing, verify

TRUST_DOMAIN = TrustDomain("example.org")
ROOT = make_authority("authority-1")
MIDDLE = make_authority("middle", issuer=ROOT)
LEAF, KEY = make_leaf(Draft(name="leaf"), MIDDLE)
CHAIN = (LEAF, MIDDLE.certificate)
BUNDLE = Bundle(trust_domain=TRUST_DOMAIN, x509_authorities=(ROOT.certificate,))
CHAIN_DER = b"".join(certificate.public_bytes(Encoding.DER) for certificate in CHAIN)
KEY_DER = private_key_to_der(KEY)
SIGNING = Draft(name="ca", uris=("spiffe://example.org",), subject="ca", ca=True, usage=CA_USAGE, extended_usage=None)


def test_what_the_workload_api_gives_is_parsed() -> None:
    svid = X509SVID.parse(CHAIN_DER, KEY_DER, hint="internal")
    assert svid.spiffe_id == SpiffeID.parse(COMPONENT)
    assert svid.chain == CHAIN
    assert svid.leaf == LEAF
    assert svid.serial == LEAF.serial_number
    assert svid.not_before == NOW - timedelta(minutes=10)
    assert svid.not_after == NOW + timedelta(minutes=50)
    assert svid.hint == "internal"


def test_an_svid_is_written_as_it_came() -> None:
    svid = X509SVID.parse(CHAIN_DER, KEY_DER)
    assert svid.chain_der() == CHAIN_DER
    assert svid.key_der() == KEY_DER
    assert tuple(x509.load_pem_x509_certificates(svid.chain_pem())) == CHAIN
    assert private_key_to_der(load_ec_pem(svid.key_pem())) == KEY_DER


def load_ec_pem(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def test_an_svid_does_not_show_its_key() -> None:
    assert "private_key" not in repr(X509SVID.parse(CHAIN_DER, KEY_DER))


def test_the_key_of_another_is_refused() -> None:
    with pytest.raises(X509SVIDError, match="not the private key of the leaf"):
        X509SVID.parse(CHAIN_DER, private_key_to_der(make_key("other")))


def test_an_svid_without_certificates_is_refused() -> None:
    with pytest.raises(X509SVIDError, match="expected at least 1 certificate, found 0"):
        X509SVID.parse(b"", KEY_DER)


def test_an_svid_with_a_key_of_no_use_is_refused() -> None:
    with pytest.raises(UnusableKeyError):
        X509SVID.parse(CHAIN_DER, b"")


def test_a_leaf_with_a_key_that_nobody_knows_is_refused() -> None:
    p256, unknown = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f")
    with pytest.raises(X509SVIDError, match="unknown or malformed public key"):
        X509SVID.parse(CHAIN_DER.replace(p256, unknown), KEY_DER)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # it parses, and warns
def test_a_serial_number_that_is_not_positive_is_refused() -> None:
    serial = LEAF.serial_number.to_bytes(LEAF.serial_number.bit_length() // 8 + 1)
    der = CHAIN_DER.replace(serial, b"\x80" + serial[1:])
    with pytest.raises(X509SVIDError, match="serial number: expected a positive number"):
        X509SVID.parse(der, KEY_DER)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # it parses, and warns
@given(st.integers(0, len(CHAIN_DER) - 1), st.integers(0, 255))
def test_a_chain_with_one_byte_changed_is_an_svid_or_our_error(position: int, byte: int) -> None:
    changed = CHAIN_DER[:position] + bytes([byte]) + CHAIN_DER[position + 1 :]
    with suppress(SVIDError):
        X509SVID.parse(changed, KEY_DER)


def test_an_extension_that_comes_twice_is_refused() -> None:
    der = LEAF.public_bytes(Encoding.DER)
    ski, aki = bytes.fromhex("0603551d0e"), bytes.fromhex("0603551d23")
    with pytest.raises(X509SVIDError, match="extensions: malformed, or an extension is repeated"):
        check_leaf(x509.load_der_x509_certificate(der.replace(ski, aki)))


def test_a_subject_that_is_no_text_is_refused() -> None:
    der = make_certificate(Draft(name="leaf", subject="\0ab", san_critical=False), ROOT).public_bytes(Encoding.DER)
    bit_string = der.replace(b"\x0c\x03\0ab", b"\x03\x03\0ab")  # found by tests/fuzz
    assert bit_string != der
    with pytest.raises(X509SVIDError, match="subject or extensions: malformed"):
        check_leaf(x509.load_der_x509_certificate(bit_string))


def test_a_leaf_as_we_sign_them_passes_the_lint() -> None:
    assert check_leaf(LEAF) == SpiffeID.parse(COMPONENT)


def test_the_lint_of_our_leaves_wants_what_verification_only_recommends() -> None:
    for draft, field, clause in (
        (Draft(name="leaf", ca=None), "basic constraints", "X509-SVID 4.1"),
        (Draft(name="leaf", extended_usage=None), "extended key usage", "X509-SVID 4.4"),
    ):
        certificate = make_certificate(draft, ROOT)
        assert verify([certificate], BUNDLE, at=NOW) == SpiffeID.parse(COMPONENT)
        with pytest.raises(X509SVIDError, match=f"{field}: missing on a leaf") as e:
            check_leaf(certificate)
        assert e.value.clause == clause


def test_a_signing_certificate_as_we_make_them_passes_the_lint() -> None:
    check_signing(ROOT.certificate, TRUST_DOMAIN)
    check_signing(MIDDLE.certificate, TRUST_DOMAIN)


@pytest.mark.parametrize(
    ("draft", "message", "clause"),
    [
        (replace(SIGNING, uris=()), "URI SAN: expected 1, found 0", "2"),
        (replace(SIGNING, uris=("spiffe://example.org", "spiffe://example.com")), "URI SAN: expected 1, found 2", "2"),
        (replace(SIGNING, uris=("spiffe://example.com",)), "expected the trust domain example.org", "3.2"),
        (replace(SIGNING, uris=(COMPONENT,)), "expected no path", "3.2"),
        (replace(SIGNING, ca=None), "expected cA true", "4.1"),
        (replace(SIGNING, ca=False), "expected cA true", "4.1"),
        (replace(SIGNING, usage=None), "key usage: missing, or not critical", "4.3"),
        (replace(SIGNING, usage_critical=False), "key usage: missing, or not critical", "4.3"),
        (replace(SIGNING, usage=frozenset({"crl_sign"})), "expected keyCertSign", "4.3"),
        *(
            (replace(SIGNING, usage=CA_USAGE | {bit}), "expected only keyCertSign and cRLSign", "A")
            for bit in (
                "digital_signature",
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
            )
        ),
    ],
)
def test_a_signing_certificate_that_is_otherwise_does_not_pass(draft: Draft, message: str, clause: str) -> None:
    with pytest.raises(X509SVIDError, match=message) as e:
        check_signing(make_certificate(draft, None), TRUST_DOMAIN)
    assert e.value.clause == f"X509-SVID {clause}"


def test_a_signing_certificate_needs_no_crl_sign() -> None:
    check_signing(make_certificate(replace(SIGNING, usage=frozenset({"key_cert_sign"})), None), TRUST_DOMAIN)


def test_a_chain_is_verified_up_to_an_authority() -> None:
    assert verify(CHAIN, BUNDLE, at=NOW) == SpiffeID.parse(COMPONENT)


def test_a_chain_without_its_intermediate_leads_nowhere() -> None:
    with pytest.raises(X509SVIDError, match=r"does not lead to an authority of example\.org"):
        verify([LEAF], BUNDLE, at=NOW)


@pytest.mark.parametrize(
    "moment",
    [LEAF.not_valid_before_utc - timedelta(seconds=1), LEAF.not_valid_after_utc + timedelta(seconds=1)],
)
def test_a_chain_is_verified_in_the_moment_that_is_asked_about(moment: datetime) -> None:
    with pytest.raises(X509SVIDError, match="not valid"):
        verify(CHAIN, BUNDLE, at=moment)


def test_validity_includes_its_first_and_its_last_second() -> None:
    verify(CHAIN, BUNDLE, at=LEAF.not_valid_before_utc)
    verify(CHAIN, BUNDLE, at=LEAF.not_valid_after_utc)


def test_a_moment_in_another_zone_is_the_same_moment() -> None:
    verify(CHAIN, BUNDLE, at=NOW.astimezone(timezone(timedelta(hours=9))))


def test_a_bundle_without_authorities_vouches_for_nothing() -> None:
    with pytest.raises(X509SVIDError, match=r"expected an X\.509 authority of example\.org, found none"):
        verify(CHAIN, Bundle(trust_domain=TRUST_DOMAIN), at=NOW)


def test_a_leaf_in_the_bundle_does_not_vouch_for_itself() -> None:
    bundle = Bundle(trust_domain=TRUST_DOMAIN, x509_authorities=(LEAF,))
    with pytest.raises(X509SVIDError, match="found one that is itself in the bundle"):
        verify([LEAF], bundle, at=NOW)


def test_a_leaf_in_the_bundle_vouches_for_no_other() -> None:
    authority = make_authority(Draft(name="leaf-1", subject="leaf-1"), issuer=ROOT)
    bundle = Bundle(trust_domain=TRUST_DOMAIN, x509_authorities=(authority.certificate,))
    with pytest.raises(X509SVIDError, match="does not lead to an authority"):
        verify([make_certificate(Draft(name="leaf-2"), authority)], bundle, at=NOW)


def test_either_of_two_authorities_vouches_during_a_rotation() -> None:
    successor = make_authority("authority-2")
    bundle = replace(BUNDLE, x509_authorities=(ROOT.certificate, successor.certificate))
    for authority in (ROOT, successor):
        verify([make_certificate(Draft(name="leaf"), authority)], bundle, at=NOW)
