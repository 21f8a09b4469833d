"""The `anthropic` SDK as it is, with a JWT-SVID in place of an API key, against a double of the Claude API that verifies what it is shown.

The double knows the issuer's URL and a federation rule; it finds the keys where the issuer serves them, and PyJWT verifies.
"""

import logging
import os
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import jwt
import pytest
from anthropic import Anthropic, AuthenticationError, WorkloadIdentityCredentials, WorkloadIdentityError
from cryptography.hazmat.primitives.asymmetric import ec

from bench.rig.daemons import free_port
from cognomen.demo.model import AUDIENCE, Model, Rule
from cognomen.demo.modelserver import served
from cognomen.demo.webauthority import WebAuthority
from svid.clock import Clock, SystemClock
from svid.workloadapi.sources import JWTSource
from tests.flow.twodaemons import World

SUBJECT = "spiffe://example.org/web"
SECONDS = timedelta(seconds=1)
MINUTES = timedelta(minutes=1)


class Site:
    """Where an issuer serves its keys, and whom to trust there."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        self.authority = WebAuthority(directory, SystemClock())
        self.port = free_port()
        self.url = f"https://localhost:{self.port}"
        identity = self.authority.certify("issuer")
        self.options = (
            f"--web-address=127.0.0.1:{self.port}",
            *(f"--web-certificate-file={identity}", f"--web-key-file={identity}"),
            f"--jwt-issuer={self.url}",
        )

    @property
    def rule(self) -> Rule:
        return Rule(issuer=self.url, subject=SUBJECT)

    @contextmanager
    def claude(
        self, rule: Rule | None = None, clock: Clock | None = None, life: timedelta = MINUTES
    ) -> "Iterator[Claude]":
        """The provider; the SDK trades for a new token before each call, because none has two minutes left."""
        events: list[Mapping[str, str | int]] = []

        def tell(event: str, **facts: str | int) -> None:
            events.append({"event": event, **facts})

        trust = ssl.create_default_context(cafile=self.authority.path)
        model = Model(rule or self.rule, trust, tell, clock or SystemClock(), life=life)
        with served(model, self.authority.certify("claude")) as url:
            yield Claude(model=model, url=url, rule=rule or self.rule, trust=self.authority.path, events=events)


@dataclass(frozen=True, kw_only=True)
class Claude:
    """A provider that runs, and the events that it reported."""

    model: Model
    url: str
    rule: Rule
    trust: Path
    events: list[Mapping[str, str | int]] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """What its documentation wants in the environment, but for the token."""
        return {
            "ANTHROPIC_BASE_URL": self.url,
            "ANTHROPIC_FEDERATION_RULE_ID": self.rule.rule_id,
            "ANTHROPIC_ORGANIZATION_ID": self.rule.organization_id,
            "ANTHROPIC_SERVICE_ACCOUNT_ID": self.rule.service_account_id,
            "SSL_CERT_FILE": str(self.trust),
        }

    def credentials(self, token: Callable[[], str]) -> WorkloadIdentityCredentials:
        credentials = WorkloadIdentityCredentials(
            identity_token_provider=token,
            federation_rule_id=self.rule.rule_id,
            organization_id=self.rule.organization_id,
            service_account_id=self.rule.service_account_id,
        )
        credentials.bind_base_url(self.url)
        return credentials

    def refusal(self, token: str) -> str:
        """Offer a token that is not taken, as the SDK does; returns what it says."""
        with self.credentials(lambda: token) as credentials, pytest.raises(WorkloadIdentityError) as caught:
            credentials()
        assert caught.value.status_code == 401
        assert caught.value.body["error"] == "invalid_grant"
        assert self.model.traded == 0 or "before" in str(caught.value)
        return str(caught.value)


def ask(client: Anthropic) -> str:
    message = client.messages.create(
        model="claude-sonnet-5", max_tokens=100, messages=[{"role": "user", "content": "plan a trip"}]
    )
    (block,) = message.content
    assert block.type == "text"
    return block.text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("s") / "web")


@pytest.fixture(scope="module")
def world(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("w"), *site.options, "--authority-spread=2s")
    with world.running():
        yield world


@pytest.fixture
def source(world: World) -> Iterator[JWTSource]:
    with JWTSource(f"unix://{world.workload}") as source:
        yield source


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    """Whoever runs the tests may have one."""
    for name in [name for name in os.environ if name.startswith("ANTHROPIC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority.path))


def test_calls_go_on_through_a_rotation_of_the_jwt_authority(world: World, site: Site, source: JWTSource) -> None:
    kids: list[object] = []

    def token() -> str:
        fresh = source.fetch(AUDIENCE, fresh=True).token
        kids.append(jwt.get_unverified_header(fresh)["kid"])
        return fresh

    with site.claude() as claude, Anthropic(base_url=claude.url, credentials=claude.credentials(token)) as client:
        assert "train" in ask(client)
        world.command("authority", "rotate", "jwt")
        while kids[-1] == kids[0]:  # pytest's timeout ends it
            ask(client)
        ask(client)
        assert len(kids) == claude.model.traded == claude.model.answered
        assert {event["event"] for event in claude.events} == {"traded"}, "nothing was refused on the way"
    assert len(set(kids)) == 2


def test_one_access_token_serves_many_calls_while_it_has_two_minutes_left(site: Site, source: JWTSource) -> None:
    with (
        site.claude(life=10 * MINUTES) as claude,
        Anthropic(
            base_url=claude.url, credentials=claude.credentials(lambda: source.fetch(AUDIENCE, fresh=True).token)
        ) as client,
    ):
        for _ in range(3):
            ask(client)
        assert (claude.model.traded, claude.model.answered) == (1, 3)


PROGRAM = """
from anthropic import Anthropic
message = Anthropic().messages.create(model="claude-sonnet-5", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
print(message.content[0].text)
"""


def test_the_sdk_needs_no_argument_where_a_file_holds_the_token_and_that_is_taken_once(
    world: World, site: Site, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    arguments = ("fetch", "jwt", f"--write={tokens}", f"--token=claude={AUDIENCE}", f"--socket={world.workload}")
    done = world.run(*arguments)
    assert done.returncode == 0, done.stderr
    assert (tokens / "claude").stat().st_mode & 0o777 == 0o600
    with site.claude() as claude:
        environment = {
            **os.environ,
            **claude.environment(),
            "ANTHROPIC_IDENTITY_TOKEN_FILE": str(tokens / "claude"),
            "HOME": str(tmp_path),
        }
        first, again = (
            subprocess.run(
                [sys.executable, "-c", PROGRAM],
                env=environment,
                capture_output=True,
                text=True,
                timeout=150,
                check=False,
            )
            for _ in range(2)
        )
    assert "train" in first.stdout, first.stderr
    assert again.returncode == 1
    assert "the assertion was used before (jti)" in again.stderr
    assert (claude.model.traded, claude.model.answered) == (1, 1)


def test_a_token_is_taken_once(site: Site, source: JWTSource) -> None:
    token = source.fetch(AUDIENCE, fresh=True).token
    with site.claude() as claude:
        with claude.credentials(lambda: token) as credentials:
            credentials()
        assert "the assertion was used before (jti)" in claude.refusal(token)


@pytest.mark.parametrize(
    ("audience", "expected"),
    [("https://api.openai.com/v1", "Audience doesn't match"), ((AUDIENCE, "db"), "expected one audience (aud)")],
)
def test_a_token_for_somebody_else_is_refused(
    site: Site, source: JWTSource, audience: str | tuple[str, ...], expected: str
) -> None:
    with site.claude() as claude:
        assert expected in claude.refusal(source.fetch(audience, fresh=True).token)


def test_a_token_of_another_subject_is_refused(site: Site, source: JWTSource) -> None:
    with site.claude(Rule(issuer=site.url, subject=f"{SUBJECT}/other")) as claude:
        assert "Invalid subject" in claude.refusal(source.fetch(AUDIENCE, fresh=True).token)


class Shifted(SystemClock):
    """The clock of a provider that is ahead of ours, or behind."""

    def __init__(self, by: timedelta) -> None:
        self._by = by

    def now(self) -> datetime:
        return super().now() + self._by


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [(10 * MINUTES, "the assertion has expired (exp)"), (-MINUTES, "the assertion is not valid yet (iat)")],
)
def test_a_token_is_refused_outside_its_time(site: Site, source: JWTSource, ahead: timedelta, expected: str) -> None:
    with site.claude(clock=Shifted(ahead)) as claude:
        assert expected in claude.refusal(source.fetch(AUDIENCE, fresh=True).token)


@pytest.mark.parametrize(
    ("options", "expected"),
    [((), 'missing the "iss" claim'), (("--jwt-issuer=https://other.example",), "Invalid issuer")],
)
def test_a_token_that_the_issuer_signed_before_it_had_this_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], expected: str
) -> None:
    before = World(tmp_path, *options)
    with before.running(), JWTSource(f"unix://{before.workload}") as source:
        token = source.fetch(AUDIENCE).token
    site = Site(tmp_path / "web")
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority.path))
    with World(tmp_path, *site.options).issuer, site.claude() as claude:
        assert expected in claude.refusal(token)


def forged(real: str, **header: str) -> str:
    """A token with every claim as it should be, by somebody else."""
    claims = jwt.decode(real, options={"verify_signature": False})
    return jwt.encode({**claims, "jti": "other"}, ec.generate_private_key(ec.SECP256R1()), "ES256", headers=header)


def test_a_token_of_another_issuer_is_refused_whatever_it_says(site: Site, source: JWTSource) -> None:
    real = source.fetch(AUDIENCE, fresh=True).token
    header = jwt.get_unverified_header(real)
    claims = jwt.decode(real, options={"verify_signature": False})
    with site.claude() as claude:
        assert "no such key (kid)" in claude.refusal(forged(real, kid="other"))
        assert "no such key (kid)" in claude.refusal(forged(real))
        assert "Signature verification failed" in claude.refusal(forged(real, kid=header["kid"]))
        unsigned = jwt.encode(claims, "", "none", headers={"kid": header["kid"]})
        assert "alg" in claude.refusal(unsigned)
        assert "invalid_grant" in claude.refusal("no.token")
        assert claude.model.answered == 0


def test_a_rule_that_is_not_there_is_refused(site: Site, source: JWTSource) -> None:
    with site.claude() as claude:
        other = Claude(
            model=claude.model, url=claude.url, trust=claude.trust,
            rule=Rule(issuer=site.url, subject=SUBJECT, rule_id="fdrl_other"),
        )  # fmt: skip
        assert "federation_rule_id: there is no such rule" in other.refusal(source.fetch(AUDIENCE, fresh=True).token)


def test_an_access_token_is_refused_unless_it_was_given_and_lives(site: Site, source: JWTSource) -> None:
    with (
        site.claude(life=timedelta()) as claude,
        claude.credentials(lambda: source.fetch(AUDIENCE, fresh=True).token) as credentials,
    ):
        over = credentials().token
        for token in (over, f"{over}x", "sk-ant-oat01-guessed"):
            with (
                Anthropic(base_url=claude.url, auth_token=token, max_retries=0) as client,
                pytest.raises(AuthenticationError, match="no access token, or one that is over"),
            ):
                ask(client)
        assert claude.model.answered == 0


def test_an_api_key_of_the_environment_wins_over_the_identity_but_not_over_credentials(
    site: Site, source: JWTSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-api03-left-over")
    token = tmp_path / "claude"
    token.write_text(source.fetch(AUDIENCE, fresh=True).token)
    with site.claude() as claude:
        for name, value in {**claude.environment(), "ANTHROPIC_IDENTITY_TOKEN_FILE": str(token)}.items():
            monkeypatch.setenv(name, value)
        with (
            caplog.at_level(logging.WARNING),
            Anthropic() as client,
            pytest.raises(AuthenticationError, match="API keys are not taken here"),
        ):
            ask(client)
        assert claude.model.traded == 0
        assert "ANTHROPIC_API_KEY is set and takes precedence" in caplog.text
        credentials = claude.credentials(lambda: source.fetch(AUDIENCE, fresh=True).token)
        with Anthropic(credentials=credentials) as client:
            assert "train" in ask(client)
