"""What every client of svid.tls keeps: whatever way leads to a server that is not wanted, it is refused, and it is told nothing."""

import contextlib
import http.client
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, cast
from urllib.request import HTTPHandler, HTTPSHandler

import httpx
import pytest
import requests
from requests.adapters import HTTPAdapter

from bench.rig.webca import WebAuthority
from svid.integrations.httpx_client import httpx_async_client, httpx_client
from svid.integrations.requests_session import requests_session
from svid.integrations.urllib_opener import urllib_opener
from svid.integrations.uvicorn_server import uvicorn_mtls
from svid.tls.authorize import exactly
from svid.tls.context import server_context
from tests.contract.tls_clients import AUTHORITIES, CLIENTS, Client, How, World
from tests.doubles.identity import SERVER, Identity
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.webserver import Seen, proxy, web_server

REFUSED = (OSError, requests.RequestException, httpx.TransportError, http.client.HTTPException)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a request goes: `variables` of the environment name the proxy, or the caller gives it; `verify` is what the caller says."""

    scheme: str = ""
    variables: tuple[str, ...] = ()
    verify: bool | str | None = None


WAYS = {
    "direct": Way(),
    "HTTPS_PROXY": Way(scheme="http", variables=("HTTPS_PROXY",)),
    "https_proxy": Way(scheme="http", variables=("https_proxy",)),
    "ALL_PROXY": Way(scheme="http", variables=("ALL_PROXY", "all_proxy")),
    "HTTPS_PROXY-over-https": Way(scheme="https", variables=("HTTPS_PROXY",)),
    "http-proxy": Way(scheme="http"),
    "https-proxy": Way(scheme="https"),
    "verify-off": Way(verify=False),
    "verify-path": Way(verify="path"),
    "verify-off-http-proxy": Way(scheme="http", verify=False),
    "verify-path-http-proxy": Way(scheme="http", verify="path"),
    "verify-path-https-proxy": Way(scheme="https", verify="path"),
    "verify-path-HTTPS_PROXY": Way(scheme="http", variables=("HTTPS_PROXY",), verify="path"),
    "verify-off-HTTPS_PROXY": Way(scheme="http", variables=("HTTPS_PROXY",), verify=False),
}


def _can(client: Client, way: Way) -> bool:
    given = not way.scheme or bool(way.variables) or way.scheme in client.schemes
    return given and (way.verify is None or client.verifies)


def _arrives(client: Client, way: Way) -> bool:
    return way.scheme in ("", *client.schemes) or not client.variables.intersection(way.variables)


_PAIRS = [
    pytest.param(client, way, id=f"{name}-{how}")
    for name, client in CLIENTS.items()
    for how, way in WAYS.items()
    if _can(client, way)
]
PAIRS = pytest.mark.parametrize(("client_of", "way"), _PAIRS)
ARRIVING_PAIRS = pytest.mark.parametrize(
    ("client_of", "way"), [pair for pair in _PAIRS if _arrives(*cast("tuple[Client, Way]", pair.values))]
)


@contextlib.contextmanager
def going(way: Way, world: World) -> Iterator[tuple[How, Seen]]:
    """Set up a way; the proxy that is on it notes what it sees."""
    with proxy(world.web.server_context() if way.scheme == "https" else None) as seen:
        url = f"{way.scheme}://localhost:{seen.port}" if way.scheme else ""
        for name in way.variables:
            world.environment.setenv(name, url)
        verify = str(world.web.path) if way.verify == "path" else way.verify
        yield How(web=world.web, proxy="" if way.variables else url, verify=verify), seen


Unwanted: TypeAlias = Callable[[World], ssl.SSLContext]


def of_the_web(world: World) -> ssl.SSLContext:
    """A server as the web has them, whose certificate everything in the environment vouches for."""
    return world.web.server_context()


def another_member(world: World) -> ssl.SSLContext:
    """Another component of the trust domain."""
    return server_context(Identity(world.domain.svid("/other"), world.domain.bundle), lambda _: True)


def an_impostor(world: World) -> ssl.SSLContext:
    """One that has the name that is wanted, by an authority of its own."""
    stranger = TrustDomainDouble()
    stranger.rotate()
    stranger.drop()  # so that it has another authority
    return server_context(Identity(stranger.svid("/server"), stranger.bundle, world.domain.bundle), lambda _: True)


UNWANTED = pytest.mark.parametrize("unwanted", [of_the_web, another_member, an_impostor])


@PAIRS
@UNWANTED
def test_a_server_that_is_not_wanted_is_refused_whatever_way_leads_to_it(
    client_of: Client,
    way: Way,
    unwanted: Unwanted,
    world: World,
) -> None:
    with web_server(unwanted(world)) as server, going(way, world) as (how, between):
        with pytest.raises(REFUSED):
            client_of.ask(world.client, f"https://localhost:{server.port}/", how)
        assert not server.heads
        assert all(head.startswith("CONNECT ") and "secret" not in head for head in between.heads)


@ARRIVING_PAIRS
def test_the_server_that_is_wanted_answers_by_the_same_ways(
    client_of: Client,
    way: Way,
    world: World,
) -> None:
    with web_server(server_context(world.server, lambda _: True)) as wanted, going(way, world) as (how, between):
        assert client_of.ask(world.client, f"https://localhost:{wanted.port}/", how) == "hello"
        assert len(wanted.heads) == 1
        is_between = way.scheme in client_of.schemes and way.variables[:1] in (
            (),
            *((one,) for one in client_of.variables),
        )
        assert between.tunnels == ([f"localhost:{wanted.port}"] if is_between else [])


REDIRECTING = pytest.mark.parametrize(
    "ask", [pytest.param(one.ask, id=name) for name, one in CLIENTS.items() if one.redirects]
)


@REDIRECTING
@pytest.mark.parametrize("variables", [(), ("HTTP_PROXY",), ("http_proxy",), ("ALL_PROXY",)], ids=str)
def test_plain_http_is_refused(
    ask: Callable[[Identity, str, How], str],
    variables: tuple[str, ...],
    world: World,
) -> None:
    way = Way(scheme="http" if variables else "", variables=variables)
    with web_server() as plain, going(way, world) as (how, between):
        url = f"http://localhost:{plain.port}/"
        with pytest.raises(REFUSED, match="expected https"):
            ask(world.client, url, how)
        with web_server(server_context(world.server, lambda _: True), location=url) as wanted:
            with pytest.raises(REFUSED, match="expected https"):
                ask(world.client, f"https://localhost:{wanted.port}/", how)
            assert len(wanted.heads) == 1
        assert not plain.heads
        assert set(between.tunnels) <= {f"localhost:{wanted.port}"}
        assert len(between.tunnels) == len(between.heads)


@REDIRECTING
@UNWANTED
def test_a_redirection_to_a_server_that_is_not_wanted_is_refused(
    ask: Callable[[Identity, str, How], str],
    unwanted: Unwanted,
    world: World,
) -> None:
    with web_server(unwanted(world)) as other:
        location = f"https://localhost:{other.port}/"
        with web_server(server_context(world.server, lambda _: True), location=location) as wanted:
            with pytest.raises(REFUSED):
                ask(world.client, f"https://localhost:{wanted.port}/", How(web=world.web))
            assert len(wanted.heads) == 1
        assert not other.heads


@pytest.mark.parametrize("make", [requests_session, httpx_client, httpx_async_client, urllib_opener, uvicorn_mtls])
def test_arguments_in_the_wrong_order_or_of_another_type_make_nothing(
    make: Callable[[object, object], object], client: Identity
) -> None:
    for source, authorize in ((exactly(SERVER), client), (client, SERVER), (client, None)):
        with pytest.raises(TypeError, match="expected"):
            make(source, authorize)


# what somebody does to a session of requests, or to an opener of urllib


def mount_for_retries(session: requests.Session) -> None:
    session.mount("https://", HTTPAdapter(max_retries=2))


def mount_for_a_host(session: requests.Session) -> None:
    session.mount("https://localhost", HTTPAdapter())


def put_into_the_table(session: requests.Session) -> None:
    session.adapters = {"https://": HTTPAdapter()}


@pytest.mark.parametrize("meddle", [mount_for_retries, mount_for_a_host, put_into_the_table])
def test_an_adapter_of_somebody_else_sends_nothing(
    meddle: Callable[[requests.Session], None], web: WebAuthority, client: Identity
) -> None:
    with web_server(web.server_context()) as server, requests_session(client, exactly(SERVER)) as session:
        meddle(session)
        with pytest.raises(requests.exceptions.InvalidSchema, match="adapter: expected the session's own"):
            session.get(f"https://localhost:{server.port}/", timeout=10)
        assert not server.heads


def test_our_adapter_in_somebody_s_session_checks_all_the_same(world: World) -> None:
    way = Way(scheme="http", variables=("HTTPS_PROXY", "HTTP_PROXY"))
    with (
        web_server(world.web.server_context()) as server,
        web_server() as plain,
        going(way, world),
        requests_session(world.client, exactly(SERVER)) as ours,
        requests.Session() as session,
    ):
        for prefix in ("https://", "http://"):
            session.mount(prefix, ours.get_adapter("https://"))
        for verify in (None, False, str(world.web.path)):
            with pytest.raises(requests.exceptions.SSLError):
                session.get(f"https://localhost:{server.port}/", timeout=10, verify=verify)
        with pytest.raises(requests.exceptions.InvalidSchema, match="expected https"):
            session.get(f"http://localhost:{plain.port}/", timeout=10)
        assert not server.heads
        assert not plain.heads


def test_a_handler_that_is_added_to_the_opener_sends_nothing(web: WebAuthority, client: Identity) -> None:
    opener = urllib_opener(client, exactly(SERVER))
    opener.add_handler(HTTPHandler())
    opener.add_handler(HTTPSHandler(context=web.client_context()))
    with web_server(web.server_context()) as server, web_server() as plain:
        for url in (f"https://localhost:{server.port}/", f"http://localhost:{plain.port}/"):
            with pytest.raises(OSError, match=r"CERTIFICATE_VERIFY_FAILED|expected https"):
                opener.open(url, timeout=10)
        assert not server.heads
        assert not plain.heads


def test_an_https_proxy_is_verified_whatever_verify_says(
    web: WebAuthority, tmp_path: Path, client: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sees where the tunnel leads, and its password."""
    folder = tmp_path / "other"
    folder.mkdir()
    other = WebAuthority(folder, name="an authority that nobody trusts").server_context()
    for name in AUTHORITIES:
        monkeypatch.delenv(name)
    with proxy(other) as between, requests_session(client, exactly(SERVER)) as session:
        session.proxies = {"https": f"https://me:password@localhost:{between.port}"}
        for verify in (None, False, str(web.path)):
            with pytest.raises(requests.exceptions.ProxyError, match="CERTIFICATE_VERIFY_FAILED"):
                session.get("https://localhost/", timeout=10, verify=verify)
        assert not between.heads
