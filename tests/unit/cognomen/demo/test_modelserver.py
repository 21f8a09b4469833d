"""The double of a model's provider, to whoever sends it something else than the SDK does."""

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cognomen.demo.model import Model, Rule
from cognomen.demo.modelserver import served
from cognomen.demo.webauthority import WebAuthority
from svid.clock import SystemClock

NOBODY = "https://localhost:1"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
BETA = {"anthropic-beta": "oauth-2025-04-20,oidc-federation-2026-04-01"}


@dataclass(frozen=True, kw_only=True)
class Running:
    """A provider whose issuer does not answer."""

    port: int
    trust: ssl.SSLContext
    model: Model
    rule: Rule

    def exchange(self, assertion: str) -> dict[str, str]:
        return {
            "grant_type": GRANT,
            "assertion": assertion,
            "federation_rule_id": self.rule.rule_id,
            "organization_id": self.rule.organization_id,
            "service_account_id": self.rule.service_account_id,
        }

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, object]]:
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=20, context=self.trust)
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        found: dict[str, object] = json.loads(answer.read())
        connection.close()
        return answer.status, found


def unheard(event: str, **facts: str | int) -> None:
    """Nobody listens to its events."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    authority = WebAuthority(tmp_path_factory.mktemp("web"), SystemClock())
    trust = ssl.create_default_context(cafile=authority.path)
    rule = Rule(issuer=NOBODY, subject="spiffe://example.org/a")
    model = Model(rule, trust, unheard, SystemClock())
    with served(model, authority.certify("model")) as url:
        yield Running(port=int(url.rpartition(":")[2]), trust=trust, model=model, rule=rule)


@pytest.mark.parametrize("path", ["/v1/oauth/token", "/v1/messages"])
@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'"a"', b"\xff", b"[" * 50_000])
def test_what_is_no_small_json_object_is_refused_on_either_path(running: Running, path: str, body: bytes) -> None:
    status, answer = running.post(path, body)
    assert status == 400
    assert answer["type"] == "error"


def test_a_body_without_a_good_length_is_refused(running: Running) -> None:
    for length in ("-1", "x", "1_0", "65537", "9" * 5000):
        assert running.post("/v1/messages", b"", **{"Content-Length": length})[0] == 400


def test_other_paths_are_not_there(running: Running) -> None:
    for path in ("/", "/v1/models", "/v1/messages/count_tokens", "/v1/oauth/token/x"):
        assert running.post(path, b"{}")[0] == 404


def test_a_call_without_anything_is_refused(running: Running) -> None:
    status, answer = running.post("/v1/messages", b"{}")
    assert (status, answer["error"]) == (
        401,
        {"type": "authentication_error", "message": "no access token, or one that is over"},
    )


def test_an_exchange_that_is_not_one_is_refused_with_the_reason(running: Running) -> None:
    whole = running.exchange("x")
    for name in ("grant_type", "federation_rule_id", "organization_id", "service_account_id"):
        status, answer = running.post("/v1/oauth/token", json.dumps({**whole, name: "other"}).encode(), **BETA)
        assert (status, answer["error"]) == (401, "invalid_grant")
        assert name in str(answer["error_description"])
    assert running.post("/v1/oauth/token", json.dumps(whole).encode())[0] == 401


def test_without_an_issuer_nothing_is_traded_and_it_is_no_refusal(running: Running) -> None:
    asked = json.dumps(running.exchange("a.b.c")).encode()
    status, answer = running.post("/v1/oauth/token", asked, **BETA)
    assert (status, answer["error"]) == (503, "server_error")
    assert running.model.traded == 0


def test_a_caller_that_does_not_finish_its_handshake_keeps_nobody_waiting(running: Running) -> None:
    held = [http.client.HTTPConnection("localhost", running.port, timeout=20) for _ in range(8)]
    for one in held:
        one.connect()
    assert running.post("/", b"{}")[0] == 404
    for one in held:
        one.close()


def test_the_key_of_a_server_is_closed_to_others_and_that_of_the_authority_is_nowhere(tmp_path: Path) -> None:
    authority = WebAuthority(tmp_path, SystemClock())
    assert [path.name for path in tmp_path.iterdir()] == ["authority.pem"]
    assert b"PRIVATE" not in authority.path.read_bytes()
    assert authority.certify("issuer").stat().st_mode & 0o777 == 0o600


def test_others_than_localhost_are_not_vouched_for(running: Running) -> None:
    with pytest.raises(urllib.error.URLError, match=r"127\.0\.0\.1"):
        urllib.request.urlopen(f"https://127.0.0.1:{running.port}/", timeout=20, context=running.trust)
