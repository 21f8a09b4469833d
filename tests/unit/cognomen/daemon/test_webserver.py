"""cognomen/daemon/webserver on a real socket: what hostile or slow peers get."""

import asyncio
import contextlib
import gc
import socket
import warnings
from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus

import pytest
import structlog

from bench.rig.daemons import free_port
from cognomen.daemon.httpserver import Page
from cognomen.daemon.webserver import WantsJSON, serve_pages


async def fine(wants_json: WantsJSON) -> Page:
    return Page(body=b"json" if wants_json else b"text")


async def broken(_: WantsJSON) -> Page:
    raise RuntimeError("a secret of ours")


async def hangs(_: WantsJSON, asked: asyncio.Event | None = None) -> Page:
    if asked is not None:
        asked.set()
    await asyncio.Event().wait()
    raise AssertionError


@pytest.fixture
async def port() -> AsyncIterator[int]:
    port = free_port()
    pages = {"/fine": fine, "/broken": broken, "/hangs": hangs}
    async with serve_pages(pages, "health_address", f"127.0.0.1:{port}", seconds=0.2):
        yield port


async def said(port: int, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_one_request_is_answered_and_the_connection_closed(port: int) -> None:
    answer = await said(port, b"GET /fine HTTP/1.1\r\nHost: localhost\r\nAccept: text/html, application/json\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\njson")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /fine HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET " + b"/" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"GET /fine HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
    ids=["huge header", "huge target", "TLS", "no host", "nonsense"],
)
async def test_what_is_no_request_is_refused_and_the_next_is_served(port: int, sent: bytes) -> None:
    answer = await said(port, sent)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 Bad Request\r\n", b"HTTP/1.1 431 Request Header Fields"))
    assert b"text" in await said(port, b"GET /fine HTTP/1.1\r\nHost: localhost\r\n\r\n")


async def test_a_peer_that_says_nothing_is_let_go(port: int) -> None:
    assert await said(port, b"GET /fine HT") == b""


async def test_a_page_that_fails_tells_the_peer_nothing(port: int) -> None:
    answer = await said(port, b"GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(f"HTTP/1.1 500 {HTTPStatus.INTERNAL_SERVER_ERROR.phrase}".encode())
    assert b"secret" not in answer


@pytest.mark.parametrize("sent", [b"", b"GET ", b"GET /hangs HTTP/1.1\r\nHost: localhost\r\n\r\n"])
async def test_whoever_holds_many_connections_shuts_nobody_out(sent: bytes) -> None:
    port = free_port()
    async with serve_pages({"/fine": fine, "/hangs": hangs}, "health_address", f"127.0.0.1:{port}", seconds=60):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        for _, writer in held:
            writer.write(sent)
        async with asyncio.timeout(5):
            assert b"text" in await said(port, b"GET /fine HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await held[0][0].read() == b""  # the oldest made room
        for _, writer in held:
            writer.close()


async def test_a_page_that_hangs_is_unavailable(port: int) -> None:
    answer = await said(port, b"GET /hangs HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503 ")


async def test_a_peer_that_comes_and_leaves_is_no_fault(port: int, caplog: pytest.LogCaptureFixture) -> None:
    with structlog.testing.capture_logs() as logged:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        await writer.wait_closed()
        assert b"text" in await said(port, b"GET /fine HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert not logged
    assert not caplog.records


@pytest.mark.parametrize("read", [True, False])
async def test_no_request_outlives_the_server(*, read: bool) -> None:
    port, asked, before = free_port(), asyncio.Event(), asyncio.all_tasks()
    pages = {"/hangs": partial(hangs, asked=asked)}
    async with serve_pages(pages, "health_address", f"127.0.0.1:{port}", seconds=60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if read:
            writer.write(b"GET /hangs HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await asked.wait()
    assert asyncio.all_tasks() == before
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("turns", range(8))
async def test_a_connection_that_comes_as_the_server_ends_is_closed(turns: int) -> None:
    port, before = free_port(), asyncio.all_tasks()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        async with serve_pages({"/fine": fine}, "health_address", f"127.0.0.1:{port}"):
            caller = socket.create_connection(("127.0.0.1", port), timeout=5)
            for _ in range(turns):
                await asyncio.sleep(0)
        with caller, contextlib.suppress(ConnectionResetError):
            assert caller.recv(1) == b""
        assert asyncio.all_tasks() == before
        gc.collect()
    assert [str(one.message) for one in warned] == []


async def test_no_address_serves_nothing() -> None:
    async with serve_pages({"/fine": fine}, "health_address", ""):
        pass


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9091", "127.0.0.1", "127.0.0.1:9091", "[::1]:9091"])
async def test_a_host_that_names_loopback_is_answered(port: int, host: str) -> None:
    assert (await said(port, f"GET /fine HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9091", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]", ""],
)
async def test_a_name_of_the_web_that_was_pointed_at_loopback_reads_nothing(port: int, host: str) -> None:
    answer = await said(port, f"GET /fine HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert b"text" not in answer.partition(b"\r\n\r\n")[2]
