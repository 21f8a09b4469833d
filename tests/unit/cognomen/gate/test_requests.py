"""A request that HTTP/2 does not allow, behind the gate: its own stream ends, and the calls beside it go on."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hpack import Encoder

from bench.rig.attacks import frame, greeting, request
from cognomen.gate.gate import Limits
from tests.doubles.gated import Act, answer, never, raw, served

_DATA, _HEADERS, _RST, _PING, _GOAWAY = 0, 1, 3, 6, 7
_END_STREAM, _END_HEADERS = 0x1, 0x4
_NO_ERROR, _PROTOCOL_ERROR, _REFUSED_STREAM = 0, 1, 7
_EMPTY = frame(_DATA, _END_STREAM, 1, bytes(5))
PSEUDO = [(":method", "POST"), (":scheme", "http"), (":path", "/test.Doing/Do"), (":authority", "localhost")]
GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


def block(*fields: tuple[str, str]) -> bytes:
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode(fields)[1:]


class Wire:
    """One connection, frame by frame."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.send = writer.write

    async def next(self, *kinds: int) -> tuple[int, int, bytes]:
        """The next frame of these kinds: kind, stream, payload."""
        async with asyncio.timeout(5):
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                if head[3] in kinds:
                    return head[3], int.from_bytes(head[5:], "big"), payload


@asynccontextmanager
async def wired(path: Path, act: Act, *, limits: Limits | None = None) -> AsyncIterator[Wire]:
    async with served(path / "s", act, limits=limits):
        reader, writer = await asyncio.open_unix_connection(path / "s")
        writer.write(greeting)
        yield Wire(reader, writer)
        writer.close()


def reset(stream: int, code: int) -> tuple[int, int, bytes]:
    return _RST, stream, code.to_bytes(4, "big")


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([*PSEUDO, PSEUDO[0], *GRPC], id="method twice"),
        pytest.param([*PSEUDO, (":status", "200"), *GRPC], id="status"),
        pytest.param([*GRPC, *PSEUDO], id="pseudo-headers last"),
        pytest.param([*PSEUDO[1:], *GRPC], id="no method"),
        pytest.param([*PSEUDO, *GRPC, ("X-Upper", "1")], id="upper case"),
        pytest.param([*PSEUDO, *GRPC, ("connection", "close")], id="connection"),
        pytest.param([*PSEUDO, *GRPC, ("a", "\0")], id="NUL"),
    ],
)
async def test_a_malformed_request_ends_its_own_stream(tmp_path: Path, fields: Sequence[tuple[str, str]]) -> None:
    async with wired(tmp_path, answer) as wire:
        wire.send(frame(_HEADERS, _END_HEADERS, 1, block(*fields)))
        assert await wire.next(_HEADERS, _RST, _GOAWAY) == reset(1, _PROTOCOL_ERROR)
        wire.send(request(3, "Do", service="test.Doing") + frame(_DATA, _END_STREAM, 3, bytes(5)))
        assert (await wire.next(_DATA, _RST, _GOAWAY))[:2] == (_DATA, 3)


async def test_malformed_trailers_end_their_own_stream(tmp_path: Path) -> None:
    async with wired(tmp_path, answer) as wire:
        wire.send(request(1, "Do", service="test.Doing"))
        wire.send(frame(_HEADERS, _END_HEADERS | _END_STREAM, 1, block(("connection", "close"))))
        assert await wire.next(_HEADERS, _RST, _GOAWAY) == reset(1, _PROTOCOL_ERROR)
        wire.send(request(3, "Do", service="test.Doing") + frame(_DATA, _END_STREAM, 3, bytes(5)))
        assert (await wire.next(_DATA, _RST, _GOAWAY))[:2] == (_DATA, 3)


async def test_one_stream_too_many_is_refused_alone(tmp_path: Path) -> None:
    def call(stream: int) -> bytes:
        return request(stream, "Stream", service="test.Doing") + frame(_DATA, _END_STREAM, stream, bytes(5))

    async with wired(tmp_path, never, limits=Limits(calls_per_connection=3)) as wire:
        wire.send(b"".join(map(call, (1, 3, 5, 7))))
        heard = [await wire.next(_DATA, _RST, _GOAWAY) for _ in range(4)]
        assert {one[:2] for one in heard} == {(_DATA, 1), (_DATA, 3), (_DATA, 5), (_RST, 7)}
        assert reset(7, _REFUSED_STREAM) in heard
        wire.send(frame(_RST, 0, 1, (8).to_bytes(4, "big")) + call(9))  # in one breath, before the first has ended here
        assert (await wire.next(_DATA, _RST, _GOAWAY))[:2] == (_DATA, 9)


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param(request(1, "Do", service="test.Doing") + frame(_DATA, 0, 1, bytes(5)), id="answered"),
        pytest.param(request(1, "Do", (":method", "GET"), service="test.Doing"), id="no call at all"),
        pytest.param(request(1, "Do", ("grpc-timeout", "0n"), service="test.Doing"), id="too late"),
    ],
)
async def test_a_stream_ends_with_its_call_whether_the_peer_ends_it_or_not(tmp_path: Path, begun: bytes) -> None:
    """Each that stays open costs some memory, and time with every later call: it is none of those that are counted."""
    async with wired(tmp_path, answer) as wire:
        wire.send(begun)
        assert await wire.next(_RST, _GOAWAY) == reset(1, _NO_ERROR)
        wire.send(frame(_DATA, _END_STREAM, 1) + request(3, "Do", service="test.Doing"))  # ended after all
        wire.send(frame(_DATA, _END_STREAM, 3, bytes(5)))
        assert (await wire.next(_DATA, _GOAWAY))[:2] == (_DATA, 3)


async def test_a_request_of_very_many_fields_ends_the_connection(tmp_path: Path) -> None:
    fields = b"\x83\x86\x84" + b"\x84" * 380  # an indexed field is one byte, and 4 µs
    async with wired(tmp_path, answer) as wire:
        wire.send(frame(_HEADERS, _END_HEADERS, 1, fields))
        assert (await wire.next(_GOAWAY))[0] == _GOAWAY


async def test_the_fields_that_end_a_connection_are_counted(tmp_path: Path) -> None:
    async with wired(tmp_path, answer, limits=Limits(header_fields=8)) as wire:
        wire.send(request(1, "Do", ("a", "1"), ("b", "2"), service="test.Doing") + _EMPTY)
        assert (await wire.next(_DATA, _GOAWAY))[0] == _DATA
        wire.send(request(3, "Do", ("a", "1"), ("b", "2"), ("c", "3"), service="test.Doing"))
        _, _, last = await wire.next(_GOAWAY)
        assert last[8:] == b"headers: expected at most 8 fields, found 9"


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"POST /a HTTP/1.0\r\n\r\n", b"PRI * HTTP/1.1\r\n\r\n"]
)
async def test_a_client_of_an_older_http_is_answered_in_its_words(tmp_path: Path, sent: bytes) -> None:
    async with served(tmp_path / "s"):
        head, _, body = (await raw(tmp_path / "s", sent)).partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    assert first == b"HTTP/1.1 505 HTTP Version Not Supported"
    assert f"content-length: {len(body)}".encode() in fields
    assert b"connection: close" in fields
    assert body.startswith(b"This socket speaks gRPC, over HTTP/2 without TLS.")


async def test_what_is_no_http_at_all_gets_a_goaway(tmp_path: Path) -> None:
    async with served(tmp_path / "s"):
        found = await raw(tmp_path / "s", b"\x16\x03\x01\x02\0\x01")
    assert b"expected the HTTP/2 preface" in found
    assert not found.startswith(b"HTTP")
