"""What every client of svid.tls keeps once its server's credential is denied: not one byte more, and an error of its own that says why."""

import asyncio
import contextlib
import http.client
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol
from urllib.request import Request

import httpx
import pytest
import requests

from svid.integrations.httpx_client import httpx_async_client, httpx_client
from svid.integrations.requests_session import requests_session
from svid.integrations.urllib_opener import urllib_opener
from svid.tls.authorize import exactly
from svid.tls.context import client_context, server_context
from tests.contract.tls_clients import World
from tests.doubles.identity import SERVER, KnowingIdentity
from tests.doubles.webserver import lasting_web_server

CHUNK = 64 * 1024
LONG = bytes(60_000_000)


class Session(Protocol):
    """A client that keeps its connections."""

    error: type[Exception]
    """What its users expect when a connection fails."""

    def ask(self, url: str) -> str:
        """Get a short answer."""

    def take(self, url: str) -> Iterator[bytes]:
        """Get a long one, in pieces of CHUNK."""

    def give(self, url: str, pieces: Iterator[bytes]) -> None:
        """Send a long request."""


class ByRequests:
    error: type[Exception] = requests.RequestException

    def __init__(self, session: requests.Session) -> None:
        self._session = session

    def ask(self, url: str) -> str:
        return self._session.get(url, timeout=10).text

    def take(self, url: str) -> Iterator[bytes]:
        with self._session.get(url, timeout=10, stream=True) as response:
            yield from response.iter_content(CHUNK)

    def give(self, url: str, pieces: Iterator[bytes]) -> None:
        self._session.post(url, data=pieces, timeout=10)


class ByHTTPX:
    error: type[Exception] = httpx.TransportError

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, url: str) -> str:
        return self._client.get(url).text

    def take(self, url: str) -> Iterator[bytes]:
        with self._client.stream("GET", url) as response:
            yield from response.iter_bytes(CHUNK)

    def give(self, url: str, pieces: Iterator[bytes]) -> None:
        self._client.post(url, content=pieces)


class ByHTTPXAsync:
    """The loop runs while something is asked for, and stands still in between."""

    error: type[Exception] = httpx.TransportError

    def __init__(self, client: httpx.AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def ask(self, url: str) -> str:
        return self._runner.run(self._client.get(url)).text

    def take(self, url: str) -> Iterator[bytes]:
        async def pieces() -> AsyncIterator[bytes]:
            async with self._client.stream("GET", url) as response:
                async for piece in response.aiter_bytes(CHUNK):
                    yield piece

        coming = pieces()

        async def following() -> bytes:
            return await anext(coming)

        while True:
            yield self._runner.run(following())

    def give(self, url: str, pieces: Iterator[bytes]) -> None:
        async def given() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        self._runner.run(self._client.post(url, content=given()))


class ByHTTPClient:
    """http.client itself, which keeps one connection, and dials again when that is closed."""

    error: type[Exception] = OSError

    def __init__(self, client: KnowingIdentity) -> None:
        self._context = client_context(client, exactly(SERVER))
        self._connection: http.client.HTTPSConnection | None = None

    def _request(self, method: str, url: str, body: Iterator[bytes] | None = None) -> http.client.HTTPResponse:
        parts = httpx.URL(url)
        if self._connection is None:
            self._connection = http.client.HTTPSConnection(parts.host, parts.port, context=self._context, timeout=10)
        try:
            self._connection.request(method, parts.path, body)
            return self._connection.getresponse()
        except OSError:
            self._connection.close()  # as it wants it, before it is used again
            raise

    def ask(self, url: str) -> str:
        return self._request("GET", url).read().decode()

    def take(self, url: str) -> Iterator[bytes]:
        response = self._request("GET", url)
        while piece := response.read(CHUNK):
            yield piece

    def give(self, url: str, pieces: Iterator[bytes]) -> None:
        self._request("POST", url, pieces)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class ByURLLib:
    error: type[Exception] = OSError

    def __init__(self, client: KnowingIdentity) -> None:
        self._opener = urllib_opener(client, exactly(SERVER))

    def ask(self, url: str) -> str:
        with self._opener.open(url, timeout=10) as response:
            return str(response.read().decode())

    def take(self, url: str) -> Iterator[bytes]:
        with self._opener.open(url, timeout=10) as response:
            while piece := response.read(CHUNK):
                yield piece

    def give(self, url: str, pieces: Iterator[bytes]) -> None:
        request = Request(url, data=pieces, headers={"transfer-encoding": "chunked"})  # noqa: S310 - as above
        with self._opener.open(request, timeout=10):
            pass


@contextlib.contextmanager
def by_requests(client: KnowingIdentity) -> Iterator[Session]:
    with requests_session(client, exactly(SERVER)) as session:
        yield ByRequests(session)


@contextlib.contextmanager
def by_httpx(client: KnowingIdentity) -> Iterator[Session]:
    with httpx_client(client, exactly(SERVER)) as session:
        yield ByHTTPX(session)


@contextlib.contextmanager
def by_httpx_async(client: KnowingIdentity) -> Iterator[Session]:
    with asyncio.Runner() as runner:
        session = httpx_async_client(client, exactly(SERVER))
        try:
            yield ByHTTPXAsync(session, runner)
        finally:
            runner.run(session.aclose())


@contextlib.contextmanager
def by_http_client(client: KnowingIdentity) -> Iterator[Session]:
    with contextlib.closing(ByHTTPClient(client)) as session:
        yield session


@contextlib.contextmanager
def by_urllib(client: KnowingIdentity) -> Iterator[Session]:
    yield ByURLLib(client)


_POOLING = [by_requests, by_httpx, by_httpx_async]
EVERY = pytest.mark.parametrize("by", [*_POOLING, by_http_client, by_urllib])
POOLING = pytest.mark.parametrize("by", _POOLING)
By = Callable[[KnowingIdentity], contextlib.AbstractContextManager[Session]]


@pytest.fixture
def knowing(world: World) -> KnowingIdentity:
    """The client, whose source knows of denials."""
    return KnowingIdentity(world.client.svid, world.domain.bundle)


@EVERY
def test_a_denied_server_is_refused_before_anything_is_asked(by: By, world: World, knowing: KnowingIdentity) -> None:
    with lasting_web_server(server_context(world.server, lambda _: True)) as seen, by(knowing) as session:
        knowing.revoke_svid(world.server.svid)
        with pytest.raises(session.error, match="was revoked"):
            session.ask(f"https://localhost:{seen.port}/")
        assert not seen.heads


@EVERY
def test_a_server_that_is_denied_while_a_connection_is_kept_is_told_no_more(
    by: By, world: World, knowing: KnowingIdentity
) -> None:
    with lasting_web_server(server_context(world.server, lambda _: True)) as seen, by(knowing) as session:
        url = f"https://localhost:{seen.port}/"
        assert session.ask(url) == "hello"
        knowing.revoke_svid(world.server.svid)
        for _ in range(2):
            with pytest.raises(session.error, match="was revoked"):
                session.ask(url)
        assert len(seen.heads) == 1


@POOLING
def test_a_request_is_not_lost_with_a_connection_that_was_kept_to_a_denied_server_which_has_a_new_svid(
    by: By, world: World, knowing: KnowingIdentity
) -> None:
    with lasting_web_server(server_context(world.server, lambda _: True)) as seen, by(knowing) as session:
        url = f"https://localhost:{seen.port}/"
        assert session.ask(url) == "hello"
        old = world.server.svid
        world.server.change(world.domain.svid("/server"), world.domain.bundle)
        knowing.revoke_svid(old)
        assert session.ask(url) == "hello"


@EVERY
def test_no_byte_of_an_answer_comes_after_the_denial(by: By, world: World, knowing: KnowingIdentity) -> None:
    with lasting_web_server(server_context(world.server, lambda _: True)) as seen, by(knowing) as session:
        coming = session.take(f"https://localhost:{seen.port}/long")
        assert next(coming)
        knowing.revoke_svid(world.server.svid)
        with pytest.raises(session.error, match="was revoked"):
            next(coming)


@pytest.mark.parametrize("by", [by_httpx, by_httpx_async])
def test_what_was_sent_before_the_denial_to_a_server_that_does_not_read_goes_no_further(
    by: By, world: World, knowing: KnowingIdentity
) -> None:
    """But for what the kernel has already."""
    with (
        lasting_web_server(server_context(world.server, lambda _: True)) as seen,
        by(knowing) as session,
        ThreadPoolExecutor(1) as pool,
    ):
        giving = pool.submit(session.give, f"https://localhost:{seen.port}/taken-later", iter([LONG]))
        while not seen.taken:  # by then a loop has all of it
            assert not giving.done()
        knowing.revoke_svid(world.server.svid)
        seen.may_take.set()
        with pytest.raises(session.error):
            giving.result()
        assert seen.is_over.wait(10)
        assert seen.taken < len(LONG) // 3


@EVERY
def test_no_byte_of_a_request_goes_after_the_denial(by: By, world: World, knowing: KnowingIdentity) -> None:
    given = []

    def pieces() -> Iterator[bytes]:
        yield bytes(CHUNK)
        knowing.revoke_svid(world.server.svid)
        for number in range(1000):
            given.append(number)
            yield bytes(CHUNK)

    with lasting_web_server(server_context(world.server, lambda _: True)) as seen, by(knowing) as session:
        with pytest.raises(session.error, match="was revoked"):
            session.give(f"https://localhost:{seen.port}/taken", pieces())
        assert given in ([], [0])
