"""How long a hello may be: OpenSSL makes room for all of what its first bytes declare, before the rest has come."""

import asyncio
import socket
from pathlib import Path

import pytest

from tests.flow.test_doors_front import door

MOST = 16 * 1024


def begun(declared: int) -> bytes:
    """The first record of a hello that declares so many bytes, and brings few of them."""
    body = b"\x01" + declared.to_bytes(3, "big") + b"\x03\x03" + bytes(300)
    return b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body


def ends_it(address: str, *said: bytes) -> bool:
    """Whether the door ends a connection that says that, and says no more; False: it waits for more."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        for one in said:
            sock.sendall(one)
        sock.settimeout(1)
        try:
            return sock.recv(100) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True


@pytest.mark.parametrize(
    "said",
    [
        (begun(MOST + 1),),
        (begun(131_000),),
        (begun(2**24 - 1),),
        tuple(bytes([one]) for one in begun(131_000)[:9]),
        (b"\x16\x03\x01\x00\x02\x01\x01", b"\x16\x03\x01\x00\x02\xff\xb8"),  # its header in two records
    ],
    ids=["one byte more", "as much as OpenSSL allows", "as much as can be said", "byte by byte", "in two records"],
)
async def test_a_hello_that_declares_too_much_is_ended_at_its_first_bytes(
    tmp_path: Path, said: tuple[bytes, ...]
) -> None:
    async with door(tmp_path) as behind:
        assert await asyncio.to_thread(ends_it, behind.address, *said)
        assert await behind.echo(b"still here") == b"still here"


async def test_a_hello_of_the_most_is_waited_for(tmp_path: Path) -> None:
    async with door(tmp_path) as behind:
        assert not await asyncio.to_thread(ends_it, behind.address, begun(MOST))
