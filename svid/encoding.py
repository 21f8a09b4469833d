"""Reading what a stranger sent: DER certificates back to back, PEM, base64url, JSON. Bounded, strict, and no meaning given to any of it.

What the parts mean is decided by their nouns: bundle, x509svid, jwtsvid.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from svid.errors import SVIDError, X509SVIDError

__all__ = [
    "JSON",
    "MAX_CHAIN_LENGTH",
    "MAX_DOCUMENT_BYTES",
    "base64url_decode",
    "certificate_from_der",
    "certificates_from_der",
    "certificates_from_pem",
    "certificates_to_der",
    "certificates_to_pem",
    "json_object",
]

JSON: TypeAlias = str | int | float | bool | Sequence["JSON"] | Mapping[str, "JSON"] | None
"""What a JSON text holds."""

MAX_DOCUMENT_BYTES = 1 << 20
_MAX_CERTIFICATE_BYTES = 1 << 16
MAX_CHAIN_LENGTH = 10

_SEQUENCE = 0x30
_LONG_FORM = 0x80
_MAX_LENGTH_BYTES = 3


def certificates_from_der(
    der: bytes, *, limit: int = MAX_CHAIN_LENGTH, error: type[SVIDError] = X509SVIDError
) -> tuple[x509.Certificate, ...]:
    """Parse certificates; no bytes are no certificates.

    Shape: DER certificates back to back, nothing between them, nothing after.

    Raises:
        SVIDError: as `error` says; not DER, too many, or a certificate that is too long.

    Source: SPIFFE Workload API 5.1
    """
    certificates: list[x509.Certificate] = []
    start = 0
    while start < len(der):
        if len(certificates) == limit:
            raise error(f"certificates: expected at most {limit}, found more", clause="Workload API 5.1")
        end = start + _element_length(der, start, error)
        certificates.append(certificate_from_der(der[start:end], error=error))
        start = end
    return tuple(certificates)


def _element_length(der: bytes, start: int, error: type[SVIDError]) -> int:
    """Read how long the outermost DER element at `start` is, header included, and that it is all there."""
    tag, length = der[start], der[start + 1] if start + 1 < len(der) else 0
    if tag != _SEQUENCE:
        raise error(f"certificates: expected DER, found the byte {tag:#04x}", clause="Workload API 5.1")
    more = length - _LONG_FORM if length >= _LONG_FORM else 0
    if length == _LONG_FORM or more > _MAX_LENGTH_BYTES:
        raise error("certificates: expected DER with a sensible, definite length", clause="Workload API 5.1")
    header = 2 + more
    if more:
        length = int.from_bytes(der[start + 2 : start + header])
    if length > _MAX_CERTIFICATE_BYTES:
        raise error(f"certificate: expected at most {_MAX_CERTIFICATE_BYTES} bytes, found {length}")
    if start + header + length > len(der):
        raise error("certificates: expected whole certificates, found a truncated one", clause="Workload API 5.1")
    return header + length


def certificate_from_der(der: bytes, *, error: type[SVIDError] = X509SVIDError) -> x509.Certificate:
    """Parse one certificate.

    Raises:
        SVIDError: as `error` says; also for a version that X.509 does not know, for which `cryptography` raises no ValueError.
    """
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as e:
        raise error("certificate: expected an X.509 certificate of version 3", clause="Workload API 5.1") from e


def certificates_to_der(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write certificates as DER, back to back."""
    return b"".join(certificate.public_bytes(Encoding.DER) for certificate in certificates)


def certificates_from_pem(pem: bytes, *, limit: int, error: type[SVIDError]) -> tuple[x509.Certificate, ...]:
    """Parse the CERTIFICATE blocks of a PEM text: at least one.

    Raises:
        SVIDError: as `error` says; no block, a broken one, or too many.
    """
    if len(pem) > MAX_DOCUMENT_BYTES:
        raise error(f"PEM: expected at most {MAX_DOCUMENT_BYTES} bytes, found {len(pem)}")
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except (ValueError, x509.InvalidVersion) as e:
        raise error("PEM: expected at least 1 block CERTIFICATE, each whole") from e
    if len(certificates) > limit:
        raise error(f"certificates: expected at most {limit}, found {len(certificates)}")
    return tuple(certificates)


def certificates_to_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Write certificates as PEM blocks."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def base64url_decode(text: str) -> bytes:
    """Decode base64url without padding, in its one canonical form.

    Raises:
        ValueError: any other form.

    Source: RFC 7515 2
    """
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise ValueError("expected base64url without padding")
    return raw


def json_object(document: bytes) -> dict[str, JSON]:
    """Parse a JSON object.

    Raises:
        ValueError: not UTF-8, not JSON, not an object, nested too deeply, or a name that comes twice.

    Source: RFC 8259; names that come twice: RFC 7515 4, SPIFFE Trust Domain and Bundle 6.3
    """
    try:
        value: JSON = json.loads(document.decode(), object_pairs_hook=_unique_names, parse_constant=_refuse_constant)
    except RecursionError as e:
        raise ValueError("expected JSON of sensible depth") from e
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004 - one error for whoever parses
    return value


def _unique_names(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("expected names that come once")
    return names


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"expected JSON, found {name}")
