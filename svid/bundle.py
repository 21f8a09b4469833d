"""Trust bundles: the authorities of one trust domain, and the documents that carry them.

A document does not name its trust domain, so the caller names it. issuer/decisions/authority decides when authorities come and go.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from svid.encoding import (
    JSON,
    MAX_DOCUMENT_BYTES,
    certificates_from_der,
    certificates_from_pem,
    certificates_to_der,
    certificates_to_pem,
    json_object,
)
from svid.errors import BundleError, UnusableKeyError
from svid.keys import PrivateKey, PublicKey, certified_key, check_trustworthy
from svid.spiffeid import TrustDomain

__all__ = ["MAX_AUTHORITIES", "MAX_REFRESH_HINT", "MAX_SEQUENCE", "Bundle"]

MAX_AUTHORITIES = 256
"""How many authorities of each kind a bundle may hold."""
MAX_SEQUENCE = (1 << 64) - 1
MAX_REFRESH_HINT = timedelta(days=366)
_MAX_KID_LENGTH = 1024

_X509 = "x509-svid"
_JWT = "jwt-svid"
_MAX_JWK_VALUE = 2048
_CURVES = ("P-256", "P-384", "P-521")
_PUBLIC_MEMBERS = {"EC": ("crv", "x", "y"), "RSA": ("n", "e")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The authorities that vouch for the SVIDs of one trust domain; without any authority, nothing of the trust domain is trusted.

    Attributes:
        x509_authorities: CA certificates, without duplicates.
        jwt_authorities: the keys that sign JWT-SVIDs, by their key ID.

    Raises:
        BundleError: an authority is unusable, there are too many, or a number is out of range.

    Source: SPIFFE Trust Domain and Bundle 4
    """

    trust_domain: TrustDomain
    x509_authorities: tuple[x509.Certificate, ...] = ()
    jwt_authorities: Mapping[str, PublicKey] = field(default_factory=dict)
    sequence: int | None = None
    refresh_hint: timedelta | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "x509_authorities", tuple(dict.fromkeys(self.x509_authorities)))
        object.__setattr__(self, "jwt_authorities", MappingProxyType(dict(self.jwt_authorities)))
        for count in (len(self.x509_authorities), len(self.jwt_authorities)):
            if count > MAX_AUTHORITIES:
                raise BundleError(f"authorities: expected at most {MAX_AUTHORITIES}, found {count}")
        for certificate in self.x509_authorities:
            _key_of(certificate)
        for kid, key in self.jwt_authorities.items():
            _check_kid(kid)
            _check_key(kid, key)
        if self.sequence is not None and not 0 <= self.sequence <= MAX_SEQUENCE:
            raise BundleError(f"sequence: expected 0 to {MAX_SEQUENCE}, found {self.sequence}")
        if self.refresh_hint is not None and not timedelta() <= self.refresh_hint <= MAX_REFRESH_HINT:
            raise BundleError(f"refresh_hint: expected 0 to {MAX_REFRESH_HINT}, found {self.refresh_hint}")

    @classmethod
    def from_jwks(cls, trust_domain: TrustDomain, document: bytes) -> Self:
        """Parse a SPIFFE bundle; keys of an unknown type or use are left out.

        Shape: a JWK Set; each x509-svid key has `x5c`, each jwt-svid key has `kid`.

        Raises:
            BundleError: it is not a JWK Set, or a key of a known type and use is malformed.

        Source: SPIFFE Trust Domain and Bundle 4, X509-SVID 6, JWT-SVID 6
        """
        members = _members(document)
        x509_authorities: list[x509.Certificate] = []
        jwt_authorities: list[tuple[str, PublicKey]] = []
        for jwk in _jwks(members):
            if jwk.get("use") == _X509:
                x509_authorities.extend(_certificates(jwk))
            elif jwk.get("use") == _JWT:
                jwt_authorities.extend(_named_keys(jwk))
        hint = _integer(members, "spiffe_refresh_hint", MAX_REFRESH_HINT // timedelta(seconds=1))
        return cls(
            trust_domain=trust_domain,
            x509_authorities=tuple(x509_authorities),
            jwt_authorities=_unique(jwt_authorities),
            sequence=_integer(members, "spiffe_sequence", MAX_SEQUENCE),
            refresh_hint=None if hint is None else timedelta(seconds=hint),
        )

    @classmethod
    def from_jwt_jwks(cls, trust_domain: TrustDomain, document: bytes) -> Self:
        """Parse the Workload API's JWT bundle, in which `use` may be absent.

        Raises:
            BundleError: as from_jwks.

        Source: SPIFFE Workload API 6.2.2
        """
        keys = [
            named for jwk in _jwks(_members(document)) if jwk.get("use", _JWT) == _JWT for named in _named_keys(jwk)
        ]
        return cls(trust_domain=trust_domain, jwt_authorities=_unique(keys))

    def to_jwks(self) -> bytes:
        """Encode the SPIFFE bundle; equal contents give the same canonical text.

        Source: SPIFFE Trust Domain and Bundle 4
        """
        document: dict[str, JSON] = {"keys": [*map(_x509_jwk, self.x509_authorities), *self._jwt_jwks()]}
        if self.sequence is not None:
            document["spiffe_sequence"] = self.sequence
        if self.refresh_hint is not None:
            document["spiffe_refresh_hint"] = self.refresh_hint // timedelta(seconds=1)
        return _canonical(document)

    def jwt_jwks(self) -> bytes:
        """Encode only the JWT authorities as a JWK Set, each with `kid` and `use`.

        Source: SPIFFE Workload API 6.2.2
        """
        return _canonical({"keys": list(self._jwt_jwks())})

    def _jwt_jwks(self) -> Iterator[JSON]:
        for kid, key in sorted(self.jwt_authorities.items()):
            yield {**_public_jwk(key), "use": _JWT, "kid": kid}

    @classmethod
    def from_pem(cls, trust_domain: TrustDomain, pem: bytes) -> Self:
        """Parse the CA certificates of a PEM text, of which there must be at least one."""
        certificates = certificates_from_pem(pem, limit=MAX_AUTHORITIES, error=BundleError)
        return cls(trust_domain=trust_domain, x509_authorities=certificates)

    def to_pem(self) -> bytes:
        """Encode the CA certificates as PEM."""
        return certificates_to_pem(self.x509_authorities)

    @classmethod
    def from_der(cls, trust_domain: TrustDomain, der: bytes) -> Self:
        """Parse the Workload API's X.509 bundle; empty input gives a bundle that vouches for nothing.

        Shape: DER certificates back to back.

        Source: SPIFFE Workload API 5.2.2
        """
        certificates = certificates_from_der(der, limit=MAX_AUTHORITIES, error=BundleError)
        return cls(trust_domain=trust_domain, x509_authorities=certificates)

    def x509_der(self) -> bytes:
        """Encode the CA certificates as DER, back to back."""
        return certificates_to_der(self.x509_authorities)


def _clause(section: str) -> str:
    return f"Trust Domain and Bundle 4.{section}"


def _members(document: bytes) -> dict[str, JSON]:
    if len(document) > MAX_DOCUMENT_BYTES:
        raise BundleError(f"bundle: expected at most {MAX_DOCUMENT_BYTES} bytes, found {len(document)}")
    try:
        return json_object(document)
    except ValueError as e:
        raise BundleError(f"bundle: {e}", clause="Trust Domain and Bundle 4") from e


def _jwks(members: Mapping[str, JSON]) -> Iterator[Mapping[str, JSON]]:
    """Yield the keys whose type we know."""
    keys = members.get("keys")
    if not isinstance(keys, list):
        raise BundleError("keys: expected an array", clause=_clause("1.3"))
    if len(keys) > 2 * MAX_AUTHORITIES:
        raise BundleError(f"keys: expected at most {2 * MAX_AUTHORITIES}, found {len(keys)}")
    for jwk in keys:
        if not isinstance(jwk, dict):
            raise BundleError("keys: expected objects", clause=_clause("2"))
        if jwk.get("kty") in tuple(_PUBLIC_MEMBERS):
            yield jwk


def _integer(members: Mapping[str, JSON], name: str, limit: int) -> int | None:
    if name not in members:
        return None
    value = members[name]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise BundleError(f"{name}: expected an integer from 0 to {limit}", clause=_clause("1"))
    return value


def _certificates(jwk: Mapping[str, JSON]) -> tuple[x509.Certificate, ...]:
    """Read the first certificate of an x509-svid key; further certificates, and a key without any, are ignored."""
    x5c = jwk.get("x5c", [])
    if not isinstance(x5c, list) or not all(isinstance(value, str) for value in x5c):
        raise BundleError("x5c: expected an array of strings", clause="X509-SVID 6.1")
    if not x5c:
        return ()
    try:
        der = base64.b64decode(x5c[0], validate=True)
    except ValueError as e:
        raise BundleError("x5c: expected base64", clause="X509-SVID 6.1") from e
    certificates = certificates_from_der(der, limit=1, error=BundleError)
    if not certificates:
        raise BundleError("x5c: expected a certificate, found an empty string", clause="X509-SVID 6.1")
    return certificates


def _named_keys(jwk: Mapping[str, JSON]) -> Iterator[tuple[str, PublicKey]]:
    """Read a jwt-svid key; a key of a curve or size that we do not use is left out, as a key of an unknown type is."""
    kid = jwk.get("kid")
    if not isinstance(kid, str):
        raise BundleError("kid: expected a string on each jwt-svid key", clause="JWT-SVID 6.1")
    if jwk["kty"] == "EC" and jwk.get("crv") not in _CURVES:
        return
    key = _public_key(kid, jwk)
    try:
        check_trustworthy(key)
    except UnusableKeyError:
        return
    yield kid, key


def _public_key(kid: str, jwk: Mapping[str, JSON]) -> PublicKey:
    """Read only the public members of a JWK."""
    kty = str(jwk["kty"])
    public: dict[str, str] = {"kty": kty}
    for name in _PUBLIC_MEMBERS[kty]:
        value = jwk.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_JWK_VALUE:
            raise BundleError(f"key {kid!r}: expected {name} as base64url", clause="JWT-SVID 6.1")
        public[name] = value
    try:
        key = ECAlgorithm.from_jwk(public) if kty == "EC" else RSAAlgorithm.from_jwk(public)
    except (InvalidKeyError, ValueError) as e:
        raise BundleError(f"key {kid!r}: expected a public key of type {kty}", clause="JWT-SVID 6.1") from e
    # The return type of from_jwk includes private keys; with public members only, it cannot be one.
    return key.public_key() if isinstance(key, PrivateKey) else key


def _unique(keys: Sequence[tuple[str, PublicKey]]) -> dict[str, PublicKey]:
    by_kid = dict(keys)
    if len(by_kid) != len(keys):
        raise BundleError("kid: duplicate key ID", clause="JWT-SVID 6.1")
    return by_kid


def _check_kid(kid: str) -> None:
    if not kid.isprintable() or not 0 < len(kid) <= _MAX_KID_LENGTH:
        raise BundleError(f"kid: expected 1 to {_MAX_KID_LENGTH} printable characters", clause="JWT-SVID 6.1")


def _check_key(kid: str, key: object) -> None:
    try:
        check_trustworthy(key)
    except UnusableKeyError as e:
        raise BundleError(f"key {kid!r}: {str(e).removeprefix('key: ')}") from e


def _key_of(certificate: x509.Certificate) -> PublicKey:
    try:
        return certified_key(certificate)
    except UnusableKeyError as e:
        raise BundleError(f"authority: {e}") from e


def _x509_jwk(certificate: x509.Certificate) -> JSON:
    x5c = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    return {**_public_jwk(_key_of(certificate)), "use": _X509, "x5c": [x5c]}


def _public_jwk(key: PublicKey) -> dict[str, JSON]:
    """Encode only the members that define the key."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return ECAlgorithm.to_jwk(key, as_dict=True)
    jwk = RSAAlgorithm.to_jwk(key, as_dict=True)
    return {name: jwk[name] for name in ("kty", *_PUBLIC_MEMBERS["RSA"])}


def _canonical(document: Mapping[str, JSON]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
