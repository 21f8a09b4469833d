"""Parsers for untrusted input: DER certificates back to back, PEM, base64url, JSON. They are bounded and strict, and interpret nothing.

The modules bundle, x509svid and jwtsvid decide what the parts mean.
"""

import base64
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NoReturn, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from svid.errors import SVIDError, X509SVIDError

__all__ = [
    "JSON",
    "MAX_CHAIN_LENGTH",
    "MAX_DOCUMENT_BYTES",
    "MAX_JSON_DEPTH",
    "UNREADABLE",
    "base64url_decode",
    "certificate_from_der",
    "certificates_from_der",
    "certificates_from_pem",
    "certificates_to_der",
    "certificates_to_pem",
    "json_object",
    "json_value",
]

JSON: TypeAlias = str | int | float | bool | Sequence["JSON"] | Mapping[str, "JSON"] | None
"""A JSON value."""

MAX_DOCUMENT_BYTES = 1 << 20
_MAX_CERTIFICATE_BYTES = 1 << 16
MAX_CHAIN_LENGTH = 10
MAX_JSON_DEPTH = 32
"""How deep arrays and objects may be nested; a protobuf Struct must be able to carry them, and its readers stop at a hundred messages."""

UNREADABLE: Final = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library raises for a malformed part of a certificate or CRL, which it finds only when we ask for that part.

TypeError: a bit string in place of a name's text.
"""

_MOST_SHOWN = 64  # characters of a name, in a message
_SEQUENCE = 0x30
_LONG_FORM = 0x80
_MAX_LENGTH_BYTES = 3


def certificates_from_der(
    der: bytes, *, limit: int = MAX_CHAIN_LENGTH, error: type[SVIDError] = X509SVIDError
) -> tuple[x509.Certificate, ...]:
    """Parse certificates; empty input gives an empty tuple.

    Shape: DER certificates back to back, with nothing between or after them.

    Raises:
        SVIDError: of the class `error`; not DER, too many certificates, or one that is too long.

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
    """Return the length of the outermost DER element at `start`, header included, and check that it is complete."""
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
        SVIDError: of the class `error`; also for an unknown X.509 version, for which `cryptography` does not raise ValueError, and for the
            year 0, which it notices only later.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        _read_dates(certificate)
    except UNREADABLE as e:
        raise error("certificate: expected an X.509 certificate of version 3", clause="Workload API 5.1") from e
    return certificate


def _read_dates(*certificates: x509.Certificate) -> None:
    for certificate in certificates:
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc


def certificates_to_der(certificates: Iterable[x509.Certificate]) -> bytes:
    """Encode certificates as DER, back to back."""
    return b"".join(certificate.public_bytes(Encoding.DER) for certificate in certificates)


def certificates_from_pem(pem: bytes, *, limit: int, error: type[SVIDError]) -> tuple[x509.Certificate, ...]:
    """Parse the CERTIFICATE blocks of a PEM text, of which there must be at least one.

    Raises:
        SVIDError: of the class `error`; no block, a broken block, or too many.
    """
    if len(pem) > MAX_DOCUMENT_BYTES:
        raise error(f"PEM: expected at most {MAX_DOCUMENT_BYTES} bytes, found {len(pem)}")
    try:
        certificates = x509.load_pem_x509_certificates(pem)
        _read_dates(*certificates)
    except UNREADABLE as e:
        raise error("PEM: expected at least 1 CERTIFICATE block, and no broken ones") from e
    if len(certificates) > limit:
        raise error(f"certificates: expected at most {limit}, found {len(certificates)}")
    return tuple(certificates)


def certificates_to_pem(certificates: Iterable[x509.Certificate]) -> bytes:
    """Encode certificates as PEM blocks."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def base64url_decode(text: str) -> bytes:
    """Decode base64url without padding, in its only canonical form.

    Raises:
        ValueError: any other form.

    Source: RFC 7515 2
    """
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise ValueError("expected base64url without padding")
    return raw


def json_object(document: bytes) -> dict[str, JSON]:
    """Parse a JSON object that can be passed on in full, as JSON, as UTF-8, or as a protobuf Struct.

    Raises:
        ValueError: not UTF-8, not JSON, not an object, nested deeper than MAX_JSON_DEPTH, a duplicate name, a string with half a surrogate
            pair, or a number outside the range of a double.

    Source: RFC 8259; duplicate names: RFC 7515 4, SPIFFE Trust Domain and Bundle 6.3; strings and numbers: RFC 7493 2.1, 2.2
    """
    value = json_value(document)
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004 - callers handle only one error
    _check_values(value)
    return value


def json_value(document: bytes) -> JSON:
    """Parse JSON that has one meaning only; its depth and the range of its numbers are left to the caller.

    Raises:
        ValueError: not UTF-8, not JSON, a duplicate name, a number with more digits than Python reads, or nested deeper than it reads;
            the message is in words that do not presume Python.
    """
    try:
        text = document.decode()
    except UnicodeDecodeError as e:
        raise ValueError("expected UTF-8 text") from e
    if text.startswith("\ufeff"):
        raise ValueError("expected UTF-8 text without a byte order mark")
    try:
        value: JSON = json.loads(
            text, object_pairs_hook=_unique_names, parse_int=_integer, parse_constant=_refuse_constant
        )
    except json.JSONDecodeError as e:
        raise ValueError(f"expected JSON: {e}") from e
    except RecursionError as e:
        raise ValueError("JSON is nested too deeply") from e
    return value


def _check_values(document: JSON) -> None:
    level: list[JSON] = [document]
    depth = 0
    while level:
        within: list[JSON] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, int | float):
                _check_number(value)
            elif value is not None:
                if depth == MAX_JSON_DEPTH:
                    raise ValueError(f"expected JSON of at most {MAX_JSON_DEPTH} levels")
                within.extend(value)
                if isinstance(value, Mapping):
                    within.extend(value.values())
        level = within
        depth += 1


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise ValueError("a string has half a surrogate pair") from e


def _check_number(number: float) -> None:
    try:
        is_finite = math.isfinite(number)
    except OverflowError:
        is_finite = False
    if not is_finite:
        raise ValueError("a number is outside the range of a double")


def _unique_names(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    names = dict(pairs)
    if len(names) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"expected each key once, found {twice[:_MOST_SHOWN]!r} twice")
    return names


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError as e:  # Python reads 4,300 digits
        raise ValueError(f"a number has too many digits: {len(digits)}") from e


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"expected JSON, found {name}")
