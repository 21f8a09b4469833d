"""What somebody may say at a door that carries nothing, and what comes behind a handshake."""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from tests.doubles.keyupdates import key_updates, raw_connection
from tests.flow.test_doors_front import door

HOUR_LONG = 4000  # KeyUpdates: an hour of a client that makes new keys each second
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


async def test_who_says_nothing_but_key_updates_is_let_go(tmp_path: Path) -> None:
    async with door(tmp_path) as behind:
        context = behind.authority.client_context()
        sock, secret = await asyncio.to_thread(raw_connection, behind.address, context, tmp_path / "keys")

        def flood() -> None:
            with sock, contextlib.suppress(ConnectionError):
                sock.sendall(key_updates(secret, HOUR_LONG))
                while sock.recv(4096):
                    pass

        await asyncio.to_thread(
            flood
        )  # OpenSSL takes as many as come, one after the other, while the loop stands still
        assert await behind.echo(b"still here") == b"still here"
        assert behind.cut() == 1


async def test_some_key_updates_are_nobodys_concern(tmp_path: Path) -> None:
    async with door(tmp_path) as behind:
        context = behind.authority.client_context()
        sock, secret = await asyncio.to_thread(raw_connection, behind.address, context, tmp_path / "keys")
        sock.sendall(key_updates(secret, 500))
        assert await behind.echo(b"still here") == b"still here"
        sock.setblocking(False)
        with sock, contextlib.suppress(BlockingIOError):
            while sock.recv(4096):  # tickets, which this server gives
                pass
            pytest.fail("the door has ended it")


async def test_what_comes_in_one_piece_with_the_end_of_the_handshake_is_heard(tmp_path: Path) -> None:
    async with door(tmp_path) as behind:
        await asyncio.to_thread(_greet_in_one_piece, behind.address, behind.authority.client_context())


def _greet_in_one_piece(address: str, context: ssl.SSLContext) -> None:
    host, _, port = address.rpartition(":")
    heard, said = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(heard, said, server_hostname="localhost")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        while True:
            if hello := said.read():
                sock.sendall(hello)
            heard.write(sock.recv(65_536))
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                break
        tls.write(PREFACE)
        sock.sendall(said.read())
        answer = b""
        while not answer:
            heard.write(sock.recv(65_536))
            with contextlib.suppress(ssl.SSLWantReadError):
                answer = tls.read()
    assert answer[3] == 4, "SETTINGS"
