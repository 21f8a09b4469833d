"""Which certificates each end of svid.tls shows, as stock TLS at the other end finds them on the wire (ADR-0024)."""

import contextlib
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from svid.x509svid import X509SVID
from tests.contract.tls_clients import CLIENTS, GRPC_CLIENTS, How, World
from tests.contract.tls_servers import Served, blocking, by_asyncio, by_grpc, by_grpc_aio, by_uvicorn
from tests.doubles.identity import Identity
from tests.doubles.stocktls import stock_context
from tests.doubles.trustdomain import TrustDomainDouble

_SECONDS = 10
_CLIENTS = {name: one.ask for name, one in CLIENTS.items()} | GRPC_CLIENTS
_SERVERS = [blocking, by_asyncio, by_uvicorn]
_GRPC_SERVERS = [by_grpc, by_grpc_aio]
Serve: TypeAlias = Callable[[Identity], contextlib.AbstractContextManager[Served]]
Ask: TypeAlias = Callable[[Identity, str, How], str]


def shown(connection: ssl.SSLSocket) -> list[bytes]:
    """What the other end showed: DER, in its order."""
    if sys.version_info >= (3, 13):
        return list(connection.get_unverified_chain())
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in connection._sslobj.get_unverified_chain()]  # type: ignore[attr-defined]  # public from 3.13 on


def shown_by_server(serve: Serve, to: World, at: Path, svid: X509SVID) -> list[bytes]:
    to.server.change(svid, to.domain.bundle)
    context = stock_context(to.client, at, server_side=False)
    with (
        serve(to.server) as served,
        socket.create_connection(("127.0.0.1", served.port), timeout=_SECONDS) as plain,
        context.wrap_socket(plain) as near,
    ):
        return shown(near)


@contextlib.contextmanager
def listening(context: ssl.SSLContext, found: list[list[bytes]]) -> Iterator[int]:
    """A server that shakes hands with one client, and hangs up."""

    def answer() -> None:
        far, _ = listener.accept()
        with far, context.wrap_socket(far, server_side=True) as secured:
            found.append(shown(secured))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_SECONDS)
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            thread.join()


def shown_by_client(ask: Ask, to: World, at: Path, svid: X509SVID) -> list[bytes]:
    found: list[list[bytes]] = []
    context = stock_context(to.server, at, server_side=True)
    to.client.change(svid, to.domain.bundle)
    with (
        listening(context, found) as port,
        contextlib.suppress(Exception),
    ):  # each library says in its own way that nothing came
        ask(to.client, f"https://127.0.0.1:{port}/", How(web=to.web))
    return found[0]


def chain_of(svid: X509SVID) -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in svid.chain]


def authority_of(domain: TrustDomainDouble) -> bytes:
    return domain.bundle.x509_der()


@pytest.mark.parametrize("serve", _SERVERS)
def test_a_server_of_openssl_shows_its_chain_and_without_an_intermediate_also_the_authority(
    serve: Serve, world: World, tmp_path: Path
) -> None:
    leaf = world.domain.svid("/server")
    assert shown_by_server(serve, world, tmp_path, leaf) == [*chain_of(leaf), authority_of(world.domain)]
    longer = world.domain.svid("/server", via_intermediate=True)
    assert shown_by_server(serve, world, tmp_path, longer) == chain_of(longer)


@pytest.mark.parametrize("serve", _GRPC_SERVERS)
def test_a_server_of_grpc_shows_its_chain_alone(serve: Serve, world: World, tmp_path: Path) -> None:
    for svid in (world.domain.svid("/server"), world.domain.svid("/server", via_intermediate=True)):
        assert shown_by_server(serve, world, tmp_path, svid) == chain_of(svid)


@pytest.mark.parametrize("name", _CLIENTS)
def test_a_client_shows_its_chain_and_without_an_intermediate_also_the_authority(
    name: str, world: World, tmp_path: Path
) -> None:
    leaf = world.domain.svid("/client")
    assert shown_by_client(_CLIENTS[name], world, tmp_path, leaf) == [*chain_of(leaf), authority_of(world.domain)]
    longer = world.domain.svid("/client", via_intermediate=True)
    assert shown_by_client(_CLIENTS[name], world, tmp_path, longer) == chain_of(longer)
