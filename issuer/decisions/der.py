"""Encode what we sign: tags and lengths, whole seconds, extensions; the library encodes the rest (ADR-0008).

certificate and crl use this; their tests compare both with the library's builders byte for byte.
"""

from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509

from svid.keys import KeyKind

__all__ = ["ALGORITHMS", "BIT_STRING", "INTEGER", "SEQUENCE", "extension", "integer", "signed", "time", "tlv"]

INTEGER, BIT_STRING, _OCTET_STRING, _UTC_TIME, _GENERALIZED_TIME = 0x02, 0x03, 0x04, 0x17, 0x18
SEQUENCE = 0x30
_SHORT, _LONG = 0x80, 0xFF
_FIRST_GENERALIZED_YEAR = 2050
_CRITICAL: Final = bytes.fromhex("0101ff")
ALGORITHMS: Final = {
    KeyKind.EC_P256: bytes.fromhex("300a06082a8648ce3d040302"),  # ecdsa-with-SHA256
    KeyKind.EC_P384: bytes.fromhex("300a06082a8648ce3d040303"),  # ecdsa-with-SHA384
    KeyKind.RSA_2048: bytes.fromhex("300d06092a864886f70d01010b0500"),  # sha256WithRSAEncryption
    KeyKind.RSA_4096: bytes.fromhex("300d06092a864886f70d01010b0500"),
}
"""The AlgorithmIdentifier of signatures by a key of that kind."""


def signed(to_be_signed: bytes, kind: KeyKind, signature: bytes) -> bytes:
    """The signed structure: the content and its signature by a key of that kind.

    Source: RFC 5280 4.1.1, 5.1.1
    """
    return tlv(SEQUENCE, to_be_signed, ALGORITHMS[kind], tlv(BIT_STRING, b"\0", signature))


def integer(value: int) -> bytes:
    """A non-negative number; its first bit is the sign."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def extension(value: x509.ExtensionType, *, critical: bool) -> bytes:
    """An extension of a certificate, of a list, or of an entry in a list."""
    content = tlv(_OCTET_STRING, value.public_bytes())
    return tlv(SEQUENCE, _oid(value.oid), _CRITICAL if critical else b"", content)


def _oid(oid: x509.ObjectIdentifier) -> bytes:
    """An object identifier below id-ce, 2.5.29, where all of ours are."""
    above, _, number = oid.dotted_string.rpartition(".")
    if above != "2.5.29":
        raise ValueError(f"extension: expected an OID below 2.5.29, found {oid.dotted_string}")
    return bytes((0x06, 0x03, 0x55, 0x1D, int(number)))


@lru_cache(maxsize=16)  # a batch has few
def time(moment: datetime) -> bytes:
    """A whole second, UTC.

    Source: RFC 5280 4.1.2.5
    """
    if moment.year < _FIRST_GENERALIZED_YEAR:
        return tlv(_UTC_TIME, f"{moment:%y%m%d%H%M%SZ}".encode())
    return tlv(_GENERALIZED_TIME, f"{moment:%Y%m%d%H%M%SZ}".encode())


def tlv(tag: int, *contents: bytes) -> bytes:
    """Tag, definite length in its shortest form, content.

    Source: X.690 10.1
    """
    content = b"".join(contents)
    size = len(content)
    if size < _SHORT:
        return bytes((tag, size)) + content
    if size <= _LONG:
        return bytes((tag, 0x81, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, _SHORT | len(length))) + length + content
