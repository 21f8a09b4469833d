"""A double of a model's provider: it trades a JWT-SVID for an access token, and answers one kind of call to whoever shows such a token.

It has the two paths of the Claude API that the provider's SDK needs, over HTTPS on loopback: `POST /v1/oauth/token` (RFC 7523, as JSON) and
`POST /v1/messages`. It knows what a provider knows: the issuer's URL, one federation rule, and whom to trust for HTTPS. The keys come from
what the issuer serves at that URL, and PyJWT verifies. What is not allowed is refused, and the answer says why.

cognomen/demo/modelserver puts it on a port, and makes a program of it.
"""

import hashlib
import hmac
import json
import secrets
import ssl
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import jwt

from cognomen.demo.telling import Tell
from svid.clock import Clock

__all__ = ["AUDIENCE", "LIFE", "Answer", "Model", "Rule", "error"]

AUDIENCE = "https://api.anthropic.com"
"""What a JWT-SVID for the Claude API names as its audience."""

LIFE = timedelta(seconds=125)
"""How long an access token lives: the SDK trades for another one when less than two minutes of it are left, so every five seconds."""

_LEEWAY = timedelta(seconds=5)
_MOST_TOKENS = 256
_SECONDS = 10
_MAX_DOCUMENT = 64 * 1024
_ALGORITHMS = frozenset({"ES256", "ES384", "ES512", "RS256"})
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_OF_EXCHANGES, _OF_TOKENS = "oidc-federation-2026-04-01", "oauth-2025-04-20"
_ACCESS_TOKEN, _API_KEY = "sk-ant-oat01-", "sk-ant-api"  # how they begin
_PLAN = "Book a train, reserve a room, and leave early."


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A federation rule: whose tokens are taken, and for which account. Nothing in it is a secret.

    Attributes:
        issuer: the https URL that tokens name as `iss`, below which the issuer's keys are found.
        subject: the only `sub`.
        audience: the only `aud`.
    """

    issuer: str
    subject: str
    audience: str = AUDIENCE
    rule_id: str = "fdrl_concierge"
    organization_id: str = "0b5c1d8e-7a52-4d0c-9d64-6f3d4f1f7c17"
    service_account_id: str = "svac_concierge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is sent back: a status, and the members of a JSON object."""

    status: HTTPStatus
    body: Mapping[str, object]


class _RefusedError(Exception):
    """The rule does not allow it; the text says why, and holds no part of a token."""


class Model:
    """The provider of one rule; usable from any thread.

    Args:
        trust: whom to trust for the issuer's HTTPS.
        tell: reports each trade, and the first refusal of each kind.
        life: how long an access token lives.

    Attributes:
        traded: how many access tokens it gave.
        answered: how many calls it answered.
    """

    def __init__(self, rule: Rule, trust: ssl.SSLContext, tell: Tell, clock: Clock, *, life: timedelta = LIFE) -> None:
        self._rule = rule
        self._trust = trust
        self._tell = tell
        self._clock = clock
        self._life = life
        self._lock = threading.Lock()
        self._keys: jwt.PyJWKClient | None = None
        self._algorithms: list[str] = []
        self._seen: dict[str, float] = {}
        self._given: dict[bytes, float] = {}
        self._refusals: set[str] = set()
        self.traded = 0
        self.answered = 0

    def trade(self, asked: Mapping[str, object], betas: str) -> Answer:
        """Trade a JWT-SVID for an access token; an error is of the form of RFC 6749 5.2.

        Args:
            betas: the header `anthropic-beta`.
        """
        with self._lock:
            try:
                self._check_request(asked, betas)
                subject = self._verify(str(asked.get("assertion", "")))
            except jwt.PyJWKClientConnectionError:
                return _error_of_exchange(HTTPStatus.SERVICE_UNAVAILABLE, "server_error", "the issuer does not answer")
            except jwt.PyJWKClientError:
                return self._refuse("the issuer of the rule has no such key (kid)")
            except (_RefusedError, jwt.PyJWTError) as e:
                return self._refuse(str(e))
            except (OSError, ValueError, KeyError):
                return _error_of_exchange(HTTPStatus.SERVICE_UNAVAILABLE, "server_error", "the issuer is not found")
            self.traded += 1
            seconds = int(self._life.total_seconds())
            self._tell("traded", caller=subject, seconds=seconds, number=self.traded)
            return Answer(
                status=HTTPStatus.OK,
                body={"access_token": self._token(), "token_type": "Bearer", "expires_in": seconds},
            )

    def answer(self, asked: Mapping[str, object], headers: Mapping[str, str]) -> Answer:
        """Answer a call of the model, if it shows an access token; an error is of the form of the Claude API.

        Args:
            headers: by name in lower case.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if "x-api-key" in headers or token.startswith(_API_KEY):
            return error(HTTPStatus.UNAUTHORIZED, "authentication_error", "API keys are not taken here")
        if scheme.lower() != "bearer" or not self._is_good(token):
            return error(HTTPStatus.UNAUTHORIZED, "authentication_error", "no access token, or one that is over")
        if _OF_TOKENS not in headers.get("anthropic-beta", "").split(","):
            return error(HTTPStatus.UNAUTHORIZED, "authentication_error", f"expected anthropic-beta: {_OF_TOKENS}")
        messages, model = asked.get("messages"), asked.get("model")
        if not isinstance(messages, list) or not messages or not isinstance(model, str):
            return error(HTTPStatus.BAD_REQUEST, "invalid_request_error", "expected a model, and messages")
        with self._lock:
            self.answered += 1
        return Answer(
            status=HTTPStatus.OK,
            body={
                "id": f"msg_{secrets.token_hex(12)}",
                "type": "message",
                "role": "assistant",
                "model": model,
                "content": [{"type": "text", "text": _PLAN}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {"input_tokens": len(json.dumps(messages)) // 4, "output_tokens": len(_PLAN) // 4},
            },
        )

    def _check_request(self, asked: Mapping[str, object], betas: str) -> None:
        if asked.get("grant_type") != _GRANT or _OF_EXCHANGES not in betas.split(","):
            raise _RefusedError(f"expected grant_type {_GRANT}, and anthropic-beta: {_OF_EXCHANGES}")
        for name, expected in (
            ("federation_rule_id", self._rule.rule_id),
            ("organization_id", self._rule.organization_id),
            ("service_account_id", self._rule.service_account_id),
        ):
            if asked.get(name) != expected:
                raise _RefusedError(f"{name}: there is no such rule")

    def _verify(self, assertion: str) -> str:
        """Verify a JWT-SVID by what the issuer serves, and take it once; returns its subject."""
        keys = self._discovered()
        claims = jwt.decode(
            assertion,
            keys.get_signing_key_from_jwt(assertion),
            algorithms=self._algorithms,
            audience=self._rule.audience,
            issuer=self._rule.issuer,
            subject=self._rule.subject,
            options={
                "require": ["iss", "sub", "aud", "iat", "exp", "jti"],
                "verify_exp": False,  # by our own clock, below
                "verify_iat": False,
            },
        )
        if claims["aud"] not in (self._rule.audience, [self._rule.audience]):
            raise _RefusedError("expected one audience (aud)")
        now, begins, ends = self._clock.now().timestamp(), float(claims["iat"]), float(claims["exp"])
        if ends <= now:
            raise _RefusedError("the assertion has expired (exp)")
        if begins > now + _LEEWAY.total_seconds():
            raise _RefusedError("the assertion is not valid yet (iat)")
        self._seen = {jti: end for jti, end in self._seen.items() if end > now}
        if claims["jti"] in self._seen:
            raise _RefusedError("the assertion was used before (jti)")
        self._seen[claims["jti"]] = ends
        return str(claims["sub"])

    def _discovered(self) -> jwt.PyJWKClient:
        """Find out once where the issuer's keys are, and how they sign; the keys themselves are fetched again as PyJWT does that."""
        if self._keys is None:
            url = f"{self._rule.issuer}/.well-known/openid-configuration"
            with urllib.request.urlopen(url, timeout=_SECONDS, context=self._trust) as reply:  # noqa: S310 - https, says the rule
                found = json.loads(reply.read(_MAX_DOCUMENT))
            if found["issuer"] != self._rule.issuer:
                raise ValueError("the discovery document names another issuer")
            self._algorithms = sorted(_ALGORITHMS & set(found["id_token_signing_alg_values_supported"]))
            self._keys = jwt.PyJWKClient(found["jwks_uri"], timeout=_SECONDS, ssl_context=self._trust)
        return self._keys

    def _token(self) -> str:
        """Make an access token; only its hash is kept, and of the newest tokens alone."""
        token = f"{_ACCESS_TOKEN}{secrets.token_urlsafe(32)}"
        self._given[_hash(token)] = self._clock.monotonic() + self._life.total_seconds()
        while len(self._given) > _MOST_TOKENS:
            del self._given[next(iter(self._given))]
        return token

    def _is_good(self, token: str) -> bool:
        with self._lock:
            shown, now = _hash(token), self._clock.monotonic()
            self._given = {known: end for known, end in self._given.items() if end > now}
            return sum(hmac.compare_digest(shown, known) for known in self._given) == 1

    def _refuse(self, why: str) -> Answer:
        if why not in self._refusals and len(self._refusals) < _MOST_TOKENS:
            self._refusals.add(why)
            self._tell("refused", caller="a JWT-SVID", why=why)
        return _error_of_exchange(HTTPStatus.UNAUTHORIZED, "invalid_grant", why)


def error(status: HTTPStatus, kind: str, message: str) -> Answer:
    """An error in the form of the Claude API."""
    return Answer(status=status, body={"type": "error", "error": {"type": kind, "message": message}})


def _error_of_exchange(status: HTTPStatus, kind: str, message: str) -> Answer:
    return Answer(status=status, body={"error": kind, "error_description": message})


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
