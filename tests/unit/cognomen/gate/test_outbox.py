"""cognomen/gate/outbox over a real pair of sockets: what is written when."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from cognomen.gate.outbox import Outbox


class Counted(asyncio.Transport):
    """A transport that remembers how much each write was."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self.inner = transport
        self.writes: list[int] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(len(data))
        self.inner.write(data)

    def close(self) -> None:
        self.inner.close()

    def abort(self) -> None:
        self.inner.abort()

    def is_closing(self) -> bool:
        return self.inner.is_closing()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.inner.get_extra_info(name, default)


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Outbox, Counted, asyncio.StreamReader]]:
    near, far = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=near)
    reader, writer = await asyncio.open_connection(sock=far)
    counted = Counted(transport)
    try:
        yield Outbox(counted, loop), counted, reader
    finally:
        transport.abort()
        writer.close()


async def test_what_is_flushed_is_written_before_the_turn_ends_and_once() -> None:
    async with connected() as (outbox, counted, reader):
        outbox.write(b"headers")
        outbox.write(b"data")
        outbox.flush()
        assert counted.writes == [11]
        outbox.write(b"more")
        assert await reader.readexactly(15) == b"headersdatamore"
        assert counted.writes == [11, 4]


async def test_what_is_written_in_one_turn_is_one_write_in_its_order() -> None:
    async with connected() as (outbox, counted, reader):
        for part in (b"headers", bytearray(b"data"), memoryview(b"trailers")):
            outbox.write(part)
        assert counted.writes == []
        assert await reader.readexactly(19) == b"headersdatatrailers"
        outbox.write(b"more")
        assert await reader.readexactly(4) == b"more"
        assert counted.writes == [19, 4]


async def test_much_is_written_at_once_so_that_a_slow_peer_is_heard_of() -> None:
    async with connected() as (outbox, counted, _):
        outbox.write(bytes(10_000))
        outbox.write(bytes(10_000))
        assert counted.writes == [20_000]
        await asyncio.sleep(0)
        assert counted.writes == [20_000]


async def test_closing_sends_what_waits_first() -> None:
    async with connected() as (outbox, _, reader):
        outbox.write(b"goodbye")
        outbox.close()
        assert outbox.is_closing()
        assert await reader.read() == b"goodbye"


@pytest.mark.parametrize("end", [Outbox.abort, Outbox.close])
async def test_what_is_written_after_the_end_is_dropped(end: Callable[[Outbox], None]) -> None:
    async with connected() as (outbox, counted, reader):
        end(outbox)
        outbox.write(b"too late")
        await asyncio.sleep(0)
        assert counted.writes == []
        assert await reader.read() == b""


async def test_aborting_loses_what_waits() -> None:
    async with connected() as (outbox, counted, reader):
        outbox.write(b"lost")
        outbox.abort()
        assert await reader.read() == b""
        assert counted.writes == []


async def test_what_the_transport_knows_is_told() -> None:
    async with connected() as (outbox, _, _):
        assert outbox.get_extra_info("socket") is not None
        assert outbox.get_extra_info("cipher", "none") == "none"
