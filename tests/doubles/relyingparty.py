"""Relying parties of OpenID Connect: they know an issuer's URL, or uploaded keys, and verify tokens with a library that is not ours.

Decided here: what such a party demands of a token. What a provider does with one that it trusts is in its own double.
"""

import json
import ssl
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol
from urllib.request import HTTPSHandler, build_opener

import joserfc.errors
import joserfc.jwk
import joserfc.jwt
import jwt

from svid.clock import SystemClock

__all__ = ["Demands", "Discovered", "Joserfc", "PyJWT", "RelyingParty", "UntrustedTokenError", "Uploaded"]

_SECONDS = 20
_REQUIRED = ("sub", "aud", "exp", "iat", "jti")
_LEEWAY = 5  # seconds; issuer and party run on one machine
_FOREVER = 86400.0

Claims = Mapping[str, object]


class UntrustedTokenError(Exception):
    """A relying party does not trust a token; the text is mostly its library's."""


class RelyingParty(Protocol):
    """Verifies tokens of one issuer."""

    def verify(self, token: str, *, audience: str, now: datetime, needs_issuer: bool = True) -> Claims:
        """Verify signature, `iss`, `aud` and times.

        Raises:
            UntrustedTokenError: it is not trusted.
        """
        ...


class Discovered:
    """What an issuer's discovery document says, and its keys as the answer's Cache-Control allows to keep them.

    Args:
        context: trusts the issuer's certificate.
    """

    def __init__(self, issuer: str, context: ssl.SSLContext) -> None:
        self._opener = build_opener(HTTPSHandler(context=context))
        document, _ = self.get(f"{issuer}/.well-known/openid-configuration")
        assert document["issuer"] == issuer
        self.issuer = issuer
        self.keys_url = str(document["jwks_uri"])
        self.algorithms = [str(one) for one in document["id_token_signing_alg_values_supported"]]  # type: ignore[attr-defined]  # a list

    def get(self, url: str) -> tuple[dict[str, object], int]:
        """A JSON document, and for how many seconds it may be kept."""
        with self._opener.open(url, timeout=_SECONDS) as answer:
            caching = answer.headers["Cache-Control"]
            document: dict[str, object] = json.load(answer)
        return document, int(caching.partition("max-age=")[2])


class PyJWT:
    """PyJWT and its client for keys; it fetches none early, for whichever key is unknown, unless `cooldown` seconds are over.

    Args:
        keeps: how many seconds it keeps keys; None means as long as the answer says.
    """

    def __init__(
        self, discovered: Discovered, context: ssl.SSLContext, *, keeps: float | None = None, cooldown: float = _FOREVER
    ) -> None:
        self._discovered = discovered
        lifespan = discovered.get(discovered.keys_url)[1] if keeps is None else keeps
        self._keys = jwt.PyJWKClient(
            discovered.keys_url,
            lifespan=lifespan,
            cooldown_duration=cooldown,
            ssl_context=context,
        )

    def verify(self, token: str, *, audience: str, now: datetime, needs_issuer: bool = True) -> Claims:
        try:
            key = self._keys.get_signing_key_from_jwt(token)
            return _decode(
                token,
                key,
                audience=audience,
                now=now,
                issuer=self._discovered.issuer if needs_issuer else None,
                algorithms=self._discovered.algorithms,
            )
        except jwt.PyJWTError as e:
            raise UntrustedTokenError(str(e)) from e


class Uploaded:
    """PyJWT with a JWKS that somebody uploaded."""

    def __init__(self, keys: bytes, issuer: str) -> None:
        self._keys = jwt.PyJWKSet.from_json(keys.decode())
        self._issuer = issuer

    def verify(self, token: str, *, audience: str, now: datetime, needs_issuer: bool = True) -> Claims:
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
            issuer = self._issuer if needs_issuer else None
            return _decode(token, key, audience=audience, now=now, issuer=issuer, algorithms=[str(key.algorithm_name)])
        except (jwt.PyJWTError, KeyError) as e:
            raise UntrustedTokenError(str(e)) from e


def _decode(
    token: str, key: jwt.PyJWK, *, audience: str, now: datetime, issuer: str | None, algorithms: list[str]
) -> Claims:
    """PyJWT reads the machine's clock, so that times are checked here."""
    claims: dict[str, object] = jwt.decode(
        token,
        key,
        algorithms=algorithms,
        audience=audience,
        issuer=issuer,
        options={"require": list(_REQUIRED), "verify_exp": False, "verify_iat": False},
    )
    if float(str(claims["exp"])) <= now.timestamp():
        raise jwt.ExpiredSignatureError("the assertion has expired")
    if float(str(claims["iat"])) > now.timestamp() + _LEEWAY:
        raise jwt.ImmatureSignatureError("the assertion is not yet valid (iat)")
    return claims


class Joserfc:
    """joserfc, which does not fetch keys itself: they are fetched when the kept ones are too old, and at no other time.

    Args:
        keeps: as PyJWT.
    """

    def __init__(self, discovered: Discovered, *, keeps: float | None = None) -> None:
        self._discovered, self._keeps = discovered, keeps
        self._keys: joserfc.jwk.KeySet | None = None
        self._until = 0.0
        self._lock = threading.Lock()

    def verify(self, token: str, *, audience: str, now: datetime, needs_issuer: bool = True) -> Claims:
        issuer: joserfc.jwt.ClaimsOption = {"essential": needs_issuer, "value": self._discovered.issuer}
        demands = joserfc.jwt.JWTClaimsRegistry(
            now=int(now.timestamp()),
            leeway=_LEEWAY,
            iss=issuer,
            aud={"essential": True, "value": audience},
            **{name: joserfc.jwt.ClaimsOption(essential=True) for name in _REQUIRED if name != "aud"},
        )
        try:
            decoded = joserfc.jwt.decode(token, self._known(), algorithms=self._discovered.algorithms)
            demands.validate(decoded.claims)
        except (joserfc.errors.JoseError, ValueError) as e:
            raise UntrustedTokenError(str(e)) from e
        claims: dict[str, object] = decoded.claims
        return claims

    def _known(self) -> joserfc.jwk.KeySet:
        with self._lock:
            now = SystemClock().monotonic()
            if self._keys is None or now >= self._until:
                document, seconds = self._discovered.get(self._discovered.keys_url)
                self._keys = joserfc.jwk.KeySet.import_key_set(document)  # type: ignore[arg-type]  # it is one
                self._until = now + (seconds if self._keeps is None else self._keeps)
            return self._keys


class Demands:
    """What a provider demands of each token: that its relying party trusts it, one audience, a subject that has a rule, and that it is new.

    Attributes:
        subject: whom the rule admits; None means everybody.
        once: whether a token that was seen before is refused.
    """

    def __init__(self, party: RelyingParty, audience: str, *, subject: str | None = None, once: bool = True) -> None:
        self.party, self.audience, self.subject, self.once = party, audience, subject, once
        self.kids: list[str] = []
        self._seen: set[object] = set()
        self._lock = threading.Lock()

    def check(self, token: str, *, now: datetime | None = None, needs_issuer: bool = True) -> Claims:
        """Check a token that was presented.

        Raises:
            UntrustedTokenError: it is not what the provider demands.
        """
        moment = SystemClock().now() if now is None else now
        claims = self.party.verify(token, audience=self.audience, now=moment, needs_issuer=needs_issuer)
        if claims["aud"] not in (self.audience, [self.audience]):
            raise UntrustedTokenError("expected one audience")
        if self.subject not in (None, claims["sub"]):
            raise UntrustedTokenError("no rule for this subject")
        with self._lock:
            if self.once and claims["jti"] in self._seen:
                raise UntrustedTokenError("jti was seen before")
            self._seen.add(claims["jti"])
            self.kids.append(str(jwt.get_unverified_header(token)["kid"]))
        return claims
