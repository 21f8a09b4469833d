"""The clients of svid.tls that speak HTTP, each used as people use it; and the environment that they find."""

import asyncio
import contextlib
import http.client
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import grpc
import httpx
import pytest

from bench.rig.loops import leave_nothing_open
from bench.rig.webca import WebAuthority
from svid.integrations.grpc_client import grpc_aio_channel, grpc_channel
from svid.integrations.httpx_client import httpx_async_client, httpx_client
from svid.integrations.requests_session import requests_session
from svid.integrations.urllib_opener import urllib_opener
from svid.tls.authorize import exactly
from svid.tls.context import client_context
from tests.doubles.identity import SERVER, Identity
from tests.doubles.trustdomain import TrustDomainDouble

__all__ = ["AUTHORITIES", "CLIENTS", "GRPC_CLIENTS", "SECRET", "Client", "How", "World", "trust"]

SECRET = {"authorization": "Bearer secret"}
VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "GRPC_PROXY")
AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")


def trust(web: WebAuthority, environment: pytest.MonkeyPatch) -> None:
    """Have everything in the environment name that authority, and nothing a proxy."""
    for name in VARIABLES:
        environment.delenv(name, raising=False)
        environment.delenv(name.lower(), raising=False)
    for name in AUTHORITIES:
        environment.setenv(name, str(web.path))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Who there is: the trust domain, its client and the server that is wanted, the web, the environment of the client."""

    domain: TrustDomainDouble
    client: Identity
    server: Identity
    web: WebAuthority
    environment: pytest.MonkeyPatch


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a client is used."""

    web: WebAuthority
    proxy: str = ""
    verify: bool | str | None = None


def by_requests(client: Identity, url: str, how: How) -> str:
    with requests_session(client, exactly(SERVER)) as session:
        proxies = {"https": how.proxy} if how.proxy else None
        options = {} if how.verify is None else {"verify": how.verify}
        return session.post(url, data=b"secret", headers=SECRET, proxies=proxies, timeout=10, **options).text  # type: ignore[arg-type]  # verify


def by_requests_settings(client: Identity, url: str, how: How) -> str:
    """The same, set on the session."""
    with requests_session(client, exactly(SERVER)) as session:
        if how.proxy:
            session.proxies = {"all": how.proxy}
        if how.verify is not None:
            session.verify = how.verify
        return session.post(url, data=b"secret", headers=SECRET, timeout=10).text


def _httpx_proxy(how: How) -> httpx.Proxy | None:
    if not how.proxy:
        return None
    context = how.web.client_context() if how.proxy.startswith("https:") else None
    return httpx.Proxy(how.proxy, ssl_context=context)


def by_httpx(client: Identity, url: str, how: How) -> str:
    with httpx_client(client, exactly(SERVER), proxy=_httpx_proxy(how)) as session:
        return session.post(url, content=b"secret", headers=SECRET, follow_redirects=True).text


def by_httpx_async(client: Identity, url: str, how: How) -> str:
    async def ask() -> str:
        async with httpx_async_client(client, exactly(SERVER), proxy=_httpx_proxy(how)) as session:
            session.follow_redirects = True
            return (await session.post(url, content=b"secret", headers=SECRET)).text

    return asyncio.run(ask())


def by_httpx_with_our_context(client: Identity, url: str, how: How) -> str:
    """An ordinary client, which is given our context and nothing else; it would follow a redirect to plain http."""
    with httpx.Client(verify=client_context(client, exactly(SERVER)), proxy=how.proxy or None) as session:
        return session.post(url, content=b"secret", headers=SECRET).text


def by_urllib_with_our_context(client: Identity, url: str, how: How) -> str:
    """The same of urllib."""
    request = Request(url, headers=SECRET)  # noqa: S310 - the schemes are what is tested
    if how.proxy:
        request.set_proxy(urlsplit(how.proxy).netloc, "http")
    with urlopen(request, timeout=10, context=client_context(client, exactly(SERVER))) as response:  # noqa: S310 - as above
        return str(response.read().decode())


def by_urllib(client: Identity, url: str, how: How) -> str:
    opener = urllib_opener(client, exactly(SERVER), proxies={"https": how.proxy} if how.proxy else None)
    with opener.open(Request(url, headers=SECRET), timeout=10) as response:  # noqa: S310 - the schemes are what is tested
        return str(response.read().decode())


def by_http_client(client: Identity, url: str, how: How) -> str:
    parts, context = urlsplit(url), client_context(client, exactly(SERVER))
    at = urlsplit(how.proxy) if how.proxy else parts
    connection = http.client.HTTPSConnection(at.hostname or "", at.port, context=context, timeout=10)
    with contextlib.closing(connection):
        if how.proxy:
            connection.set_tunnel(parts.hostname or "", parts.port)
        connection.request("POST", "/", b"secret", SECRET)
        return connection.getresponse().read().decode()


def by_asyncio(client: Identity, url: str, how: How) -> str:
    parts, context = urlsplit(url), client_context(client, exactly(SERVER))

    async def ask() -> str:
        async with asyncio.timeout(10):
            if how.proxy:
                reader, writer = await asyncio.open_connection("localhost", urlsplit(how.proxy).port)
                writer.write(f"CONNECT localhost:{parts.port} HTTP/1.1\r\n\r\n".encode())
                await reader.readuntil(b"\r\n\r\n")
            else:
                reader, writer = await asyncio.open_connection("localhost", parts.port, ssl=context)
            try:
                if how.proxy:
                    await writer.start_tls(context, server_hostname="localhost")
                writer.write(b"GET / HTTP/1.1\r\nauthorization: Bearer secret\r\n\r\n")
                return (await reader.read()).decode().rpartition("\r\n")[2]
            finally:
                await leave_nothing_open()

    return asyncio.run(ask())


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client, and what can be said to it."""

    ask: Callable[[Identity, str, How], str]
    schemes: frozenset[str] = frozenset({"http"})
    """Of proxies."""
    variables: frozenset[str] = frozenset()
    """Of the environment, that name a proxy to it."""
    verifies: bool = False
    redirects: bool = True


_BOTH = frozenset({"http", "https"})
_HTTPS_PROXY = frozenset({"HTTPS_PROXY", "https_proxy"})
_ALL = _HTTPS_PROXY | {"ALL_PROXY"}
CLIENTS = {
    "requests": Client(ask=by_requests, schemes=_BOTH, variables=_ALL, verifies=True),
    "requests-settings": Client(ask=by_requests_settings, schemes=_BOTH, variables=_ALL, verifies=True),
    "httpx": Client(ask=by_httpx, schemes=_BOTH),
    "httpx-async": Client(ask=by_httpx_async, schemes=_BOTH),
    "httpx-context": Client(ask=by_httpx_with_our_context, variables=_ALL, redirects=False),
    "urllib": Client(ask=by_urllib, variables=_HTTPS_PROXY),
    "urllib-context": Client(ask=by_urllib_with_our_context, variables=_HTTPS_PROXY, redirects=False),
    "http.client": Client(ask=by_http_client, redirects=False),
    "asyncio": Client(ask=by_asyncio, redirects=False),
}


def by_grpc_channel(client: Identity, url: str, _: How) -> str:
    with grpc_channel(url.removeprefix("https://").rstrip("/"), client, exactly(SERVER)) as channel:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Who/Say")
        return method(b"", timeout=10).decode()


def by_grpc_aio_channel(client: Identity, url: str, _: How) -> str:
    async def ask() -> str:
        target = url.removeprefix("https://").rstrip("/")
        async with grpc_aio_channel(target, client, exactly(SERVER)) as channel:
            method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Who/Say")
            return (await method(b"", timeout=10)).decode()

    return asyncio.run(ask())


GRPC_CLIENTS = {one.__name__: one for one in (by_grpc_channel, by_grpc_aio_channel)}
