"""A provider's token endpoint on loopback: its relying party verifies each JWT-SVID, once, and it answers as providers do."""

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl

import pytest

from svid.clock import SystemClock
from svid.errors import ExchangeError
from svid.integrations.exchange import TokenExchange
from tests.doubles.endpoint import SECONDS, serving
from tests.doubles.relyingparty import Demands, RelyingParty, UntrustedTokenError, Uploaded

__all__ = ["AUDIENCE", "ISSUER", "ProviderDouble", "Scripted", "error_of", "provider"]

ISSUER = "https://oidc.example.org"
AUDIENCE = "https://sts.example.org"
_ASSERTIONS = frozenset({"assertion", "subject_token", "client_assertion", "jwt", "WebIdentityToken"})


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

    def __init__(self, party: RelyingParty) -> None:
        self.demands = Demands(party, "")
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
        self._lock = threading.Lock()

    @property
    def audience(self) -> str:
        return self.demands.audience

    @audience.setter
    def audience(self, audience: str) -> None:
        self.demands.audience = audience

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
                self.demands.check(token, now=self.now, needs_issuer=self.form != "vault")
            except UntrustedTokenError as e:
                return Scripted(status=401, body={"error": "invalid_grant", "error_description": str(e)})
            self.given.append(f"access-{len(self.given)}")
            return Scripted(status=200, body=self._granted(self.given[-1]))

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


def _respond(double: ProviderDouble, asking: BaseHTTPRequestHandler, body: bytes) -> None:
    is_form = asking.headers["Content-Type"] == "application/x-www-form-urlencoded"
    asked = dict(parse_qsl(body.decode(), strict_parsing=True)) if is_form else json.loads(body)
    double.headers.append({name.lower(): value for name, value in asking.headers.items()})
    double.asked.append(asked)
    answer = double.answer()
    double.may_answer.wait(SECONDS)
    if answer.raw is None:
        _write(double, asking, answer)
    else:
        asking.wfile.write(answer.raw)
        while answer.trickles and not double.is_over.wait(0.02):
            asking.wfile.write(b"x")


def _write(double: ProviderDouble, asking: BaseHTTPRequestHandler, answer: Scripted) -> None:
    body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
    told = double.assertions()[-1] if answer.echoes else "ASSERTION"
    body = body.replace(b"ASSERTION", told.encode())
    asking.send_response_only(answer.status)
    headers = {"Date": format_datetime(double.now, usegmt=True), "Content-Type": "application/json"}
    for name, value in {**headers, **answer.headers}.items():
        asking.send_header(name, value.replace("ASSERTION", told))
    asking.send_header("Content-Length", str(len(body)))
    asking.end_headers()
    asking.wfile.write(body)


@contextlib.contextmanager
def provider(keys: bytes | RelyingParty, context: ssl.SSLContext | None) -> Iterator[ProviderDouble]:
    """Serve on a free port of loopback.

    Args:
        keys: a JWKS that was uploaded, or who finds the keys.
        context: its TLS; None: plain http.
    """
    double = ProviderDouble(Uploaded(keys, ISSUER) if isinstance(keys, bytes) else keys)

    def over() -> None:
        double.is_over.set()
        double.may_answer.set()

    with serving(partial(_respond, double), context, over=over) as port:
        double.url = f"{'http' if context is None else 'https'}://localhost:{port}/token"
        yield double
