"""Encode an X509-SVID: the DER of a draft by one authority, before and after signing.

The library's builder makes the same bytes at several times the cost (ADR-0008); a test compares them.
profile decides what a draft says; lint checks that what was signed is what was drafted.
"""

import hashlib
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from issuer.decisions import der
from issuer.decisions.profile import X509Draft, common_name
from svid.keys import KeyKind, public_key_from_der

__all__ = ["LeafForm"]

_VERSION, _EXTENSIONS = 0xA0, 0xA3
_EC_POINT_FROM: Final = {91: 26, 120: 23}
"""Where the point begins in a SubjectPublicKeyInfo of that length: P-256 and P-384. No other kind is that short."""

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
    """The form of X509-SVIDs by one authority: what they share is encoded once, and what a draft says is filled in.

    Args:
        kind: the kind of the authority's key, which determines the signature algorithm.
        authority_ski: the subject key identifier of the authority's certificate.
    """

    def __init__(self, kind: KeyKind, *, issuer: x509.Name, authority_ski: bytes) -> None:
        self._kind = kind
        self._version = der.tlv(_VERSION, der.integer(2))
        self._signed_by = der.ALGORITHMS[kind] + issuer.public_bytes()
        authority = x509.AuthorityKeyIdentifier(authority_ski, None, None)
        self._extensions = b"".join(
            (
                der.extension(x509.BasicConstraints(ca=False, path_length=None), critical=True),
                der.extension(_LEAF_USAGE, critical=True),
                der.extension(_TLS_USAGES, critical=False),
                der.extension(authority, critical=False),
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
            der.extension(x509.SubjectAlternativeName(names), critical=not name),  # RFC 5280 4.2.1.6
            der.extension(_key_identifier(draft.public_key), critical=False),
        )
        return der.tlv(
            der.SEQUENCE,
            self._version,
            der.integer(draft.serial),
            self._signed_by,
            der.tlv(der.SEQUENCE, der.time(draft.not_before), der.time(draft.not_after)),
            _subject(name),
            draft.public_key,
            der.tlv(_EXTENSIONS, der.tlv(der.SEQUENCE, *extensions)),
        )

    def signed(self, to_be_signed: bytes, signature: bytes) -> bytes:
        """Write the certificate."""
        return der.signed(to_be_signed, self._kind, signature)


@lru_cache(maxsize=1024)
def _subject(name: str) -> bytes:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []).public_bytes()


def _key_identifier(key: bytes) -> x509.SubjectKeyIdentifier:
    """The hash of the bits of the key alone.

    Source: RFC 5280 4.2.1.2, method 1
    """
    start = _EC_POINT_FROM.get(len(key))
    if start is None:
        return x509.SubjectKeyIdentifier.from_public_key(public_key_from_der(key))
    return x509.SubjectKeyIdentifier(hashlib.sha1(key[start:], usedforsecurity=False).digest())
