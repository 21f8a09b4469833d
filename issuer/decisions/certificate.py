"""How an X509-SVID is written: the DER of a draft by one authority, to be signed, and with its signature.

The library's builder makes the same bytes at several times the cost (ADR-0008); that they are the same is a test.
What a draft says is decided in profile; whether what was signed is what was drafted, in lint.
"""

import hashlib
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from issuer.decisions.profile import X509Draft, common_name
from svid.keys import KeyKind, public_key_from_der

__all__ = ["LeafForm"]

_INTEGER, _BIT_STRING, _OCTET_STRING, _UTC_TIME, _GENERALIZED_TIME = 0x02, 0x03, 0x04, 0x17, 0x18
_SEQUENCE, _VERSION, _EXTENSIONS = 0x30, 0xA0, 0xA3
_SHORT, _LONG = 0x80, 0xFF
_FIRST_GENERALIZED_YEAR = 2050
_CRITICAL: Final = bytes.fromhex("0101ff")
_ALGORITHMS: Final = {
    KeyKind.EC_P256: bytes.fromhex("300a06082a8648ce3d040302"),  # ecdsa-with-SHA256
    KeyKind.EC_P384: bytes.fromhex("300a06082a8648ce3d040303"),  # ecdsa-with-SHA384
    KeyKind.RSA_2048: bytes.fromhex("300d06092a864886f70d01010b0500"),  # sha256WithRSAEncryption
    KeyKind.RSA_4096: bytes.fromhex("300d06092a864886f70d01010b0500"),
}
_EC_POINT_FROM: Final = {91: 26, 120: 23}
"""Where the point begins in a SubjectPublicKeyInfo of that length: of P-256, of P-384. No other kind is that short."""

_LEAF_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_TLS_USAGES = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


class LeafForm:
    """X509-SVIDs by one authority: what they share is written once, what a draft says is filled in.

    Args:
        kind: of the authority's key, which names the signature's algorithm.
        authority_ski: the subject key identifier of the authority's certificate.
    """

    def __init__(self, kind: KeyKind, *, issuer: x509.Name, authority_ski: bytes) -> None:
        self._algorithm = _ALGORITHMS[kind]
        self._version = _tlv(_VERSION, _tlv(_INTEGER, b"\x02"))
        self._signed_by = self._algorithm + issuer.public_bytes()
        authority = x509.AuthorityKeyIdentifier(authority_ski, None, None)
        self._extensions = b"".join(
            (
                _extension(x509.BasicConstraints(ca=False, path_length=None), critical=True),
                _extension(_LEAF_USAGE, critical=True),
                _extension(_TLS_USAGES, critical=False),
                _extension(authority, critical=False),
            )
        )

    def to_be_signed(self, draft: X509Draft) -> bytes:
        """Write the TBSCertificate.

        Source: SPIFFE X509-SVID 2, 3.1, 4; RFC 5280 4.1, 4.2.1
        """
        name = common_name(draft)
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(draft.spiffe_id))]
        names += map(x509.DNSName, draft.dns_names)
        extensions = (
            self._extensions,
            _extension(x509.SubjectAlternativeName(names), critical=not name),  # RFC 5280 4.2.1.6
            _extension(_key_identifier(draft.public_key), critical=False),
        )
        return _tlv(
            _SEQUENCE,
            self._version,
            _tlv(_INTEGER, draft.serial.to_bytes(draft.serial.bit_length() // 8 + 1)),  # its first bit is the sign
            self._signed_by,
            _tlv(_SEQUENCE, _time(draft.not_before), _time(draft.not_after)),
            _subject(name),
            draft.public_key,
            _tlv(_EXTENSIONS, _tlv(_SEQUENCE, *extensions)),
        )

    def signed(self, to_be_signed: bytes, signature: bytes) -> bytes:
        """Write the certificate."""
        return _tlv(_SEQUENCE, to_be_signed, self._algorithm, _tlv(_BIT_STRING, b"\0", signature))


@lru_cache(maxsize=1024)
def _subject(name: str) -> bytes:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []).public_bytes()


def _key_identifier(key: bytes) -> x509.SubjectKeyIdentifier:
    """The hash of the key's own bits.

    Source: RFC 5280 4.2.1.2, method 1
    """
    start = _EC_POINT_FROM.get(len(key))
    if start is None:
        return x509.SubjectKeyIdentifier.from_public_key(public_key_from_der(key))
    return x509.SubjectKeyIdentifier(hashlib.sha1(key[start:], usedforsecurity=False).digest())


def _extension(value: x509.ExtensionType, *, critical: bool) -> bytes:
    content = _tlv(_OCTET_STRING, value.public_bytes())
    return _tlv(_SEQUENCE, _oid(value.oid), _CRITICAL if critical else b"", content)


def _oid(oid: x509.ObjectIdentifier) -> bytes:
    """An identifier below id-ce, 2.5.29, where all of ours are."""
    above, _, number = oid.dotted_string.rpartition(".")
    if above != "2.5.29":
        raise ValueError(f"extension: expected one below 2.5.29, found {oid.dotted_string}")
    return bytes((0x06, 0x03, 0x55, 0x1D, int(number)))


@lru_cache(maxsize=16)  # a batch has few
def _time(moment: datetime) -> bytes:
    """A whole second, UTC.

    Source: RFC 5280 4.1.2.5
    """
    if moment.year < _FIRST_GENERALIZED_YEAR:
        return _tlv(_UTC_TIME, f"{moment:%y%m%d%H%M%SZ}".encode())
    return _tlv(_GENERALIZED_TIME, f"{moment:%Y%m%d%H%M%SZ}".encode())


def _tlv(tag: int, *contents: bytes) -> bytes:
    """Tag, definite length in its shortest form, content.

    Source: X.690 10.1
    """
    content = b"".join(contents)
    size = len(content)
    if size < _SHORT:
        return bytes((tag, size)) + content
    if size <= _LONG:
        return bytes((tag, 0x81, size)) + content
    return bytes((tag, 0x82)) + size.to_bytes(2) + content
