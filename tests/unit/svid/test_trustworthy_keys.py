"""Which keys prove something: one table, and every way by which a key comes in."""

import json
from collections.abc import Callable
from dataclasses import replace

import jwt.utils as jwt_utils
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from certs.ca import CA_USAGE, COMPONENT, NOW, Authority, Draft, make_authority, make_certificate, make_key, make_leaf
from svid.bundle import Bundle
from svid.encoding import certificates_to_der
from svid.errors import BundleError, SVIDError, UnusableKeyError, X509SVIDError
from svid.keys import certified_key, check_trustworthy, private_key_to_der
from svid.spiffeid import SpiffeID, TrustDomain
from svid.tls.context import server_context
from svid.tls.refusals import HandshakeRefusedError
from svid.x509svid import X509SVID, check_leaf, check_signing, verify
from tests.doubles.clock import FakeClock
from tests.doubles.identity import Identity

TRUST_DOMAIN = TrustDomain("example.org")
ROOT = make_authority("authority-1")
BUNDLE = Bundle(trust_domain=TRUST_DOMAIN, x509_authorities=(ROOT.certificate,))
CA = Draft(
    name="ca",
    uris=("spiffe://example.org",),
    subject="ca",
    san_critical=False,
    ca=True,
    usage=CA_USAGE,
    extended_usage=None,
)


def an_rsa(bits: int, exponent: int = 65537) -> rsa.RSAPublicKey:
    """A key of that size to which nobody has the private half."""
    return rsa.RSAPublicNumbers(e=exponent, n=(1 << (bits - 1)) + 1).public_key()


def an_ec(curve: ec.EllipticCurve) -> ec.EllipticCurvePublicKey:
    return ec.derive_private_key(7, curve).public_key()


GOOD: dict[str, CertificatePublicKeyTypes] = {
    "P-256": an_ec(ec.SECP256R1()),
    "P-384": an_ec(ec.SECP384R1()),
    "P-521": an_ec(ec.SECP521R1()),
    "RSA-2048": an_rsa(2048),
    "RSA-3072": an_rsa(3072),
    "RSA-8192": an_rsa(8192),
    "RSA-2048 with the greatest exponent": an_rsa(2048, (1 << 31) - 1),
}
BAD: dict[str, CertificatePublicKeyTypes] = {
    "RSA-512": an_rsa(512),
    "RSA-1024": an_rsa(1024),
    "RSA-2047": an_rsa(2047),
    "RSA-8193": an_rsa(8193),
    "RSA-2048 with exponent 3": an_rsa(2048, 3),
    "RSA-2048 with exponent 65535": an_rsa(2048, 65535),
    "RSA-2048 with an exponent of 32 bits": an_rsa(2048, (1 << 31) + 1),
    "RSA-2048 with an exponent of 2000 bits": an_rsa(2048, (1 << 2000) + 1),
    "P-192": an_ec(ec.SECP192R1()),
    "P-224": an_ec(ec.SECP224R1()),
    "secp256k1": an_ec(ec.SECP256K1()),
    "brainpoolP256r1": an_ec(ec.BrainpoolP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key(),
    "Ed448": ed448.Ed448PrivateKey.from_private_bytes(bytes(57)).public_key(),
    "DSA": dsa.DSAPublicNumbers(
        y=2, parameter_numbers=dsa.DSAParameterNumbers(p=(1 << 2047) + 1, q=(1 << 255) + 1, g=2)
    ).public_key(),
}
WITH_GOOD = pytest.mark.parametrize("key", [pytest.param(key, id=name) for name, key in GOOD.items()])
WITH_BAD = pytest.mark.parametrize("key", [pytest.param(key, id=name) for name, key in BAD.items()])


def a_leaf(key: CertificatePublicKeyTypes) -> x509.Certificate:
    return make_certificate(Draft(name="leaf", public_key=key), ROOT)


def an_authority(key: CertificatePublicKeyTypes) -> x509.Certificate:
    return make_certificate(replace(CA, public_key=key), ROOT)


def as_a_leaf(key: CertificatePublicKeyTypes) -> None:
    verify([a_leaf(key)], BUNDLE, at=NOW)


def as_a_peer(key: CertificatePublicKeyTypes) -> None:
    own, own_key = make_leaf(Draft(name="own"), ROOT)
    svid = X509SVID.parse(certificates_to_der([own]), private_key_to_der(own_key))
    context = server_context(Identity(svid, BUNDLE), lambda _: True, clock=FakeClock(NOW))
    context.admit([a_leaf(key).public_bytes(Encoding.DER)])


def as_a_leaf_of_our_own(key: CertificatePublicKeyTypes) -> None:
    check_leaf(a_leaf(key))


def as_a_signing_certificate(key: CertificatePublicKeyTypes) -> None:
    check_signing(an_authority(key), TRUST_DOMAIN)


def as_an_intermediate_that_signed_nothing(key: CertificatePublicKeyTypes) -> None:
    verify([make_certificate(Draft(name="leaf"), ROOT), an_authority(key)], BUNDLE, at=NOW)


def as_an_intermediate_of_an_svid(key: CertificatePublicKeyTypes) -> None:
    chain = certificates_to_der([make_certificate(Draft(name="leaf"), ROOT), an_authority(key)])
    X509SVID.parse(chain, private_key_to_der(make_key("leaf")))


def as_an_authority(key: CertificatePublicKeyTypes) -> None:
    Bundle(trust_domain=TRUST_DOMAIN, x509_authorities=(an_authority(key),))


def as_an_authority_in_der(key: CertificatePublicKeyTypes) -> None:
    Bundle.from_der(TRUST_DOMAIN, an_authority(key).public_bytes(Encoding.DER))


def as_an_authority_in_pem(key: CertificatePublicKeyTypes) -> None:
    Bundle.from_pem(TRUST_DOMAIN, an_authority(key).public_bytes(Encoding.PEM))


def as_a_jwt_authority(key: CertificatePublicKeyTypes) -> None:
    Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities={"a": key})  # type: ignore[dict-item]  # others are the test


WAYS = pytest.mark.parametrize(
    "come_in",
    [
        as_a_leaf,
        as_a_peer,
        as_a_leaf_of_our_own,
        as_a_signing_certificate,
        as_an_intermediate_that_signed_nothing,
        as_an_intermediate_of_an_svid,
        as_an_authority,
        as_an_authority_in_der,
        as_an_authority_in_pem,
        as_a_jwt_authority,
    ],
)


@WAYS
@WITH_GOOD
def test_a_key_of_the_table_comes_in_by_every_way(
    come_in: Callable[[CertificatePublicKeyTypes], None], key: CertificatePublicKeyTypes
) -> None:
    assert check_trustworthy(key) is key
    come_in(key)


@WAYS
@WITH_BAD
def test_no_other_key_comes_in_by_any_way(
    come_in: Callable[[CertificatePublicKeyTypes], None], key: CertificatePublicKeyTypes
) -> None:
    with pytest.raises(UnusableKeyError, match="key: expected"):
        check_trustworthy(key)
    with pytest.raises((X509SVIDError, BundleError, HandshakeRefusedError), match=r"key.*: expected .*, found"):
        come_in(key)


def test_what_the_library_knows_no_key_of_is_our_error() -> None:
    der = a_leaf(GOOD["P-256"]).public_bytes(Encoding.DER)
    p256, unknown = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f")
    with pytest.raises(UnusableKeyError, match="unknown or malformed public key"):
        certified_key(x509.load_der_x509_certificate(der.replace(p256, unknown)))


@pytest.mark.parametrize("name", ["P-192", "secp256k1", "RSA-1024", "RSA-2048 with exponent 3"])
def test_such_a_key_is_left_out_of_a_jwk_set(name: str) -> None:
    key = BAD[name]
    good = json.loads(Bundle(trust_domain=TRUST_DOMAIN, jwt_authorities={"a": an_rsa(2048)}).to_jwks())["keys"]
    if isinstance(key, rsa.RSAPublicKey):
        bad = {"kty": "RSA", "n": number(key.public_numbers().n), "e": number(key.public_numbers().e)}
    else:
        bad = {"kty": "EC", "crv": name, "x": "AQ", "y": "AQ"}
    document = json.dumps({"keys": [*good, {**bad, "use": "jwt-svid", "kid": "b"}]})
    assert set(Bundle.from_jwks(TRUST_DOMAIN, document.encode()).jwt_authorities) == {"a"}


def number(value: int) -> str:
    """Write an integer as a JWK does (RFC 7518 2)."""
    return jwt_utils.to_base64url_uint(value).decode()


# what signed a certificate, and how

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_BUNDLE = Bundle(trust_domain=TRUST_DOMAIN, x509_authorities=(an_authority(RSA_KEY.public_key()),))
PKCS1 = padding.PKCS1v15()
Hash = hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | hashes.SHA3_256


def pss(of: Hash, salt: int) -> padding.PSS:
    return padding.PSS(padding.MGF1(of), salt)


def signed_by_rsa(algorithm: Hash, scheme: padding.PKCS1v15 | padding.PSS) -> x509.Certificate:
    template = a_leaf(GOOD["P-256"])
    (issuer,) = RSA_BUNDLE.x509_authorities
    builder = x509.CertificateBuilder(
        issuer.subject,
        template.subject,
        template.public_key(),
        template.serial_number,
        template.not_valid_before_utc,
        template.not_valid_after_utc,
    )
    for one in template.extensions:
        if not isinstance(one.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(one.value, one.critical)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(RSA_KEY.public_key())
    return builder.add_extension(identifier, critical=False).sign(RSA_KEY, algorithm, rsa_padding=scheme)


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()], ids=lambda one: one.name)
def test_rsa_signatures_by_either_scheme_prove_a_leaf(algorithm: Hash) -> None:
    for scheme in (PKCS1, pss(algorithm, algorithm.digest_size)):
        assert verify([signed_by_rsa(algorithm, scheme)], RSA_BUNDLE, at=NOW) == SpiffeID.parse(COMPONENT)


@pytest.mark.parametrize(
    ("algorithm", "scheme"),
    [
        (hashes.SHA224(), PKCS1),
        (hashes.SHA3_256(), PKCS1),
        (hashes.SHA256(), pss(hashes.SHA256(), 0)),
        (hashes.SHA256(), pss(hashes.SHA256(), 20)),
        (hashes.SHA256(), pss(hashes.SHA256(), 64)),
        (hashes.SHA256(), pss(hashes.SHA384(), 32)),
        (hashes.SHA224(), pss(hashes.SHA224(), 28)),
    ],
)
def test_other_hashes_and_odd_parameters_of_pss_do_not(algorithm: Hash, scheme: padding.PKCS1v15 | padding.PSS) -> None:
    with pytest.raises(X509SVIDError, match="Forbidden signature algorithm"):
        verify([signed_by_rsa(algorithm, scheme)], RSA_BUNDLE, at=NOW)


SHA256_WITH_RSA, SHA1_WITH_RSA, MD5_WITH_RSA = (
    bytes.fromhex(f"06092a864886f70d0101{last}") for last in ("0b", "05", "04")
)


@pytest.mark.parametrize("weak", [SHA1_WITH_RSA, MD5_WITH_RSA], ids=["SHA-1", "MD5"])
def test_a_certificate_that_says_sha_1_or_md5_proves_nothing(weak: bytes) -> None:
    """The library makes no such signature any more; the algorithm is looked at before it."""
    der = signed_by_rsa(hashes.SHA256(), PKCS1).public_bytes(Encoding.DER)
    assert der.count(SHA256_WITH_RSA) == 2
    leaf = x509.load_der_x509_certificate(der.replace(SHA256_WITH_RSA, weak))
    with pytest.raises(X509SVIDError, match="Forbidden signature algorithm"):
        verify([leaf], RSA_BUNDLE, at=NOW)


# whose an intermediate is


@pytest.mark.clause("SV-01")
def test_an_authority_of_another_trust_domain_does_not_stand_between() -> None:
    foreign = make_authority("middle", trust_domain="example.com", issuer=ROOT)
    own = make_authority("middle", issuer=foreign)
    for chain in (
        [make_certificate(Draft(name="leaf"), foreign), foreign.certificate],
        [make_certificate(Draft(name="leaf"), own), own.certificate, foreign.certificate],
        [make_certificate(Draft(name="leaf"), ROOT), foreign.certificate],
    ):
        with pytest.raises(
            SVIDError, match=r"intermediate: expected trust domain example\.org, found example\.com"
        ) as e:
            verify(chain, BUNDLE, at=NOW)
        assert e.value.clause == "SPIFFE-ID 3"


def test_an_svid_of_ours_with_such_an_intermediate_is_none() -> None:
    foreign: Authority = make_authority("middle", trust_domain="example.com", issuer=ROOT)
    chain = certificates_to_der([make_certificate(Draft(name="leaf"), foreign), foreign.certificate])
    with pytest.raises(X509SVIDError, match="intermediate: expected trust domain"):
        X509SVID.parse(chain, private_key_to_der(make_key("leaf")))
