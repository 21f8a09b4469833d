"""Certificates and revocation lists of somebody else: what parses or verifies them gives a value or our error, nothing else."""

import base64
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from certs.ca import NOW, Draft, make_authority, make_leaf
from svid.bundle import Bundle
from svid.crl import CRL
from svid.encoding import certificate_from_der, certificates_from_pem
from svid.errors import BundleError, CRLError, SVIDError, X509SVIDError
from svid.keys import private_key_to_der
from svid.spiffeid import TrustDomain
from svid.x509svid import X509SVID, check_leaf, check_signing, verify
from tests.doubles.crls import Listed, make_crl

TRUST_DOMAIN = TrustDomain("example.org")
ROOT = make_authority("authority-1")
MIDDLE = make_authority("middle", issuer=ROOT)
LEAF, KEY = make_leaf(Draft(name="leaf"), MIDDLE)
BUNDLE = Bundle(trust_domain=TRUST_DOMAIN, x509_authorities=(ROOT.certificate,))
quiet = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")  # it parses, and warns


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def element(tag: int, content: bytes) -> bytes:
    """Write a DER element."""
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2)
    return bytes([tag]) + length + content


def parts_of(der: bytes) -> list[bytes]:
    """Split DER elements that stand in a row."""
    parts = []
    while der:
        more = der[1] - 0x80 if der[1] >= 0x80 else 0
        size = int.from_bytes(der[2 : 2 + more]) if more else der[1]
        parts.append(der[: 2 + more + size])
        der = der[2 + more + size :]
    return parts


def content_of(der: bytes) -> bytes:
    return der[2 + (der[1] - 0x80 if der[1] >= 0x80 else 0) :]


VERSION, SERIAL, SIGNATURE, ISSUER, VALIDITY = range(5)


def edited(der: bytes, at: int, by: bytes) -> bytes:
    """A certificate with another element in the place of that one; nobody has signed it."""
    signed, *rest = parts_of(content_of(der))
    parts = parts_of(content_of(signed))
    parts[at] = by
    return element(0x30, b"".join((element(0x30, b"".join(parts)), *rest)))


def dated(der: bytes, not_before: bytes, not_after: bytes) -> bytes:
    return edited(der, VALIDITY, element(0x30, element(0x18, not_before) + element(0x18, not_after)))


@pytest.mark.parametrize("dates", [(b"00000101000000Z", b"20500101000000Z"), (b"20200101000000Z", b"00001231235959Z")])
def test_a_certificate_of_the_year_0_is_our_error(dates: tuple[bytes, bytes]) -> None:
    der = dated(der_of(LEAF), *dates)
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
    with pytest.raises(X509SVIDError, match=r"expected an X\.509 certificate"):
        certificate_from_der(der)
    with pytest.raises(X509SVIDError, match="PEM: expected"):
        certificates_from_pem(pem, limit=1, error=X509SVIDError)
    with pytest.raises(BundleError):
        Bundle.from_der(TRUST_DOMAIN, der)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (b"00010101000000Z", b"99991231235959Z"),
        (b"99991231235959Z", b"00010101000000Z"),
        (b"19490101000000Z", b"20491231235959Z"),
        (b"20500101000000Z", b"20500101000000Z"),
    ],
)
def test_dates_at_the_ends_of_the_calendar_are_a_value_or_our_error(first: bytes, last: bytes) -> None:
    leaf, root = (certificate_from_der(dated(der_of(one), first, last)) for one in (LEAF, ROOT.certificate))
    bundle = replace(BUNDLE, x509_authorities=(root,))
    for at in (datetime.min.replace(tzinfo=UTC), NOW, datetime.max.replace(tzinfo=UTC)):
        with pytest.raises(X509SVIDError):
            verify([leaf, MIDDLE.certificate], bundle, at=at)


@quiet
@pytest.mark.parametrize("size", [21, 22, 100, 3000])
@pytest.mark.parametrize("first", [b"\x01", b"\x7f", b"\x80"], ids=["least", "greatest", "negative"])
def test_a_serial_number_of_more_than_20_octets_or_below_1_is_our_error(size: int, first: bytes) -> None:
    number = element(0x02, first + b"\x11" * (size - 1))
    leaf = certificate_from_der(edited(der_of(LEAF), SERIAL, number))
    authority = certificate_from_der(edited(der_of(ROOT.certificate), SERIAL, number))
    for check in (
        lambda: check_leaf(leaf),
        lambda: check_signing(authority, TRUST_DOMAIN),
        lambda: verify([leaf, MIDDLE.certificate], BUNDLE, at=NOW),
        lambda: verify([LEAF, authority], BUNDLE, at=NOW),
    ):
        with pytest.raises(X509SVIDError, match="serial number: expected a positive number of at most 160 bits"):
            check()


def test_a_serial_number_of_20_octets_is_one() -> None:
    number = element(0x02, b"\x7f" + b"\x11" * 19)
    assert check_leaf(certificate_from_der(edited(der_of(LEAF), SERIAL, number))).path


@pytest.mark.parametrize("bits", [160, 20_000])
def test_the_number_of_a_list_has_20_octets_at_most(bits: int) -> None:
    with pytest.raises(CRLError, match="CRL number: expected 0 or more, of at most 160 bits"):
        CRL.from_der(make_crl(ROOT, Listed(number=1 << bits)))


def test_an_entry_with_an_impossible_date_is_our_error() -> None:
    der = make_crl(
        ROOT,
        Listed(
            serials=(1,), this_update=datetime(2050, 1, 1, tzinfo=UTC), next_update=datetime(2051, 1, 1, tzinfo=UTC)
        ),
    )
    assert der.count(b"20500101000000Z") == 2
    head, tail = der.rsplit(b"20500101000000Z", 1)
    crl = CRL.from_der(head + b"00000101000000Z" + tail)
    assert list(crl.numbers()) == [1]
    with pytest.raises(CRLError, match="entry: malformed date or extension"):
        list(crl.entries())


UNREADABLE = {
    "an extension twice": (bytes.fromhex("0603551d13"), bytes.fromhex("0603551d23")),
    "names that are none": (bytes.fromhex("0603551d13"), bytes.fromhex("0603551d11")),
    "no key usage": (bytes.fromhex("0603551d0f"), bytes.fromhex("0603551d7f")),
    "a subject that is no text": (b"authority-1", b"authority-\xff"),
}


@pytest.mark.parametrize(("was", "now"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_authority_that_nobody_can_read_vouches_for_no_list_and_keeps_no_other_from_it(
    was: bytes, now: bytes
) -> None:
    odd = certificate_from_der(der_of(ROOT.certificate).replace(was, now))
    crl = CRL.from_der(CRL_DER)
    with pytest.raises(CRLError):
        crl.check(replace(BUNDLE, x509_authorities=(odd,)), at=NOW)
    assert crl.check(replace(BUNDLE, x509_authorities=(odd, ROOT.certificate)), at=NOW) == ROOT.certificate


CRL_DER = make_crl(ROOT, Listed(serials=(1, 2**127)))


def check_chain(leaf: bytes, middle: bytes, root: bytes) -> None:
    chain = [certificate_from_der(leaf), certificate_from_der(middle)]
    with suppress(SVIDError):
        check_leaf(chain[0])
    with suppress(SVIDError):
        check_signing(chain[1], TRUST_DOMAIN)
    with suppress(SVIDError):
        X509SVID.parse(leaf + middle, private_key_to_der(KEY))
    bundle = Bundle.from_der(TRUST_DOMAIN, root)
    with suppress(SVIDError):
        verify(chain, bundle, at=NOW)
    CRL.from_der(CRL_DER).check(bundle, at=NOW)


def change_leaf(change: Callable[[bytes], bytes]) -> None:
    check_chain(change(der_of(LEAF)), der_of(MIDDLE.certificate), der_of(ROOT.certificate))


def change_middle(change: Callable[[bytes], bytes]) -> None:
    check_chain(der_of(LEAF), change(der_of(MIDDLE.certificate)), der_of(ROOT.certificate))


def change_root(change: Callable[[bytes], bytes]) -> None:
    check_chain(der_of(LEAF), der_of(MIDDLE.certificate), change(der_of(ROOT.certificate)))


def change_list(change: Callable[[bytes], bytes]) -> None:
    crl = CRL.from_der(change(CRL_DER))
    with suppress(SVIDError):
        crl.check(BUNDLE, at=NOW)
    list(crl.numbers())
    list(crl.entries())


@quiet
@pytest.mark.parametrize("use", [change_leaf, change_middle, change_root, change_list])
def test_any_one_byte_changed_is_a_value_or_our_error(use: Callable[[Callable[[bytes], bytes]], None]) -> None:
    """Each byte there is, by each of a few values that mean something in DER."""
    for place in range(max(map(len, (der_of(LEAF), der_of(MIDDLE.certificate), der_of(ROOT.certificate), CRL_DER)))):
        for value in (0x00, 0x03, 0x80):

            def change(der: bytes, place: int = place, value: int = value) -> bytes:
                return der[:place] + bytes([value]) + der[place + 1 :]

            with suppress(SVIDError):
                use(change)


@quiet
@pytest.mark.parametrize("use", [change_leaf, change_middle, change_root, change_list])
@given(data=st.data())
def test_any_few_bytes_changed_are_a_value_or_our_error(
    use: Callable[[Callable[[bytes], bytes]], None], data: st.DataObject
) -> None:
    def change(der: bytes) -> bytes:
        changed = bytearray(der)
        for place, value in data.draw(
            st.dictionaries(st.integers(0, len(der) - 1), st.integers(0, 255), max_size=4)
        ).items():
            changed[place] = value
        return bytes(changed)

    with suppress(SVIDError):
        use(change)
