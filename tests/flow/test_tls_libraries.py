"""svid.tls with the libraries that people use, through rotations under load: none of the requests fails."""

import asyncio
import contextlib
import http.client
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import requests
from fastapi import FastAPI
from fastapi import Request as FastAPIRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from bench.rig.loops import accepting, in_own_loop
from svid.integrations.httpx_client import httpx_client
from svid.integrations.requests_session import requests_session
from svid.spiffeid import SpiffeID
from svid.tls.authorize import Authorizer, any_in, exactly
from svid.tls.connections import peer_id
from svid.tls.context import client_context, server_context
from tests.doubles.identity import CLIENT, SERVER, Identity
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.uvicornrunning import uvicorn_on
from tests.flow.progress import Progress
from tests.flow.soak import IS_SOAK, TIMEOUT

ROTATIONS = 24 if IS_SOAK else 3
BETWEEN_SECONDS = 10 / 3 if IS_SOAK else 0.1  # and half of it again for the spread: a rotation every 5 s
PER_SECOND = 200


async def say_who(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(request.state.peer))


def starlette_app() -> Starlette:
    return Starlette(routes=[Route("/", say_who)])


def fastapi_app() -> FastAPI:
    app = FastAPI()

    @app.get("/", response_class=PlainTextResponse)
    async def who(request: FastAPIRequest) -> str:
        return str(request.state.peer)

    return app


@contextlib.contextmanager
def asyncio_streams(server: Identity, authorize: Authorizer) -> Iterator[int]:
    """A bare server on asyncio's streams that speaks just enough HTTP."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        who = str(peer_id(writer.get_extra_info("ssl_object"))).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(who), who))
        await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[int]:
        context = server_context(server, authorize)
        async with accepting(await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)) as port:
            yield port

    with in_own_loop(serving) as port:
        yield port


SERVERS = {
    "starlette": lambda server, authorize: uvicorn_on(starlette_app(), server, authorize),
    "fastapi": lambda server, authorize: uvicorn_on(fastapi_app(), server, authorize),
    "asyncio": asyncio_streams,
}


def by_httpx(client: Identity, authorize: Authorizer, port: int) -> str:
    with httpx_client(client, authorize) as session:
        return session.get(f"https://127.0.0.1:{port}/").text


def by_requests(client: Identity, authorize: Authorizer, port: int) -> str:
    with requests_session(client, authorize) as session:
        return session.get(f"https://127.0.0.1:{port}/", timeout=10).text


def by_stdlib(client: Identity, authorize: Authorizer, port: int) -> str:
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=client_context(client, authorize), timeout=10)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


CLIENTS = {"httpx": by_httpx, "requests": by_requests, "stdlib": by_stdlib}
Ask = Callable[[Identity, Authorizer, int], str]


@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS.keys())
@pytest.mark.parametrize("serve", SERVERS.values(), ids=SERVERS.keys())
def test_each_side_knows_the_other(
    serve: Callable[[Identity, Authorizer], contextlib.AbstractContextManager[int]],
    ask: Ask,
    client: Identity,
    server: Identity,
) -> None:
    with serve(server, exactly(CLIENT)) as port:
        assert ask(client, exactly(SERVER), port) == str(CLIENT)


@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS.keys())
def test_a_client_leaves_a_server_that_it_did_not_want_and_one_of_a_stranger(
    ask: Ask, client: Identity, server: Identity, domain: TrustDomainDouble
) -> None:
    stranger = TrustDomainDouble()
    stranger.rotate()
    stranger.drop()  # so that it has another authority
    impostor = Identity(stranger.svid("/server"), stranger.bundle)
    refused = pytest.raises((ssl.SSLError, httpx.ConnectError, requests.exceptions.SSLError))
    with uvicorn_on(starlette_app(), server, any_in(domain.name)) as port, refused:
        ask(client, exactly(SpiffeID.parse("spiffe://example.org/other")), port)
    refused = pytest.raises((ssl.SSLError, httpx.ConnectError, requests.exceptions.SSLError))
    with uvicorn_on(starlette_app(), impostor, any_in(domain.name)) as port, refused:
        ask(client, exactly(SERVER), port)


def test_a_server_refuses_a_client_that_it_does_not_want(client: Identity, server: Identity) -> None:
    with uvicorn_on(starlette_app(), server, exactly(SERVER)) as port, pytest.raises(httpx.TransportError):
        by_httpx(client, exactly(SERVER), port)


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("name", ["httpx", "requests"])
def test_no_request_fails_while_identities_and_authorities_rotate(
    name: str, client: Identity, server: Identity, domain: TrustDomainDouble
) -> None:
    """Requests at a steady rate, on kept connections and on new ones, while both ends change."""
    over, progress = threading.Event(), Progress(2)

    def load(number: int, port: int) -> int:
        with make() as kept:
            while not over.wait(4 / PER_SECOND):
                for session in (kept, None):
                    with contextlib.nullcontext(kept) if session is kept else make() as one:
                        answer = one.get(f"https://127.0.0.1:{port}/", timeout=10)
                        assert answer.text == str(CLIENT)
                        progress.made[number] += 1
        return progress.made[number]

    def make() -> contextlib.AbstractContextManager[httpx.Client | requests.Session]:
        if name == "httpx":
            return httpx_client(client, exactly(SERVER))
        return requests_session(client, exactly(SERVER))

    with uvicorn_on(starlette_app(), server, exactly(CLIENT)) as port, ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(load, number, port) for number in range(2)]
        for _ in range(ROTATIONS):
            over.wait(BETWEEN_SECONDS)
            domain.rotate()
            for identity in (client, server):
                identity.change(identity.svid, domain.bundle)
            # Everybody knows an authority before anybody shows an SVID of it, also who was in a handshake: the spread time.
            over.wait(BETWEEN_SECONDS / 2)
            progress.wait_for_all(loads)
            client.change(domain.svid("/client"), domain.bundle)
            server.change(domain.svid("/server"), domain.bundle)
        over.wait(BETWEEN_SECONDS)
        over.set()
        assert all(one.result() > 2 * ROTATIONS for one in loads)
