"""Certificate revocation lists: an X.509 authority's list of its certificates that were revoked before they expired.

Each authority has one full list, for verifiers that read CRLs; our own verifiers get each denial (svid/denials). issuer/decisions/crl
decides what a list contains. This module does not decide what to do about a listed certificate.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from svid.bundle import Bundle
from svid.encoding import UNREADABLE
from svid.errors import CRLError

__all__ = ["CRL", "MAX_CRL_BYTES", "crls_to_pem"]

MAX_CRL_BYTES = 8 << 20
"""The largest list that we read: about 160,000 certificates."""

_LEEWAY = timedelta(seconds=30)
_MAX_NUMBER_BITS = 160  # RFC 5280 5.2.3: 20 octets
_VERSION_2: Final = bytes.fromhex("020101")
_SHORT = 0x80
_CRITICAL: Final = bytes.fromhex("0101ff")


@dataclass(frozen=True, slots=True, kw_only=True)
class CRL:
    """A full list of one authority.

    Args:
        issuer: the subject of the authority.
        number: of two lists of the same authority, the one with the greater number is newer.
        authority_key_id: the subject key identifier of the authority's certificate.

    Source: RFC 5280 5
    """

    der: bytes = field(repr=False)
    issuer: x509.Name
    number: int
    authority_key_id: bytes
    this_update: datetime
    next_update: datetime
    _list: x509.CertificateRevocationList = field(repr=False, compare=False)

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """Parse a list, without checking its signature.

        Raises:
            CRLError: it is not a CRL of version 2; it has no number, no authority key identifier or no end; it is too long; or something
                in it changes its meaning: a scope, a base list, or a critical extension.

        Source: RFC 5280 5.1, 5.2
        """
        if len(der) > MAX_CRL_BYTES:
            raise CRLError(f"CRL: expected at most {MAX_CRL_BYTES} bytes, found {len(der)}")
        try:
            found = x509.load_der_x509_crl(der)
            issuer, extensions = found.issuer, list(found.extensions)
            this_update, next_update = found.last_update_utc, found.next_update_utc
            _check_entries(found, der)
        except (*UNREADABLE, UnsupportedAlgorithm) as e:
            raise CRLError("CRL: expected one in DER", clause="RFC 5280 5.1") from e
        if not _is_version_2(der):
            raise CRLError("version: expected 2, found 1", clause="RFC 5280 5.1.2.1")
        if next_update is None:
            raise CRLError("nextUpdate: missing", clause="RFC 5280 5.1.2.5")
        number, authority_key_id = _identity(extensions)
        return cls(
            der=der,
            issuer=issuer,
            number=number,
            authority_key_id=authority_key_id,
            this_update=this_update,
            next_update=next_update,
            _list=found,
        )

    def check(self, bundle: Bundle, *, at: datetime) -> x509.Certificate:
        """Check that an authority of the bundle signed the list, and that it is current at that moment; return the authority's certificate.

        Raises:
            CRLError: it is not from an authority of the bundle, not signed by it, from the future, or expired.

        Source: RFC 5280 6.3.3
        """
        authority = self.check_signature(bundle)
        if self.this_update > at + _LEEWAY:
            raise CRLError(
                f"thisUpdate: expected at most {at.isoformat()}, found {self.this_update.isoformat()}",
                clause="RFC 5280 5.1.2.4",
            )
        if self.next_update <= at:
            raise CRLError(
                f"nextUpdate: expected one after {at.isoformat()}, found {self.next_update.isoformat()}",
                clause="RFC 5280 5.1.2.5",
            )
        return authority

    def check_signature(self, bundle: Bundle) -> x509.Certificate:
        """Check that an authority of the bundle signed the list, whatever its dates; return the authority's certificate.

        Raises:
            CRLError: it is not from an authority of the bundle, or not signed by it.

        Source: RFC 5280 6.3.3
        """
        named = [authority for authority in bundle.x509_authorities if self.is_of(authority)]
        if not named:
            raise CRLError(
                f"issuer: expected an X.509 authority of {bundle.trust_domain}, found {self.issuer.rfc4514_string()!r}",
                clause="RFC 5280 6.3.3",
            )
        able = [authority for authority in named if _may_sign_lists(authority)]
        if not able:
            raise CRLError("authority: expected the key usage cRLSign, found none", clause="RFC 5280 6.3.3")
        for authority in able:
            if _is_signed_by(authority, self._list, self.der):
                return authority
        raise CRLError("signature: not the authority's", clause="RFC 5280 6.3.3")

    def is_of(self, authority: x509.Certificate) -> bool:
        """Whether it names that authority as its issuer; its signature is not checked."""
        try:
            return authority.subject == self.issuer and _key_id(authority) == self.authority_key_id
        except UNREADABLE:
            return False

    def is_newer_than(self, other: Self) -> bool:
        """Whether it replaces the other list.

        Raises:
            CRLError: the two lists are from different authorities.
        """
        if self.authority_key_id != other.authority_key_id:
            raise CRLError("CRL: the two lists are from different authorities")
        return self.number > other.number

    def __len__(self) -> int:
        return len(self._list)

    def numbers(self) -> Iterator[int]:
        """The serials of the revoked certificates.

        Every entry counts, whatever its reason: `removeFromCRL` has no meaning in a full list.
        """
        return (entry.serial_number for entry in self._list)

    def entries(self) -> Iterator[tuple[int, datetime, x509.ReasonFlags | None]]:
        """Each serial, when it was revoked, and the reason, if the list gives one.

        Raises:
            CRLError: an entry is malformed; entries are parsed one by one during the iteration, because there may be many thousands.
        """
        try:
            for entry in self._list:
                reasons = [one.value.reason for one in entry.extensions if isinstance(one.value, x509.CRLReason)]
                yield entry.serial_number, entry.revocation_date_utc, reasons[0] if reasons else None
        except UNREADABLE as e:
            raise CRLError("entry: malformed date or extension", clause="RFC 5280 5.3") from e


def crls_to_pem(ders: Iterable[bytes]) -> bytes:
    """Encode lists as PEM blocks, one after the other."""
    return b"".join(x509.load_der_x509_crl(der).public_bytes(Encoding.PEM) for der in ders)


def _identity(extensions: Iterable[x509.Extension[x509.ExtensionType]]) -> tuple[int, bytes]:
    """The list's number and its authority's key identifier; refuses every extension that changes the list's meaning."""
    number: int | None = None
    authority_key_id: bytes | None = None
    for extension in extensions:
        match extension.value:
            case x509.CRLNumber(crl_number=found):
                number = found
            case x509.AuthorityKeyIdentifier(key_identifier=identifier):
                authority_key_id = identifier
            case x509.IssuingDistributionPoint():
                raise CRLError("CRL: expected a full list, found one with a scope", clause="RFC 5280 5.2.5")
            case x509.DeltaCRLIndicator():
                raise CRLError("CRL: expected a full list, found a delta", clause="RFC 5280 5.2.4")
            case _ if extension.critical:
                raise CRLError(
                    f"extension: unknown critical extension {extension.oid.dotted_string}",
                    clause="RFC 5280 5.2",
                )
    if number is None:
        raise CRLError("CRL number: missing", clause="RFC 5280 5.2.3")
    if number < 0 or number.bit_length() > _MAX_NUMBER_BITS:
        raise CRLError(f"CRL number: expected 0 or more, of at most {_MAX_NUMBER_BITS} bits", clause="RFC 5280 5.2.3")
    if not authority_key_id:
        raise CRLError("authority key identifier: missing", clause="RFC 5280 5.2.1")
    return number, authority_key_id


def _check_entries(found: x509.CertificateRevocationList, der: bytes) -> None:
    """Refuse critical extensions of entries; the entries, perhaps 100,000, are only searched if the bytes can contain one."""
    if _CRITICAL in der and any(extension.critical for entry in found for extension in entry.extensions):
        raise CRLError("entry: critical extensions are not supported", clause="RFC 5280 5.3")


def _is_version_2(der: bytes) -> bool:
    """Whether the list has version 2: the library does not check it, and version 1 has no version field."""
    return der.startswith(_VERSION_2, _content(der, _content(der, 0)))


def _is_signed_by(authority: x509.Certificate, found: x509.CertificateRevocationList, der: bytes) -> bool:
    """Whether the authority's key signed the list. It uses the signed bytes as they are; the library would encode all of them again."""
    start = _content(der, 0)
    signed = der[start : _end(der, start)]
    try:
        kind, hashed = found.signature_algorithm_parameters, found.signature_hash_algorithm
        if not isinstance(hashed, hashes.SHA256 | hashes.SHA384 | hashes.SHA512):
            return False
        match authority.public_key(), kind:
            case ec.EllipticCurvePublicKey() as key, ec.ECDSA():
                key.verify(found.signature, signed, ec.ECDSA(hashed))
            case rsa.RSAPublicKey() as key, padding.PKCS1v15():
                key.verify(found.signature, signed, padding.PKCS1v15(), hashed)
            case _:
                return False
    except (InvalidSignature, UnsupportedAlgorithm, *UNREADABLE):
        return False
    return True


def _content(der: bytes, at: int) -> int:
    """The offset of the content of the element at `at`; the library has checked that the element is complete."""
    length = der[at + 1]
    return at + 2 + (length - _SHORT if length >= _SHORT else 0)


def _end(der: bytes, at: int) -> int:
    """The offset of the end of the element at `at`."""
    start = _content(der, at)
    return start + (int.from_bytes(der[at + 2 : start]) if start > at + 2 else der[at + 1])


def _key_id(certificate: x509.Certificate) -> bytes | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return None


def _may_sign_lists(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    except (x509.ExtensionNotFound, *UNREADABLE):
        return False
