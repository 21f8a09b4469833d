"""What every client of svid.tls tells of a refusal: one warning, one count, one call of `on_refused`; and its peer learns no more."""

import asyncio
import contextlib
import http.client
from collections.abc import Callable
from typing import TypeAlias

import grpc
import httpx
import pytest
import requests

from svid.integrations.grpc_client import grpc_aio_channel, grpc_channel
from svid.integrations.httpx_client import httpx_async_client, httpx_client
from svid.integrations.requests_session import requests_session
from svid.integrations.urllib_opener import urllib_opener
from svid.tls.authorize import exactly
from svid.tls.context import client_context, server_context
from svid.tls.reports import OnRefused, Reason
from tests.contract.refusals import Told, check, counted, impostor
from tests.contract.tls_clients import World
from tests.doubles.identity import SERVER, Identity, KnowingIdentity
from tests.doubles.webserver import web_server

FAILED = (OSError, requests.RequestException, httpx.TransportError, http.client.HTTPException, grpc.RpcError)
OTHER = "spiffe://example.org/other"
METHOD = "/test.Who/Say"

Ask: TypeAlias = Callable[[Identity, str, OnRefused], object]


def by_requests(me: Identity, url: str, on_refused: OnRefused) -> None:
    with requests_session(me, exactly(SERVER), on_refused=on_refused) as session:
        session.get(url, timeout=10)


def by_httpx(me: Identity, url: str, on_refused: OnRefused) -> None:
    with httpx_client(me, exactly(SERVER), on_refused=on_refused) as session:
        session.get(url)


def by_httpx_async(me: Identity, url: str, on_refused: OnRefused) -> None:
    async def ask() -> None:
        async with httpx_async_client(me, exactly(SERVER), on_refused=on_refused) as session:
            await session.get(url)

    asyncio.run(ask())


def by_urllib(me: Identity, url: str, on_refused: OnRefused) -> None:
    urllib_opener(me, exactly(SERVER), on_refused=on_refused).open(url, timeout=10)


def by_http_client(me: Identity, url: str, on_refused: OnRefused) -> None:
    context = client_context(me, exactly(SERVER), on_refused=on_refused)
    with contextlib.closing(http.client.HTTPSConnection(httpx.URL(url).netloc.decode(), context=context)) as one:
        one.request("GET", "/")


def by_asyncio(me: Identity, url: str, on_refused: OnRefused) -> None:
    context = client_context(me, exactly(SERVER), on_refused=on_refused)

    async def ask() -> None:
        await asyncio.open_connection("localhost", httpx.URL(url).port, ssl=context)

    asyncio.run(ask())


def by_channel(me: Identity, url: str, on_refused: OnRefused) -> None:
    with grpc_channel(httpx.URL(url).netloc.decode(), me, exactly(SERVER), on_refused=on_refused) as channel:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        method(b"", timeout=10)


def by_aio_channel(me: Identity, url: str, on_refused: OnRefused) -> None:
    async def ask() -> None:
        async with grpc_aio_channel(
            httpx.URL(url).netloc.decode(), me, exactly(SERVER), on_refused=on_refused
        ) as channel:
            method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            await method(b"", timeout=10)

    asyncio.run(ask())


CLIENTS = [
    by_requests,
    by_httpx,
    by_httpx_async,
    by_urllib,
    by_http_client,
    by_asyncio,
    by_channel,
    by_aio_channel,
]


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_client_tells_of_a_server_that_is_not_allowed(
    ask: Ask, world: World, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("client_context", Reason.NOT_ALLOWED)
    other = Identity(world.domain.svid("/other"), world.domain.bundle)
    with web_server(server_context(other, lambda _: True)) as server, pytest.raises(FAILED):
        ask(world.client, f"https://localhost:{server.port}/", told)
    refusal = told.one()
    assert (refusal.reason, str(refusal.peer)) == (Reason.NOT_ALLOWED, OTHER)
    assert refusal.detail == f"peer: expected {SERVER}, found {OTHER}"
    assert refusal.address in {"localhost", f"127.0.0.1:{server.port}"}
    check(refusal, caplog, before)


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_client_tells_of_a_server_that_is_revoked(
    ask: Ask, world: World, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("client_context", Reason.REVOKED)
    me = KnowingIdentity(world.client.svid, world.domain.bundle)
    me.revoke_svid(world.server.svid)
    with web_server(server_context(world.server, lambda _: True)) as server, pytest.raises(FAILED):
        ask(me, f"https://localhost:{server.port}/", told)
    refusal = told.one()
    assert (refusal.reason, refusal.peer) == (Reason.REVOKED, SERVER)
    check(refusal, caplog, before)


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_client_tells_of_a_server_that_nobody_vouches_for(
    ask: Ask, world: World, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    before = counted("client_context", Reason.UNAUTHENTICATED)
    with web_server(server_context(impostor(world, "/server"), lambda _: True)) as server, pytest.raises(FAILED):
        ask(world.client, f"https://localhost:{server.port}/", told)
    refusal = told.one()
    assert (refusal.reason, refusal.peer) == (Reason.UNAUTHENTICATED, None)
    check(refusal, caplog, before)
