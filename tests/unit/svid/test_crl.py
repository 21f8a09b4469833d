"""Which certificate revocation lists are read, and which one an authority vouches for."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID
from hypothesis import given
from hypothesis import strategies as st

from certs.ca import CA_USAGE, NOW, Draft, make_authority
from svid.bundle import Bundle
from svid.crl import CRL, MAX_CRL_BYTES, crls_to_pem
from svid.errors import CRLError
from svid.keys import KeyKind, generate_private_key
from svid.spiffeid import TrustDomain
from tests.doubles.crls import Listed, make_crl, make_namesake

AUTHORITY = make_authority("authority-1")
OTHER = make_authority("authority-2")
BUNDLE = Bundle(trust_domain=TrustDomain("example.org"), x509_authorities=(OTHER.certificate, AUTHORITY.certificate))
ECDSA_WITH_SHA256 = bytes.fromhex("2a8648ce3d040302")
VERSION = b"\2\1\1"
SECOND = timedelta(seconds=1)
serials = st.lists(st.integers(1, 2**159 - 1), max_size=20, unique=True).map(tuple)


@given(numbers=serials, number=st.integers(0, 2**152 - 1))
def test_a_list_says_what_was_put_into_it(numbers: tuple[int, ...], number: int) -> None:
    der = make_crl(AUTHORITY, Listed(number=number, serials=numbers))
    crl = CRL.from_der(der)
    assert (crl.der, crl.number, crl.this_update, crl.next_update) == (der, number, NOW, NOW + timedelta(days=7))
    assert set(crl.numbers()) == set(numbers)
    assert len(crl) == len(numbers)
    assert crl.check(BUNDLE, at=NOW) == AUTHORITY.certificate


def test_an_entry_says_when_and_why() -> None:
    reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
    crl = CRL.from_der(make_crl(AUTHORITY, Listed(serials=(7,), of_entries=((reason, False),))))
    assert list(crl.entries()) == [(7, NOW, x509.ReasonFlags.key_compromise)]
    assert list(CRL.from_der(make_crl(AUTHORITY, Listed(serials=(8,)))).entries()) == [(8, NOW, None)]


def _without(der: bytes, *parts: bytes) -> bytes:
    """Take these out of what was signed, and write the lengths around them anew; the signature does not fit any more."""
    signed = x509.load_der_x509_crl(der).tbs_certlist_bytes
    rest = der[der.index(signed) + len(signed) :]
    content = signed[signed.index(VERSION) :]
    for part in parts:
        content = content.replace(part, b"", 1)
    return _sequence(_sequence(content) + rest)


def _sequence(content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 0x80 else bytes([0x82]) + size.to_bytes(2) if size > 0xFF else bytes([0x81, size])
    return b"\x30" + length + content


UNREADABLE = {
    "version 1": (_without(make_crl(AUTHORITY), VERSION), "5.1.2.1"),
    "version 1, and long": (_without(make_crl(AUTHORITY, Listed(serials=tuple(range(1, 30)))), VERSION), "5.1.2.1"),
    "no end": (_without(make_crl(AUTHORITY), b"\x17\x0d260608120000Z"), "5.1.2.5"),
    "a later version": (make_crl(AUTHORITY).replace(VERSION, b"\2\1\2", 1), "5.1"),
    "no number": (make_crl(AUTHORITY, Listed(number=None)), "5.2.3"),
    "a number below zero": (
        make_crl(
            AUTHORITY,
            Listed(number=None, others=(x509.UnrecognizedExtension(ExtensionOID.CRL_NUMBER, bytes.fromhex("0201ff")),)),
        ),
        "5.1",
    ),
    "two numbers": (
        make_crl(AUTHORITY, Listed(others=(x509.IssuerAlternativeName([x509.DNSName("a")]),))).replace(
            bytes.fromhex("0603551d12"),
            bytes.fromhex("0603551d14"),  # its kind, written over with that of the number
        ),
        "5.1",
    ),
    "no authority key identifier": (make_crl(AUTHORITY, Listed(has_key_id=False)), "5.2.1"),
    "a delta": (make_crl(AUTHORITY, Listed(others=(x509.DeltaCRLIndicator(1),), others_critical=True)), "5.2.4"),
    "a delta that hides": (make_crl(AUTHORITY, Listed(others=(x509.DeltaCRLIndicator(1),))), "5.2.4"),
    "an unknown critical extension": (
        make_crl(
            AUTHORITY,
            Listed(
                others=(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"),), others_critical=True
            ),
        ),
        "5.2",
    ),
    "a scope": (
        make_crl(
            AUTHORITY,
            Listed(
                others=(
                    x509.IssuingDistributionPoint(
                        full_name=None,
                        relative_name=None,
                        only_contains_user_certs=True,
                        only_contains_ca_certs=False,
                        only_some_reasons=None,
                        indirect_crl=False,
                        only_contains_attribute_certs=False,
                    ),
                ),
                others_critical=True,
            ),
        ),
        "5.2.5",
    ),
    "a certificate of another issuer": (
        make_crl(
            AUTHORITY,
            Listed(
                serials=(1,),
                of_entries=((x509.CertificateIssuer([x509.DNSName("elsewhere.example.org")]), True),),
            ),
        ),
        "5.3",
    ),
    "a name of a kind that nobody reads": (
        make_crl(
            AUTHORITY,
            Listed(
                others=(
                    x509.UnrecognizedExtension(
                        ExtensionOID.ISSUER_ALTERNATIVE_NAME,
                        bytes.fromhex("3003a30161"),  # an x400Address
                    ),
                )
            ),
        ),
        "5.1",
    ),
    "a certificate": (AUTHORITY.certificate.public_bytes(Encoding.DER), "5.1"),
    "nothing": (b"", "5.1"),
    "bytes after it": (make_crl(AUTHORITY) + b"\0", "5.1"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_list_that_means_anything_else_is_refused(name: str) -> None:
    der, clause = UNREADABLE[name]
    with pytest.raises(CRLError) as refused:
        CRL.from_der(der)
    assert refused.value.clause == f"RFC 5280 {clause}"


def test_critical_bytes_in_a_serial_are_no_critical_extension() -> None:
    numbers = (0x0101FF, 2)
    assert set(CRL.from_der(make_crl(AUTHORITY, Listed(serials=numbers))).numbers()) == set(numbers)


def test_a_list_is_bounded() -> None:
    with pytest.raises(CRLError, match=f"at most {MAX_CRL_BYTES}"):
        CRL.from_der(b"\x30" * (MAX_CRL_BYTES + 1))


@pytest.mark.filterwarnings("ignore:Attribute's length")  # the library's word for a country of 23 letters
def test_a_bent_list_is_refused_or_says_what_it_said() -> None:
    der = make_crl(AUTHORITY, Listed(serials=(5, 6)))
    whole = CRL.from_der(der)
    for at in range(len(der)):
        for bit in range(8):
            bent = bytearray(der)
            bent[at] ^= 1 << bit
            try:
                crl = CRL.from_der(bytes(bent))
                crl.check(BUNDLE, at=NOW)
            except CRLError:
                continue
            assert (crl.number, *crl.entries()) == (whole.number, *whole.entries())  # beside what is signed


@pytest.mark.parametrize(
    ("at", "fault"),
    [
        (NOW - timedelta(seconds=31), "thisUpdate"),
        (NOW - timedelta(seconds=30), None),
        (NOW + timedelta(days=7) - SECOND, None),
        (NOW + timedelta(days=7), "nextUpdate"),
    ],
)
def test_a_list_holds_from_its_beginning_to_its_end(at: datetime, fault: str | None) -> None:
    crl = CRL.from_der(make_crl(AUTHORITY))
    if fault is None:
        assert crl.check(BUNDLE, at=at) == AUTHORITY.certificate
    else:
        with pytest.raises(CRLError, match=fault):
            crl.check(BUNDLE, at=at)


def test_a_list_of_an_authority_that_is_not_in_the_bundle_is_refused() -> None:
    crl = CRL.from_der(make_crl(AUTHORITY))
    with pytest.raises(CRLError, match="issuer"):
        crl.check(replace(BUNDLE, x509_authorities=(OTHER.certificate,)), at=NOW)


def test_a_list_that_only_has_an_authoritys_name_is_refused() -> None:
    namesake = make_authority(replace(_draft("authority-1"), name="namesake"))
    assert namesake.certificate.subject == AUTHORITY.certificate.subject
    with pytest.raises(CRLError, match="issuer"):
        CRL.from_der(make_crl(namesake)).check(BUNDLE, at=NOW)


def test_a_list_that_another_key_signed_is_refused() -> None:
    with pytest.raises(CRLError, match="signature"):
        CRL.from_der(make_crl(AUTHORITY, signer=OTHER)).check(BUNDLE, at=NOW)


def test_of_two_authorities_of_one_name_and_key_id_the_one_that_signed_vouches() -> None:
    namesake = make_namesake(AUTHORITY.certificate, "example.org").certificate
    both = replace(BUNDLE, x509_authorities=(namesake, AUTHORITY.certificate))
    assert CRL.from_der(make_crl(AUTHORITY)).check(both, at=NOW) == AUTHORITY.certificate


def test_a_signature_over_a_weak_hash_is_refused() -> None:
    with pytest.raises(CRLError, match="signature"):
        CRL.from_der(make_crl(AUTHORITY, Listed(hash=hashes.SHA224))).check(BUNDLE, at=NOW)


def test_a_signature_of_an_unknown_kind_is_refused() -> None:
    der = make_crl(AUTHORITY).replace(ECDSA_WITH_SHA256, ECDSA_WITH_SHA256[:-1] + b"\x7f")
    with pytest.raises(CRLError, match="signature"):
        CRL.from_der(der).check(BUNDLE, at=NOW)


def test_an_authority_without_a_key_identifier_vouches_for_none() -> None:
    name, key = AUTHORITY.certificate.subject, AUTHORITY.key
    unnamed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + SECOND)
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(CRLError, match="issuer"):
        CRL.from_der(make_crl(AUTHORITY)).check(replace(BUNDLE, x509_authorities=(unnamed,)), at=NOW)


def test_the_two_places_that_name_the_algorithm_must_name_one() -> None:
    der = make_crl(AUTHORITY)
    with pytest.raises(CRLError):
        CRL.from_der(der.replace(ECDSA_WITH_SHA256, ECDSA_WITH_SHA256[:-1] + b"\3", 1)).check(BUNDLE, at=NOW)


@pytest.mark.parametrize("scheme", [padding.PKCS1v15(), padding.PSS(padding.MGF1(hashes.SHA256()), 32)])
def test_an_authority_with_an_rsa_key_signs_in_the_one_way_that_we_use(
    scheme: padding.PKCS1v15 | padding.PSS,
) -> None:
    key = generate_private_key(KeyKind.RSA_2048)
    assert isinstance(key, rsa.RSAPrivateKey)
    name, key_id = AUTHORITY.certificate.subject, x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = AUTHORITY.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + SECOND)
        .add_extension(key_id, critical=False)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    der = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name)
        .last_update(NOW)
        .next_update(NOW + SECOND)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(key_id.digest, None, None), critical=False)
        .sign(key, hashes.SHA256(), rsa_padding=scheme)
        .public_bytes(Encoding.DER)
    )
    bundle, crl = replace(BUNDLE, x509_authorities=(certificate,)), CRL.from_der(der)
    if isinstance(scheme, padding.PKCS1v15):
        assert crl.check(bundle, at=NOW) == certificate
    else:
        with pytest.raises(CRLError, match="signature"):
            crl.check(bundle, at=NOW)


def test_an_authority_with_another_curve_signs_with_its_own_hash() -> None:
    authority = make_authority(replace(_draft("authority-384"), curve=ec.SECP384R1()))
    bundle = replace(BUNDLE, x509_authorities=(authority.certificate,))
    crl = CRL.from_der(make_crl(authority, Listed(hash=hashes.SHA384)))
    assert crl.check(bundle, at=NOW) == authority.certificate


@pytest.mark.parametrize("usage", [None, CA_USAGE - {"crl_sign"}])
def test_an_authority_that_may_not_sign_lists_vouches_for_none(usage: frozenset[str] | None) -> None:
    authority = make_authority(replace(_draft("authority-x"), usage=usage))
    bundle = replace(BUNDLE, x509_authorities=(authority.certificate,))
    with pytest.raises(CRLError, match="cRLSign"):
        CRL.from_der(make_crl(authority)).check(bundle, at=NOW)


def test_the_greater_number_is_newer_whatever_the_times_say() -> None:
    first = CRL.from_der(make_crl(AUTHORITY, Listed(number=255)))
    second = CRL.from_der(make_crl(AUTHORITY, Listed(number=256, this_update=NOW - SECOND)))
    assert second.is_newer_than(first)
    assert not first.is_newer_than(second)
    assert not first.is_newer_than(first)


def test_lists_of_different_authorities_are_not_compared() -> None:
    with pytest.raises(CRLError, match="different authorities"):
        CRL.from_der(make_crl(AUTHORITY)).is_newer_than(CRL.from_der(make_crl(OTHER)))


def test_lists_are_written_as_pem_one_after_the_other() -> None:
    ders = [make_crl(AUTHORITY), make_crl(OTHER)]
    pem = crls_to_pem(ders)
    blocks = [block + b"-----END X509 CRL-----\n" for block in pem.split(b"-----END X509 CRL-----\n")[:-1]]
    assert [x509.load_pem_x509_crl(block).public_bytes(Encoding.DER) for block in blocks] == ders
    assert crls_to_pem([]) == b""


def _draft(name: str) -> Draft:
    return Draft(
        name=name,
        uris=("spiffe://example.org",),
        subject=f"example.org {name}",
        san_critical=False,
        ca=True,
        usage=CA_USAGE,
        extended_usage=None,
        not_before=NOW - timedelta(days=7),
        not_after=NOW + timedelta(days=7),
    )
