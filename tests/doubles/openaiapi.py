"""OpenAI's token endpoint and one call of its API on loopback, as the SDK `openai` speaks to them.

Decided here: their forms. What a token must be: tests/doubles/relyingparty.
"""

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from email.message import Message
from functools import partial
from http.server import BaseHTTPRequestHandler

from svid.clock import SystemClock
from tests.doubles.endpoint import serving
from tests.doubles.relyingparty import Demands, UntrustedTokenError

__all__ = ["API_HOST", "AUDIENCE", "AUTH_HOST", "OpenAIDouble", "Scripted", "openai_double"]

AUTH_HOST, API_HOST = "auth.openai.com", "api.openai.com"
AUDIENCE = "https://api.openai.com/v1"

_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_TYPE = "urn:ietf:params:oauth:token-type:jwt"


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """What the token endpoint answers in place of its next answer."""

    status: int
    body: bytes = b""
    kind: str = "application/json"


class OpenAIDouble:
    """What it was asked, and which access tokens it takes.

    Attributes:
        demands: what a JWT-SVID must be.
        ahead: by how much its clock is ahead of ours.
        script: answers of the token endpoint in place of its own.
        exchanged: the bodies of exchanges; calls: the access tokens of API calls.
    """

    def __init__(self, demands: Demands, *, identity_provider_id: str, service_account_id: str) -> None:
        self.demands = demands
        self.ids = {"identity_provider_id": identity_provider_id, "service_account_id": service_account_id}
        self.ahead = timedelta()
        self.script: list[Scripted] = []
        self.exchanged: list[dict[str, object]] = []
        self.calls: list[str] = []
        self.good: set[str] = set()
        self._lock = threading.Lock()

    def exchange(self, body: bytes) -> Scripted:
        asked: dict[str, object] = json.loads(body)
        with self._lock:
            self.exchanged.append(asked)
            if self.script:
                return self.script.pop(0)
        expected = {"grant_type": _GRANT, "subject_token_type": _TYPE, **self.ids}
        if wrong := sorted(name for name, value in expected.items() if asked.get(name) != value):
            return _refusal(400, "invalid_request", f"{wrong[0]} is not known")
        try:
            self.demands.check(str(asked["subject_token"]), now=SystemClock().now() + self.ahead)
        except UntrustedTokenError as e:
            return _refusal(400, "invalid_subject_token", str(e))
        with self._lock:
            token = f"access-{len(self.exchanged)}"
            self.good.add(token)
        granted = {"access_token": token, "token_type": "Bearer", "expires_in": 3600}
        return Scripted(status=200, body=json.dumps(granted).encode())

    def call(self, headers: "Message[str, str]") -> Scripted:
        """One completion of a chat."""
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        with self._lock:
            self.calls.append(token)
            if token not in self.good:
                told = {"error": {"message": "the access token is not good", "type": "invalid_request_error"}}
                return Scripted(status=401, body=json.dumps(told).encode())
        message = {"role": "assistant", "content": "hello"}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        answer = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        return Scripted(status=200, body=json.dumps(answer).encode())


def _refusal(status: int, code: str, words: str) -> Scripted:
    return Scripted(status=status, body=json.dumps({"error": code, "error_description": words}).encode())


def _respond(double: OpenAIDouble, asking: BaseHTTPRequestHandler, body: bytes) -> None:
    match asking.headers["Host"], asking.path:
        case host, "/oauth/token" if host == AUTH_HOST:
            answer = double.exchange(body)
        case host, "/v1/chat/completions" if host == API_HOST:
            answer = double.call(asking.headers)
        case _:
            answer = Scripted(status=404)
    asking.send_response_only(answer.status)
    asking.send_header("Content-Type", answer.kind)
    asking.send_header("Content-Length", str(len(answer.body)))
    asking.end_headers()
    asking.wfile.write(answer.body)


@contextlib.contextmanager
def openai_double(double: OpenAIDouble, context: ssl.SSLContext) -> Iterator[int]:
    """Serve both hosts on one free port of loopback; the port."""
    with serving(partial(_respond, double), context) as port:
        yield port
