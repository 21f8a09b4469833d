"""What both network doors speak: TLS 1.3, by a full handshake, whoever calls."""

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.rig.webca import WebAuthority
from tests.flow.issuer_harness import Issuer, Node, running
from tests.flow.test_issuer_node_door import tls

DOORS = pytest.mark.parametrize("door", ["join_address", "node_address"])


async def caller(issuer: Issuer, directory: Path) -> tuple[Node, ssl.SSLContext]:
    """A node, and TLS as a client that both doors let in."""
    node = await issuer.join()
    return node, tls(node, directory)


@dataclass
class Seen:
    """What came of one connection."""

    version: str | None
    was_resumed: bool
    tickets: int


def speak(address: str, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> tuple[Seen, ssl.SSLSession]:
    """Shake hands, say the HTTP/2 preface, and hear the server's: what comes behind the handshake has come by then."""
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=10) as plain,
        context.wrap_socket(plain, session=session) as secured,
    ):
        secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        assert len(secured.recv(9)) == 9
        assert secured.session is not None
        seen = Seen(secured.version(), bool(secured.session_reused), int(secured.session.has_ticket))
        return seen, secured.session


@DOORS
async def test_tls_1_2_is_no_connection(tmp_path: Path, door: str) -> None:
    async with running(tmp_path) as issuer:
        node, context = await caller(issuer, tmp_path)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            await asyncio.to_thread(speak, getattr(issuer.bound, door), context)
        await node.close()


@DOORS
async def test_no_session_is_resumed_and_none_is_offered(tmp_path: Path, door: str) -> None:
    async with running(tmp_path) as issuer:
        node, context = await caller(issuer, tmp_path)
        first, session = await asyncio.to_thread(speak, getattr(issuer.bound, door), context)
        again, _ = await asyncio.to_thread(speak, getattr(issuer.bound, door), context, session)
        assert first == again == Seen("TLSv1.3", was_resumed=False, tickets=0)
        await node.close()


def saved_session(context: ssl.SSLContext, folder: Path) -> ssl.SSLSession:
    """A session with a ticket, of a server that gives some: what a client has kept of a door that once did."""
    authority = WebAuthority(folder)
    context.load_verify_locations(authority.path)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = authority.server_context().wrap_bio(to_server, to_client, server_side=True)
    client = context.wrap_bio(to_client, to_server)
    for step in (client.do_handshake, server.do_handshake, client.do_handshake, server.do_handshake, client.read):
        with contextlib.suppress(ssl.SSLWantReadError):
            step()
    assert client.session is not None
    assert client.session.has_ticket
    return client.session


@DOORS
async def test_who_offers_a_saved_session_gets_a_full_handshake(tmp_path: Path, door: str) -> None:
    async with running(tmp_path) as issuer:
        node, context = await caller(issuer, tmp_path)
        session = await asyncio.to_thread(saved_session, context, tmp_path)
        seen, _ = await asyncio.to_thread(speak, getattr(issuer.bound, door), context, session)
        assert seen == Seen("TLSv1.3", was_resumed=False, tickets=0)
        await node.close()


def names_of_doors() -> list[str]:
    bound = {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines()}
    return [name for name in bound if name.endswith("/door")]


async def test_nobody_but_the_front_reaches_grpc(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        named = await asyncio.to_thread(names_of_doors)
        for name in named:  # as it was bound, and its directory is gone
            with pytest.raises(OSError), socket.socket(socket.AF_UNIX) as sock:  # noqa: PT011 - which error depends on the descriptor of that number
                sock.connect(name)
        assert named
        await node.close()


@DOORS
@pytest.mark.parametrize("group", ["secp384r1", "secp521r1"])  # Python 3.11.2 can name no dearer one
async def test_no_stranger_chooses_a_key_agreement_that_costs_much(tmp_path: Path, door: str, group: str) -> None:
    async with running(tmp_path) as issuer:
        node, context = await caller(issuer, tmp_path)
        context.set_ecdh_curve(group)
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
            await asyncio.to_thread(speak, getattr(issuer.bound, door), context)
        await node.close()
