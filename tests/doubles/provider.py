"""A provider's token endpoint on loopback: it verifies each JWT-SVID with PyJWT by a JWKS, once, and answers as providers do."""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import jwt
import pytest

from svid.clock import SystemClock
from svid.errors import ExchangeError
from svid.integrations.exchange import TokenExchange

__all__ = ["AUDIENCE", "ISSUER", "ProviderDouble", "Scripted", "error_of", "provider"]

ISSUER = "https://oidc.example.org"
AUDIENCE = "https://sts.example.org"
_ASSERTIONS = frozenset({"assertion", "subject_token", "client_assertion", "jwt", "WebIdentityToken"})
_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """An answer in place of the next one.

    Args:
        echoes: whether ASSERTION in it becomes the JWT-SVID that came.
        raw: what is written, if it is not HTTP as it should be.
        trickles: whether it is written byte by byte, without an end.
    """

    status: int = 400
    body: bytes | Mapping[str, object] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    trickles: bool = False
    echoes: bool = False


class ProviderDouble:
    """What it was asked, what it gave, and how it is set.

    Attributes:
        form: of its answers: `oauth`, `vault`, `aws` (JSON) or `aws-xml`.
        ahead: by how much its clock is ahead of ours.
        may_answer: it answers only while this is set.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = jwt.PyJWKSet.from_json(keys.decode())
        self.url = ""
        self.form = "oauth"
        self.expires_in: object = 600
        self.ahead = timedelta()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_over = threading.Event()
        self.script: list[Scripted] = []
        self.asked: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.given: list[str] = []
        self.audience = ""
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    @property
    def now(self) -> datetime:
        return SystemClock().now() + self.ahead

    def assertions(self) -> list[str]:
        return [next(asked[name] for name in asked if name in _ASSERTIONS) for asked in self.asked]

    def answer(self) -> Scripted:
        """Take the next of the script, or verify the JWT-SVID that came last."""
        with self._lock:
            if self.script:
                return self.script.pop(0)
            token = self.assertions()[-1]
            try:
                self._verify(token)
            except (jwt.InvalidTokenError, KeyError) as e:
                return Scripted(status=401, body={"error": "invalid_grant", "error_description": str(e)})
            self.given.append(f"access-{len(self.given)}")
            return Scripted(status=200, body=self._granted(self.given[-1]))

    def _verify(self, token: str) -> None:
        key = self._keys[jwt.get_unverified_header(token)["kid"]]
        claims = jwt.decode(
            token,
            key,
            algorithms=[str(key.algorithm_name)],
            audience=self.audience,
            issuer=ISSUER if self.form != "vault" else None,
            options={"require": ["sub", "aud", "exp", "iat", "jti"], "verify_exp": False, "verify_iat": False},
        )
        now = self.now.timestamp()
        if claims["exp"] <= now:
            raise jwt.ExpiredSignatureError("the assertion has expired")
        if claims["iat"] > now + 5:
            raise jwt.ImmatureSignatureError("the assertion is not yet valid (iat)")
        if claims["aud"] not in (self.audience, [self.audience]):
            raise jwt.InvalidAudienceError("expected one audience")
        if claims["jti"] in self._seen:
            raise jwt.InvalidTokenError("jti was seen before")
        self._seen.add(claims["jti"])

    def _granted(self, token: str) -> bytes | Mapping[str, object]:
        end = self.now + timedelta(seconds=600)
        credentials = {"AccessKeyId": "ASIA1", "SecretAccessKey": f"secret-{token}", "SessionToken": token}
        if self.form == "vault":
            return {"auth": {"client_token": token, "lease_duration": self.expires_in, "accessor": "a"}}
        if self.form == "aws":
            inner: Mapping[str, object] = {"Credentials": {**credentials, "Expiration": end.timestamp()}}
            return {"AssumeRoleWithWebIdentityResponse": {"AssumeRoleWithWebIdentityResult": inner}}
        if self.form == "aws-xml":
            credentials["Expiration"] = end.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            parts = "".join(f"<{name}>{value}</{name}>" for name, value in credentials.items())
            within = (
                f"<AssumeRoleWithWebIdentityResult><Credentials>{parts}</Credentials></AssumeRoleWithWebIdentityResult>"
            )
            space = 'xmlns="https://sts.amazonaws.com/doc/2011-06-15/"'
            return f"<AssumeRoleWithWebIdentityResponse {space}>{within}</AssumeRoleWithWebIdentityResponse>".encode()
        granted: dict[str, object] = {"access_token": token, "token_type": "Bearer"}
        return granted if self.expires_in is None else {**granted, "expires_in": self.expires_in}


def error_of(exchange: TokenExchange, match: str = ".") -> ExchangeError:
    """Ask for a token in vain."""
    with pytest.raises(ExchangeError, match=match) as caught:
        exchange.token()
    return caught.value


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"
    timeout = _SECONDS

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        is_form = self.headers["Content-Type"] == "application/x-www-form-urlencoded"
        asked = dict(parse_qsl(body, strict_parsing=True)) if is_form else json.loads(body)
        double = self.server.double
        double.headers.append({name.lower(): value for name, value in self.headers.items()})
        double.asked.append(asked)
        answer = double.answer()
        double.may_answer.wait(_SECONDS)
        with contextlib.suppress(OSError):  # whoever asked has left, as it should
            self._write_raw(answer) if answer.raw is not None else self._write(answer)

    def _write_raw(self, answer: Scripted) -> None:
        self.wfile.write(answer.raw or b"")
        while answer.trickles and not self.server.double.is_over.wait(0.02):
            self.wfile.write(b"x")

    def _write(self, answer: Scripted) -> None:
        double = self.server.double
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        told = double.assertions()[-1] if answer.echoes else "ASSERTION"
        body = body.replace(b"ASSERTION", told.encode())
        self.send_response_only(answer.status)
        headers = {"Date": format_datetime(double.now, usegmt=True), "Content-Type": "application/json"}
        for name, value in {**headers, **answer.headers}.items():
            self.send_header(name, value.replace("ASSERTION", told))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    def __init__(self, double: ProviderDouble, context: ssl.SSLContext | None) -> None:
        self.double = double
        self._context = context
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        near, address = super().get_request()
        near.settimeout(_SECONDS)
        if self._context is not None:
            near = self._context.wrap_socket(near, server_side=True, do_handshake_on_connect=False)
        return near, address

    def handle_error(self, *_: object) -> None:
        """Whoever called may have left amidst the handshake."""


@contextlib.contextmanager
def provider(keys: bytes, context: ssl.SSLContext | None) -> Iterator[ProviderDouble]:
    """Serve on a free port of loopback.

    Args:
        keys: a JWKS.
        context: its TLS; None: plain http.
    """
    double = ProviderDouble(keys)
    with _Server(double, context) as server:
        double.url = f"{'http' if context is None else 'https'}://localhost:{server.server_port}/token"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield double
        finally:
            double.is_over.set()
            double.may_answer.set()
            server.shutdown()
            serving.join()
