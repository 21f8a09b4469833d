"""The SDK `openai` from PyPI, unchanged and as the page types it, calls a model with a JWT-SVID of a real issuer.

The double of OpenAI verifies with joserfc, by the issuer's discovery document. The SDK has no setting for the token endpoint, so a proxy of
the environment leads its host names to the double.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import openai
import openai.auth
import pytest
from openai.types.chat import ChatCompletionMessageParam

from bench.rig.webca import WebAuthority
from svid.errors import WorkloadAPIError
from svid.integrations.exchange import TokenExchange
from svid.integrations.exchange_profiles import openai_profile
from svid.workloadapi.sources import JWTSource
from tests.doubles.openaiapi import API_HOST, AUDIENCE, AUTH_HOST, OpenAIDouble, Scripted, openai_double
from tests.doubles.project import ROOT
from tests.doubles.relyingparty import Demands, Discovered, Joserfc
from tests.doubles.webserver import proxy
from tests.flow.published import Published

_PAGE = ROOT / "docs" / "how-to" / "no-more-api-keys.md"
_IDP, _ACCOUNT = "idp_1", "svac_1"
_SUBJECT = "spiffe://example.org/web"
_MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello?"}]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    world = Published(tmp_path_factory.mktemp("w"), "--authority-spread=2s", "--authority-lifetime=10m")
    with world.running():
        yield world


@pytest.fixture(scope="module")
def source(world: Published) -> Iterator[JWTSource]:
    with JWTSource(f"unix://{world.workload}") as source:
        yield source


@pytest.fixture
def api(world: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIDouble]:
    """OpenAI, as the environment of the SDK finds it."""
    authority = WebAuthority(tmp_path, hosts=(AUTH_HOST, API_HOST))
    demands = Demands(Joserfc(Discovered(world.url, world.trusting())), AUDIENCE, subject=_SUBJECT)
    double = OpenAIDouble(demands, identity_provider_id=_IDP, service_account_id=_ACCOUNT)
    with ExitStack() as stack:
        port = stack.enter_context(openai_double(double, authority.server_context()))
        way = stack.enter_context(proxy(to=port))
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{way.port}")
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        monkeypatch.setenv("SPIFFE_ENDPOINT_SOCKET", f"unix://{world.workload}")
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        yield double


def identity_of(token: Callable[[], str]) -> openai.auth.WorkloadIdentity:
    return {
        "identity_provider_id": _IDP,
        "service_account_id": _ACCOUNT,
        "provider": {"token_type": "jwt", "get_token": token},
    }


def client_of(token: Callable[[], str]) -> openai.OpenAI:
    return openai.OpenAI(workload_identity=identity_of(token))


def said(client: openai.OpenAI) -> str | None:
    answer = client.chat.completions.create(model="m", messages=_MESSAGES)
    return answer.choices[0].message.content


def fresh(source: JWTSource, *audiences: str) -> Callable[[], str]:
    return lambda: source.fetch(audiences or AUDIENCE, fresh=True).token


def test_what_the_page_types_calls_a_model(api: OpenAIDouble) -> None:
    blocks = re.findall(r"```python\n(.*?)```", re.sub(r"(?m)^   ", "", _PAGE.read_text()), re.DOTALL)
    typed = "".join(one for one in blocks if 'api.openai.com/v1", fresh=True' in one or "OpenAI(" in one)
    for name, value in (("identity_provider_id", _IDP), ("service_account_id", _ACCOUNT)):
        typed = typed.replace(f'"{name}": "…"', f'"{name}": "{value}"')
    names: dict[str, object] = {}
    exec(typed, names)  # noqa: S102 - our own page
    client, source = names["client"], names["source"]
    assert isinstance(client, openai.OpenAI)
    assert isinstance(source, JWTSource)
    with source, client:
        assert [said(client) for _ in range(3)] == ["hello"] * 3
    assert (len(api.exchanged), api.calls) == (1, ["access-1"] * 3)


def test_calls_succeed_through_a_rotation(api: OpenAIDouble, world: Published, source: JWTSource) -> None:
    with client_of(fresh(source)) as client:
        for number in range(4):
            assert said(client) == "hello"
            api.good.clear()  # the SDK exchanges once more at the next call, which is answered 401 first
            if number == 1:
                world.rotate_jwt(source, AUDIENCE)
    first, *_, last = api.demands.kids
    assert (len(api.exchanged), len(set(api.demands.kids)), first != last) == (4, 2, True)
    assert len(api.calls) == 7


async def test_the_client_for_asyncio_calls_a_model_as_well(api: OpenAIDouble, source: JWTSource) -> None:
    client = openai.AsyncOpenAI(workload_identity=identity_of(fresh(source)))
    async with client:
        answers = [await client.chat.completions.create(model="m", messages=_MESSAGES) for _ in range(2)]
    assert [answer.choices[0].message.content for answer in answers] == ["hello"] * 2
    assert len(api.exchanged) == 1


def test_the_sdk_reads_the_file_that_the_command_keeps(api: OpenAIDouble, world: Published, tmp_path: Path) -> None:
    options = (f"--write={tmp_path}/tokens", f"--token=openai={AUDIENCE}", f"--socket={world.workload}")
    done = world.run("fetch", "jwt", *options)
    assert done.returncode == 0, done.stderr
    provider = openai.auth.k8s_service_account_token_provider(tmp_path / "tokens" / "openai")
    with client_of(provider["get_token"]) as client:
        assert said(client) == "hello"
    assert len(api.exchanged) == 1


def test_a_key_in_the_environment_is_not_sent(
    api: OpenAIDouble, source: JWTSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-stored")
    with client_of(fresh(source)) as client:
        assert said(client) == "hello"
    assert api.calls == ["access-1"]


def test_our_own_exchange_sends_what_the_sdk_sends(api: OpenAIDouble, source: JWTSource) -> None:
    with client_of(fresh(source)) as client:
        assert said(client) == "hello"
    assert TokenExchange(openai_profile(_IDP, _ACCOUNT), source).token().value in api.good
    theirs, ours = ({**body, "subject_token": ""} for body in api.exchanged)
    assert theirs == ours


def test_a_token_that_is_not_fresh_is_refused_as_soon_as_a_second_one_is_needed(
    api: OpenAIDouble, source: JWTSource
) -> None:
    with client_of(lambda: source.fetch(AUDIENCE).token) as client:
        assert said(client) == "hello"
        api.good.clear()
        with pytest.raises(openai.OAuthError, match="jti was seen before"):
            said(client)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """How a token is made wrong, and what the SDK's error says."""

    audiences: tuple[str, ...] = (AUDIENCE,)
    subject: str = _SUBJECT
    ahead: timedelta = timedelta()
    tampers: bool = False
    says: str


_REFUSALS = {
    "the audience of another provider": Refusal(audiences=("https://other.example.com",), says="Invalid claim: 'aud'"),
    "two audiences": Refusal(audiences=(AUDIENCE, "another"), says="expected one audience"),
    "a subject without a rule": Refusal(subject="spiffe://example.org/other", says="no rule for this subject"),
    "a signature of another token": Refusal(tampers=True, says="bad_signature"),
    "issued in their future": Refusal(ahead=timedelta(seconds=-30), says="issued in the future"),
    "expired for them": Refusal(ahead=timedelta(minutes=6), says="expired"),
}


@pytest.mark.parametrize("case", _REFUSALS.values(), ids=_REFUSALS)
def test_a_refusal_reaches_the_caller_with_its_reason(case: Refusal, api: OpenAIDouble, source: JWTSource) -> None:
    api.demands.subject, api.ahead = case.subject, case.ahead

    def token() -> str:
        good, other = (source.fetch(case.audiences, fresh=True).token.split(".") for _ in range(2))
        return ".".join((*good[:2], (other if case.tampers else good)[2]))

    with client_of(token) as client, pytest.raises(openai.OAuthError, match=case.says) as caught:
        said(client)
    assert (caught.value.error, caught.value.status_code) == ("invalid_subject_token", 400)
    assert (len(api.exchanged), api.calls) == (1, [])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (Scripted(status=403, body=b'{"error": "access_denied", "error_description": "not you"}'), "not you"),
        (Scripted(status=429), "status 429"),
        (Scripted(status=503), "status 503"),
        (Scripted(status=307), "status 307"),
        (Scripted(status=200, body=b"<html>", kind="text/html"), "empty"),
        (Scripted(status=200, body=b'{"access_token": "a"}'), "expires_in"),
    ],
)
def test_an_answer_that_gives_no_token_is_an_error_of_the_sdk(
    answer: Scripted, says: str, api: OpenAIDouble, source: JWTSource
) -> None:
    api.script = [answer]
    with client_of(fresh(source)) as client:
        with pytest.raises(openai.OpenAIError, match=says):
            said(client)
        assert (len(api.exchanged), api.calls) == (1, [])
        assert said(client) == "hello"


def test_an_identity_that_is_not_there_is_named(api: OpenAIDouble, source: JWTSource) -> None:
    def token() -> str:
        return source.fetch(AUDIENCE, spiffe_id="spiffe://example.org/other", fresh=True).token

    with client_of(token) as client, pytest.raises(WorkloadAPIError, match="no identity issued"):
        said(client)
    assert not api.exchanged
