"""cognomen/daemon/httpserver on a real socket: connections that ask for more than one page."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus

import h11
import pytest

from cognomen.daemon.httpserver import MOST_REQUESTS, MakeAnswer, Page, answer_requests

_ONE = b"GET /one HTTP/1.1\r\nHost: x\r\n\r\n"
_OTHER = b"GET /other HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def _fine(_: h11.Request) -> Page:
    return Page(body=b"text")


@contextlib.asynccontextmanager
async def answering(make: MakeAnswer) -> AsyncIterator[int]:
    """The port of a server that answers many requests of one connection."""

    async def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            await answer_requests(reader, writer, make, seconds=60, idle_seconds=60)
        writer.close()

    async with await asyncio.start_server(came, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def said(port: int, sent: bytes) -> bytes:
    """All that is answered until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_another_is_answered_between_two_requests_that_came_together() -> None:
    made: list[bytes] = []
    other_is_here, first_is_made = asyncio.Event(), asyncio.Event()

    async def make(request: h11.Request) -> Page:
        if request.target == b"/other":
            other_is_here.set()
            await first_is_made.wait()
        elif not made:
            await other_is_here.wait()
            first_is_made.set()
        made.append(request.target)
        return Page()

    async with answering(make) as port:
        many = asyncio.create_task(said(port, _ONE * 200 + _OTHER.replace(b"other", b"last")))
        await said(port, _OTHER)
        await many
    assert made.count(b"/one") == 200
    assert made.index(b"/other") < 10


async def test_a_connection_is_closed_after_a_thousand_answers_and_the_last_says_so() -> None:
    async with answering(_fine) as port:
        answers = (await said(port, _ONE * MOST_REQUESTS)).split(b"HTTP/1.1 200 OK\r\n")[1:]
    assert len(answers) == MOST_REQUESTS == 1000
    assert [b"connection: close" in one.lower() for one in answers] == [False] * (MOST_REQUESTS - 1) + [True]


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
async def test_a_request_of_two_lengths_is_refused_and_nothing_after_it_is_read(method: bytes) -> None:
    made = []

    async def make(request: h11.Request) -> Page:
        made.append(request.target)
        return Page()

    both = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    async with answering(make) as port:
        answer = await said(port, method + b" /one HTTP/1.1\r\nHost: x\r\n" + both + _OTHER)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1") == 1
    assert made == []


async def test_nothing_is_written_to_a_peer_that_has_gone() -> None:
    told: list[HTTPStatus] = []
    reader = asyncio.StreamReader()
    reader.feed_data(_ONE * 3)

    async def came(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        await answer_requests(reader, writer, _fine, seconds=60, idle_seconds=60, tell=told.append)
        ended.set()

    ended = asyncio.Event()
    async with await asyncio.start_server(came, "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        await ended.wait()
        writer.close()
    assert told == []
