"""An authority that TLS cannot read, in the bundle of somebody else's trust domain, keeps nobody else from connecting."""

import logging
import ssl
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from svid.bundle import Bundle
from svid.integrations.grpc_checks import PeerCheck
from svid.integrations.grpc_client import grpc_channel
from svid.integrations.grpc_server import grpc_server
from svid.tls.authorities import readable_authorities
from svid.tls.authorize import exactly
from svid.tls.context import server_context
from tests.contract.tls_clients import CLIENTS, Client, How, World
from tests.doubles.grpcrunning import running
from tests.doubles.identity import CLIENT, SERVER, Identity
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.webserver import web_server

FOREIGN = TrustDomainDouble("other.org")


def unreadable() -> Bundle:
    """A bundle of an authority whose issuer is no UTF-8, and of one that is in order."""
    (good,) = FOREIGN.bundle.x509_authorities
    der = good.public_bytes(Encoding.DER)
    odd = x509.load_der_x509_certificate(der.replace(b"authority-1", b"authority-\xff", 1))  # the issuer comes first
    with pytest.raises(ssl.SSLError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=odd.public_bytes(Encoding.DER))
    return Bundle(trust_domain=FOREIGN.name, x509_authorities=(odd, good))


def with_it(domain: TrustDomainDouble, path: str) -> Identity:
    """An identity that trusts the other trust domain, too, and that first, as an X509Source does."""
    return Identity(domain.svid(path), unreadable(), domain.bundle)


@pytest.mark.parametrize("client_of", [pytest.param(one, id=name) for name, one in CLIENTS.items()])
def test_clients_and_servers_of_their_own_trust_domain_meet(client_of: Client, world: World) -> None:
    server, client = (with_it(world.domain, path) for path in ("/server", "/client"))
    with web_server(server_context(server, exactly(CLIENT))) as seen:
        assert client_of.ask(client, f"https://localhost:{seen.port}/", How(web=world.web)) == "hello"


def test_grpc_does_so_too(domain: TrustDomainDouble) -> None:
    server, client = (with_it(domain, path) for path in ("/server", "/client"))
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Say": grpc.unary_unary_rpc_method_handler(lambda _, __: b"hello")
    }
    handlers = [grpc.method_handlers_generic_handler("test.Who", methods)]
    check = PeerCheck(server, exactly(CLIENT))
    door, port = grpc_server("127.0.0.1:0", check, ThreadPoolExecutor(2), handlers=handlers)
    with running(door), grpc_channel(f"127.0.0.1:{port}", client, exactly(SERVER)) as channel:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Who/Say")
        assert method(b"", timeout=10) == b"hello"


def test_it_alone_is_left_out_with_a_warning(domain: TrustDomainDouble, caplog: pytest.LogCaptureFixture) -> None:
    bundles = {bundle.trust_domain: bundle for bundle in (unreadable(), domain.bundle)}
    with caplog.at_level(logging.WARNING):
        found = readable_authorities(bundles, own=domain.name)
    assert found == (*domain.bundle.x509_authorities, *FOREIGN.bundle.x509_authorities)
    assert [record.getMessage() for record in caplog.records] == [
        "authority of other.org left out: TLS cannot read it; no peer that it signed can connect"
    ]
