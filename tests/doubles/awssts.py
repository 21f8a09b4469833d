"""AWS's STS on loopback, as its SDKs speak to it: AssumeRoleWithWebIdentity, and GetCallerIdentity with the credentials that this gave.

Decided here: its forms, and that a call is signed with the secret that was given. What a token must be: tests/doubles/relyingparty.
"""

import contextlib
import hashlib
import hmac
import ssl
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, timedelta
from email.message import Message
from email.utils import format_datetime
from functools import partial, reduce
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from svid.clock import SystemClock
from tests.doubles.endpoint import serving
from tests.doubles.relyingparty import Demands, UntrustedTokenError

__all__ = ["ACCOUNT", "AUDIENCE", "ROLE", "STSDouble", "sts"]

AUDIENCE = "sts.amazonaws.com"
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/reasoning"

_SPACE = 'xmlns="https://sts.amazonaws.com/doc/2011-06-15/"'
Answer = tuple[int, str]


class STSDouble:
    """What it was asked, and what it gave.

    Attributes:
        demands: what a JWT-SVID must be.
        ahead: by how much its clock is ahead of ours.
        life: of credentials; SDKs renew those that live for less than a quarter of an hour before each call.
        sessions: the names of roles' sessions; calls: the keys that calls were signed with.
    """

    def __init__(self, demands: Demands) -> None:
        self.demands = demands
        self.ahead = timedelta()
        self.life = timedelta(hours=1)
        self.url = ""
        self.sessions: list[str] = []
        self.calls: list[str] = []
        self._secrets: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()

    def assume(self, asked: Mapping[str, str]) -> Answer:
        now = SystemClock().now() + self.ahead
        if asked["RoleArn"] != ROLE or asked["Version"] != "2011-06-15":
            return _error(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
        try:
            claims = self.demands.check(asked["WebIdentityToken"], now=now)
        except UntrustedTokenError as e:
            code = "ExpiredTokenException" if "expired" in str(e) else "InvalidIdentityToken"
            return _error(400, code, str(e))
        with self._lock:
            self.sessions.append(asked["RoleSessionName"])
            key = f"ASIA{len(self.sessions):016}"
            secret, session = (hashlib.sha256(f"{kind} {key}".encode()).hexdigest() for kind in ("secret", "session"))
            self._secrets[key] = (secret, session)
        ends = (now + self.life).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        given = _xml({"AccessKeyId": key, "SecretAccessKey": secret, "SessionToken": session, "Expiration": ends})
        subject = _xml({"SubjectFromWebIdentityToken": str(claims["sub"]), "Audience": AUDIENCE})
        return _result("AssumeRoleWithWebIdentity", f"<Credentials>{given}</Credentials>{subject}")

    def identity(self, headers: "Message[str, str]", body: bytes) -> Answer:
        key = _signed_with(headers, body, self._secrets)
        if key is None:
            return _error(403, "SignatureDoesNotMatch", "The request signature does not match")
        self.calls.append(key)
        role = f"arn:aws:sts::{ACCOUNT}:assumed-role/reasoning/{self.sessions[-1]}"
        return _result("GetCallerIdentity", _xml({"Arn": role, "UserId": key, "Account": ACCOUNT}))


def _signed_with(headers: "Message[str, str]", body: bytes, secrets: Mapping[str, tuple[str, str]]) -> str | None:
    """The key whose secret a request is signed with, if there is one.

    Source: AWS Signature Version 4
    """
    scheme, _, rest = headers.get("Authorization", "").partition(" ")
    parts = dict(part.split("=", 1) for part in rest.split(", "))
    key, *scope = parts["Credential"].split("/")
    if scheme != "AWS4-HMAC-SHA256" or key not in secrets or headers.get("X-Amz-Security-Token") != secrets[key][1]:
        return None
    names = parts["SignedHeaders"]
    signed = "".join(f"{name}:{headers[name]}\n" for name in names.split(";"))
    request = "\n".join(("POST", "/", "", signed, names, hashlib.sha256(body).hexdigest()))
    text = "\n".join((scheme, headers["X-Amz-Date"], "/".join(scope), hashlib.sha256(request.encode()).hexdigest()))
    derived = reduce(
        lambda last, part: hmac.digest(last, part.encode(), "sha256"), scope, f"AWS4{secrets[key][0]}".encode()
    )
    expected = hmac.new(derived, text.encode(), "sha256").hexdigest()
    return key if hmac.compare_digest(expected, parts["Signature"]) else None


def _xml(members: Mapping[str, str]) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in members.items())


def _result(action: str, inner: str) -> Answer:
    result = f"<{action}Result>{inner}</{action}Result>"
    return 200, f"<{action}Response {_SPACE}>{result}<ResponseMetadata/></{action}Response>"


def _error(status: int, code: str, words: str) -> Answer:
    inner = _xml({"Type": "Sender", "Code": code, "Message": words})
    return status, f"<ErrorResponse {_SPACE}><Error>{inner}</Error><RequestId>r</RequestId></ErrorResponse>"


def _respond(double: STSDouble, asking: BaseHTTPRequestHandler, body: bytes) -> None:
    asked = dict(parse_qsl(body.decode(), strict_parsing=True))
    match asked["Action"]:
        case "AssumeRoleWithWebIdentity":
            status, text = double.assume(asked)
        case "GetCallerIdentity":
            status, text = double.identity(asking.headers, body)
        case _:
            status, text = _error(400, "InvalidAction", "Could not find operation")
    asking.send_response_only(status)
    asking.send_header("Date", format_datetime(SystemClock().now() + double.ahead, usegmt=True))
    asking.send_header("Content-Type", "text/xml")
    asking.send_header("Content-Length", str(len(text.encode())))
    asking.end_headers()
    asking.wfile.write(text.encode())


@contextlib.contextmanager
def sts(demands: Demands, context: ssl.SSLContext) -> Iterator[STSDouble]:
    """Serve on a free port of loopback, as localhost."""
    double = STSDouble(demands)
    with serving(partial(_respond, double), context) as port:
        double.url = f"https://localhost:{port}"
        yield double
