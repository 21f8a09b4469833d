"""What a caller of a Unix socket tries in order to cost more than it pays: each was a hole, or nearly one.

Attacks that last and are measured: bench/rig/attacks.py.
"""

import asyncio
import os
import struct
from pathlib import Path

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpclib.client import Channel
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from hpack import Decoder

from bench.rig.attacks import frame, greeting, request
from cognomen.gate.call import Call
from cognomen.gate.gate import listen
from cognomen.protocol.errors import Kind, Refused
from tests.doubles.gated import read_on, served

DATA, HEADERS, SETTINGS, GOAWAY = 0, 1, 4, 7
END_STREAM, END_HEADERS = 0x1, 0x4
HEADER_TABLE_SIZE = 1
EMPTY_MESSAGE = bytes(5)


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HL", *pair) for pair in pairs))


async def header_blocks(path: Path, *sent: bytes, calls: int) -> list[bytes]:
    """Send bytes and then some calls, and return the header blocks of what is answered."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.writelines(sent)
    for stream in range(1, 2 * calls, 2):
        writer.write(request(stream) + frame(DATA, END_STREAM, stream, EMPTY_MESSAGE))
    blocks, ended = [], 0
    async with asyncio.timeout(10):
        while ended < calls:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            assert head[3] != GOAWAY, payload
            if head[3] == HEADERS:
                blocks.append(payload)
                ended += head[4] & END_STREAM
    writer.close()
    await read_on(reader)
    return blocks


async def ask(channel: Channel) -> None:
    """Make a call."""
    method = "/test.Doing/Do", Cardinality.UNARY_UNARY, HealthCheckRequest, HealthCheckResponse
    async with channel.request(*method, timeout=10) as stream:
        await stream.send_message(HealthCheckRequest(), end=True)
        await stream.recv_message()


async def refusal(path: Path) -> GRPCError:
    """Make a call that is refused."""
    channel = Channel(path=str(path))
    try:
        await ask(channel)
    except GRPCError as err:
        return err
    finally:
        channel.close()
    raise AssertionError("expected a refusal, found none")


async def test_a_peer_cannot_make_the_server_remember_more_headers(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with served(path):
        blocks = await header_blocks(path, greeting, settings((HEADER_TABLE_SIZE, 2**32 - 1)), calls=2)
    decoder = Decoder()  # it refuses a table larger than HTTP/2's default
    for block in blocks:
        decoder.decode(block)
    assert decoder.header_table_size == 4096


async def test_resizing_the_servers_memory_of_headers_again_and_again_leaves_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "s"
    sizes = [settings((HEADER_TABLE_SIZE, size)) for size in (0, 4096, 1, 4096, 7, 4096) * 20]
    async with served(path):
        blocks = await header_blocks(path, greeting, *sizes, calls=1)
    assert (
        blocks[0][:4] == b"\x20" + b"\x3f\xe1\x1f"
    )  # RFC 7541 6.3: down to the smallest, 0, then up to the last, 4096
    assert Decoder().decode(blocks[0])


@pytest.mark.parametrize("detail", ["x" * 60_000, "é" * 60_000], ids=["ascii", "percent encoded"])
async def test_a_reason_that_quotes_its_caller_at_length_is_cut_and_arrives(tmp_path: Path, detail: str) -> None:
    async def refuse(call: Call) -> None:
        await call.recv_message()
        raise Refused(Kind.DENIED, f"svid: {detail}")

    path = tmp_path / "s"
    async with served(path, refuse):
        refused = await refusal(path)
    assert refused.status is Status.PERMISSION_DENIED
    assert refused.message is not None
    assert len(refused.message) < 1100
    assert refused.message.startswith("svid: " + detail[:100])


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a directory away needs root")
def test_a_socket_below_another_users_directory_is_refused_who_could_put_their_own_there(tmp_path: Path) -> None:
    directory = tmp_path / "theirs" / "run"
    directory.mkdir(parents=True)
    os.chown(directory.parent, 65533, 65533)
    with pytest.raises(Refused, match=r"theirs: expected root or uid .*, found uid 65533"):
        listen(directory / "s", 0o666)
