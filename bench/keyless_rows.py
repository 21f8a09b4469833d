"""Rows of calls without stored secrets: what relying parties get from the issuer, and how long a program needs for an access token."""

import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import jwt

from bench import h2load
from bench.house import House, cpu_seconds, rss_mb
from bench.results import Measured, spread
from bench.rig.daemons import free_port
from bench.rig.webca import WebAuthority
from bench.settings import Settings
from cognomen.cli.admin import connect
from cognomen.demo.model import Answer, Model, Rule
from cognomen.demo.modelserver import served
from cognomen.wire.pb import admin_pb2 as pb
from svid import JWTSource, SVIDError, TokenExchange, anthropic_profile
from svid.clock import SystemClock

__all__ = ["exchanges_rotated", "first_model_call", "keys_served"]

_REQUESTS = 20_000
_PARTIES = 3
_EXCHANGES_A_SECOND = 55
_SHORTEST_SECONDS = 4.0  # a rotation is in the middle
_FRESH_PROCESSES = 20
_PROGRAM_SECONDS = 60
_OWN = """
import json, ssl, sys, time, urllib.request
from svid import JWTSource, TokenExchange, anthropic_profile
socket, trust, url, rule, organization, account = sys.argv[1:]
began = time.perf_counter()
context = ssl.create_default_context(cafile=trust)
with JWTSource(socket) as source:
    profile = anthropic_profile(rule, organization, service_account_id=account, url=url + "/v1/oauth/token")
    token = TokenExchange(profile, source, context=context).token().value
    body = json.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "plan"}]}).encode()
    headers = {"Authorization": "Bearer " + token, "anthropic-beta": "oauth-2025-04-20", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url + "/v1/messages", body, headers), context=context) as answer:
        json.loads(answer.read())["content"]
    print(time.perf_counter() - began)
"""
_SDK = """
import sys, time
import anthropic
from svid import JWTSource
socket, trust, url, rule, organization, account = sys.argv[1:]
began = time.perf_counter()
with JWTSource(socket) as source:
    client = anthropic.Anthropic(
        base_url=url,
        credentials=anthropic.WorkloadIdentityCredentials(
            identity_token_provider=lambda: source.fetch("https://api.anthropic.com", fresh=True).token,
            federation_rule_id=rule, organization_id=organization, service_account_id=account,
        ),
    )
    client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "plan"}]).content[0]
    print(time.perf_counter() - began)
"""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A house whose issuer serves its keys as `url`, with a certificate of `authority`."""

    house: House
    url: str
    authority: WebAuthority


@contextmanager
def published(directory: Path, *options: str) -> Iterator[Published]:
    """Both daemons; the issuer serves its keys over HTTPS, as localhost."""
    authority = WebAuthority(directory.parent)
    authority.identity.chmod(0o600)
    port = free_port()
    url = f"https://localhost:{port}"
    web = (
        f"--jwt-issuer={url}",
        f"--web-address=127.0.0.1:{port}",
        f"--web-certificate-file={authority.identity}",
        f"--web-key-file={authority.identity}",
    )
    with House.serving(directory, *web, *options) as house:
        yield Published(house=house, url=url, authority=authority)


def keys_served(settings: Settings) -> Measured:
    """The keys of JWT-SVIDs over HTTPS from kept connections, in requests for each second of CPU of the process that answers."""
    h2load.check_present()
    with published(settings.directory) as found:
        wanted = len(_keys(found))
        pid = _answering(found.house.issuer.pid)
        before = cpu_seconds(pid)
        load = h2load.run_https(
            f"{found.url}/keys",
            answer_bytes=wanted,
            requests=settings.count(_REQUESTS),
            directory=settings.directory.parent,
        )
        figures = {
            "per CPU-second": load.calls / (cpu_seconds(pid) - before),
            "per second": load.rate,
            "MB more": rss_mb(pid),
        }
    return Measured(figures=figures, samples=load.calls, failed=load.failed)


def _keys(found: Published) -> bytes:
    context = ssl.create_default_context(cafile=str(found.authority.path))
    with urllib.request.urlopen(f"{found.url}/keys", context=context, timeout=20) as answer:  # noqa: S310 - https, and ours
        body: bytes = answer.read()
    assert json.loads(body)["keys"]  # noqa: S101 - an empty list would be served faster
    return body


def _answering(issuer: int) -> int:
    """The process that the issuer started to answer relying parties."""
    (pid,) = Path(f"/proc/{issuer}/task/{issuer}/children").read_text().split()
    return int(pid)


def _say_nothing(event: str, **facts: str | int) -> None:
    """The figures say it."""


class _Watched(Model):
    """A model's double that counts how long it works, in seconds, and which authorities signed what it took."""

    def __init__(self, rule: Rule, trust: ssl.SSLContext) -> None:
        super().__init__(rule, trust, _say_nothing, SystemClock())
        self.spent = 0.0
        self.signers: set[str] = set()

    def trade(self, asked: Mapping[str, object], betas: str) -> Answer:
        began = time.perf_counter()
        answer = super().trade(asked, betas)
        self.spent += time.perf_counter() - began
        if answer.status is HTTPStatus.OK:
            self.signers.add(jwt.get_unverified_header(str(asked["assertion"]))["kid"])
        return answer

    def answer(self, asked: Mapping[str, object], headers: Mapping[str, str]) -> Answer:
        began = time.perf_counter()
        answer = super().answer(asked, headers)
        self.spent += time.perf_counter() - began
        return answer


@dataclass(frozen=True, kw_only=True)
class _Provider:
    """A model's double at `url`, and who may exchange there."""

    model: _Watched
    rule: Rule
    url: str


@contextmanager
def _provider(found: Published) -> Iterator[_Provider]:
    rule = Rule(issuer=found.url, subject="spiffe://example.org/bench/self")
    model = _Watched(rule, ssl.create_default_context(cafile=str(found.authority.path)))
    with served(model, found.authority.identity) as url:
        yield _Provider(model=model, rule=rule, url=url)


def first_model_call(settings: Settings) -> Measured:
    """A new process each time, after its imports: JWT-SVID, exchange and one call, less the double's own time."""
    figures: dict[str, float] = {}
    times: list[float] = []
    with published(settings.directory) as found, _provider(found) as provider:
        found.house.create(found.house.entry("self"))
        for name, program in (("TokenExchange", _OWN), ("anthropic", _SDK)):
            times = [_first_call(program, found, provider) for _ in range(settings.count(_FRESH_PROCESSES))]
            figures |= spread(times, f"{name}, ")
    return Measured(figures=figures, samples=len(times))


def _first_call(program: str, found: Published, provider: _Provider) -> float:
    before, rule = provider.model.spent, provider.rule
    trust = str(found.authority.path)
    done = subprocess.run(
        [
            *(sys.executable, "-c", program, f"unix://{found.house.socket}", trust, provider.url),
            *(rule.rule_id, rule.organization_id, rule.service_account_id),
        ],
        env={**os.environ, "SSL_CERT_FILE": trust},
        capture_output=True,
        text=True,
        timeout=_PROGRAM_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-400:])
    return float(done.stdout) - (provider.model.spent - before)


def exchanges_rotated(settings: Settings) -> Measured:
    """Exchanges at three relying parties, each with a token of its own, while the JWT authority is rotated in the middle."""
    seconds = max(_SHORTEST_SECONDS, 2 * settings.load_seconds)
    with published(settings.directory, "--authority-spread=1s") as found, ExitStack() as stack:
        found.house.create(found.house.entry("self"))
        source = stack.enter_context(JWTSource(f"unix://{found.house.socket}"))
        providers = [stack.enter_context(_provider(found)) for _ in range(_PARTIES)]
        pool = stack.enter_context(ThreadPoolExecutor(_PARTIES))
        until = time.perf_counter() + seconds
        going = [pool.submit(_exchange_until, until, source, found, provider) for provider in providers]
        time.sleep(seconds / 2)
        with connect(found.house.admin_socket) as admin:
            admin.rotate_authority(pb.RotateAuthorityRequest(kind="jwt"))
        why = [one for each in going for one in each.result()]
    signers = set().union(*(provider.model.signers for provider in providers))
    if len(signers) < 2:
        raise RuntimeError(
            f"expected two JWT authorities, found {len(signers)}: the rotation took longer than the load"
        )
    traded = sum(provider.model.traded for provider in providers)
    figures = {"per second": traded / seconds}
    return Measured(figures=figures, samples=traded, failed=len(why), why=why[-1] if why else "")


def _exchange_until(until: float, source: JWTSource, found: Published, provider: _Provider) -> Sequence[str]:
    """Exchange at an even pace; returns what was said of those that failed."""
    rule, failures = provider.rule, []
    url = f"{provider.url}/v1/oauth/token"
    profile = anthropic_profile(rule.rule_id, rule.organization_id, service_account_id=rule.service_account_id, url=url)
    exchange = TokenExchange(profile, source, context=ssl.create_default_context(cafile=str(found.authority.path)))
    due = time.perf_counter()
    while due < until:
        try:
            exchange.token()
        except SVIDError as e:
            failures.append(str(e))
        exchange.forget()
        due += _PARTIES / _EXCHANGES_A_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
    return failures
