"""JWT-SVIDs: the shape of a token, and its verification with the bundle of its own trust domain.

issuer/decisions/profile decides what our own tokens look like; the caller decides whom to accept.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from svid.bundle import Bundle
from svid.encoding import JSON, base64url_decode, json_object
from svid.errors import JWTSVIDError, SpiffeIDError
from svid.keys import PublicKey
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["ALGORITHMS", "JWTSVID", "MAX_TOKEN_BYTES", "verify"]

ALGORITHMS = ("ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512")
"""The only signature algorithms of a JWT-SVID (JWT-SVID 2.1)."""
MAX_TOKEN_BYTES = 16384

_CURVES: Mapping[str, type[ec.EllipticCurve]] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
_MAX_SECONDS = 253_402_300_799  # the last second of year 9999, where datetime ends


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTSVID:
    """A token that identifies its bearer as the workload with this SPIFFE ID, to these audiences, until it expires.

    Attributes:
        claims: all claims of the token, read-only.
        key_id: the ID of the signing authority, according to the token; None if the token has none.

    Source: SPIFFE JWT-SVID 3
    """

    token: str = field(repr=False)
    spiffe_id: SpiffeID
    audiences: tuple[str, ...]
    issued_at: datetime | None
    expires_at: datetime
    claims: Mapping[str, JSON] = field(repr=False)
    hint: str = ""
    key_id: str | None = None

    @property
    def jti(self) -> str | None:
        """The token's own ID, if it has one that is a string.

        Source: RFC 7519 4.1.7
        """
        jti = self.claims.get("jti")
        return jti if isinstance(jti, str) else None

    @classmethod
    def parse_insecure(cls, token: str, *, hint: str = "") -> Self:
        """Parse a token without checking its signature or lifetime: only for a token that came over our own socket.

        Raises:
            JWTSVIDError: it is not a JWT-SVID; the clause names the rule.

        Source: SPIFFE JWT-SVID 2, 3, 5.1
        """
        header, claims = _parse(token)
        return cls._of(token, header, claims, hint)

    @classmethod
    def _of(cls, token: str, header: "_Header", claims: dict[str, JSON], hint: str = "") -> Self:
        subject = claims.get("sub")
        if not isinstance(subject, str):
            raise _fault("sub: expected a SPIFFE ID", "3.1")
        try:
            spiffe_id = SpiffeID.parse(subject)
        except SpiffeIDError as e:
            raise _fault(f"sub: {e}", "3.1") from e
        expires_at = _moment(claims, "exp", "3.3")
        if expires_at is None:
            raise _fault("exp: missing", "3.3")
        return cls(
            token=token,
            spiffe_id=spiffe_id,
            audiences=_audiences(claims),
            issued_at=_moment(claims, "iat", "4"),
            expires_at=expires_at,
            claims=MappingProxyType(claims),
            hint=hint,
            key_id=header.key_id,
        )


def verify(
    token: str,
    bundle_for: Callable[[TrustDomain], Bundle | None],
    *,
    audience: str | Collection[str],
    at: datetime,
    leeway: timedelta = timedelta(),
) -> JWTSVID:
    """Check that a token proves its SPIFFE ID at that moment to one of these audiences.

    Args:
        bundle_for: returns the bundle of a trust domain, or None if it is not trusted.
        leeway: how far the clocks may differ, for `exp` and `nbf`.

    Raises:
        JWTSVIDError: it does not; the clause names the rule.

    Source: SPIFFE JWT-SVID 4
    """
    wanted = {audience} if isinstance(audience, str) else set(audience)
    if not wanted:
        raise JWTSVIDError("audience: expected at least 1 acceptable audience, found 0", clause="JWT-SVID A")
    header, claims = _parse(token)
    svid = JWTSVID._of(token, header, claims)  # noqa: SLF001 - the constructor that both functions share
    _check_signature(token, header, _authorities(svid.spiffe_id.trust_domain, header, bundle_for))
    if at - svid.expires_at >= leeway:  # a sum could go beyond year 9999, a difference cannot
        raise _fault(f"exp: expired at {svid.expires_at.isoformat()}, checked at {at.isoformat()}", "3.3")
    not_before = _moment(claims, "nbf", "4")
    if not_before is not None and not_before - at > leeway:
        raise _fault(f"nbf: not valid before {not_before.isoformat()}, checked at {at.isoformat()}", "4")
    if wanted.isdisjoint(svid.audiences):
        one_of = "one of " if len(wanted) > 1 else ""
        expected, found = (", ".join(map(repr, sorted(texts))) for texts in (wanted, svid.audiences))
        raise _fault(f"aud: expected {one_of}{expected}, found {found}", "3.2")
    return svid


class _Header(NamedTuple):
    algorithm: str
    key_id: str | None


def _parse(token: str) -> tuple[_Header, dict[str, JSON]]:
    """Read header and claims; the algorithm is checked before anything else."""
    if len(token) > MAX_TOKEN_BYTES:
        raise JWTSVIDError(f"token: expected at most {MAX_TOKEN_BYTES} bytes, found {len(token)}")
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims, signature
        raise _fault(f"token: expected JWS compact serialization, three parts, found {len(parts)}", "1")
    header = _header(_part(parts[0], "header"))
    try:
        base64url_decode(parts[2])
    except ValueError as e:
        raise _fault("signature: expected base64url", "4") from e
    return header, _part(parts[1], "claims")


def _part(text: str, name: str) -> dict[str, JSON]:
    try:
        return json_object(base64url_decode(text))
    except ValueError as e:
        raise _fault(f"{name}: expected a JSON object as base64url", "4") from e


def _header(members: Mapping[str, JSON]) -> _Header:
    algorithm = members.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _fault(f"alg: expected one of {', '.join(ALGORITHMS)}", "2.1")
    others = sorted(members.keys() - {"alg", "kid", "typ"})
    if others:
        raise _fault(f"header: expected only alg, kid and typ, found {others[0]!r}", "2")
    if members.get("typ", "JWT") not in ("JWT", "JOSE"):
        raise _fault("typ: expected JWT or JOSE", "2.3")
    key_id = members.get("kid")
    if "kid" in members and not isinstance(key_id, str):
        raise _fault("kid: expected a string", "2.2")
    return _Header(algorithm, key_id if isinstance(key_id, str) else None)


def _audiences(claims: Mapping[str, JSON]) -> tuple[str, ...]:
    value = claims.get("aud")
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise _fault("aud: expected at least 1 audience", "3.2")
    audiences = tuple(value for value in values if isinstance(value, str))
    if len(audiences) != len(values):
        raise _fault("aud: expected strings", "3.2")
    return audiences


def _moment(claims: Mapping[str, JSON], name: str, section: str) -> datetime | None:
    """Read a NumericDate, which may have a fraction.

    Source: RFC 7519 2
    """
    if name not in claims:
        return None
    value = claims[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MAX_SECONDS:
        raise _fault(f"{name}: expected seconds since 1970", section)
    return datetime.fromtimestamp(value, UTC)


def _authorities(
    trust_domain: TrustDomain, header: _Header, bundle_for: Callable[[TrustDomain], Bundle | None]
) -> list[PublicKey]:
    """Find the keys that may have signed: from that trust domain, with the token's key ID if it has one, and fit for the algorithm."""
    bundle = bundle_for(trust_domain)
    if bundle is None or bundle.trust_domain != trust_domain:
        raise JWTSVIDError(f"bundle: there is none for trust domain {trust_domain}", clause="Trust Domain and Bundle 3")
    keys = [
        key
        for kid, key in bundle.jwt_authorities.items()
        if header.key_id in (None, kid) and _fits(key, header.algorithm)
    ]
    if not keys:
        named = "" if header.key_id is None else f" named {header.key_id!r}"
        raise _fault(f"kid: no authority of {trust_domain} for {header.algorithm}{named}", "4")
    return keys


def _fits(key: PublicKey, algorithm: str) -> bool:
    if isinstance(key, ec.EllipticCurvePublicKey):
        return algorithm in _CURVES and isinstance(key.curve, _CURVES[algorithm])
    return algorithm not in _CURVES


def _check_signature(token: str, header: _Header, keys: Collection[PublicKey]) -> None:
    # PyJWT would read the clock for exp, nbf and iat; `verify` checks them with the moment that it was given.
    options: jwt.types.Options = {
        "require": ["sub", "aud", "exp"],
        "verify_aud": False,
        "verify_exp": False,
        "verify_iat": False,
        "verify_nbf": False,
    }
    for key in keys:
        try:
            jwt.decode(token, key, algorithms=[header.algorithm], options=options)
        except jwt.InvalidSignatureError:
            continue
        except jwt.InvalidTokenError as e:
            raise _fault(f"token: not a valid JWT: {e}", "4") from e
        return
    raise _fault("signature: not by an authority of the trust domain", "4")


def _fault(message: str, section: str) -> JWTSVIDError:
    return JWTSVIDError(message, clause=f"JWT-SVID {section}")
