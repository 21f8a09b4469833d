"""LiveContext: real handshakes over socket pairs and asyncio, with identities made by a test trust domain."""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding

from bench.rig.loops import leave_nothing_open
from svid.bundle import Bundle
from svid.errors import AuthorizationError
from svid.spiffeid import SpiffeID
from svid.tls.authorize import Authorizer, any_in, exactly, matching
from svid.tls.connections import peer_id
from svid.tls.context import LiveContext, client_context, server_context
from svid.tls.refusals import HandshakeRefusedError, UnwantedPeerError
from svid.x509svid import X509SVID
from tests.doubles.clock import FakeClock
from tests.doubles.identity import CLIENT, SERVER, Identity
from tests.doubles.stocktls import stock_context
from tests.doubles.trustdomain import TrustDomainDouble

ANYBODY = matching(lambda _: True)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=2) as executor:
        yield executor


def wrap(context: ssl.SSLContext, end: socket.socket, *, server_side: bool) -> ssl.SSLSocket:
    end.settimeout(10)
    return context.wrap_socket(end, server_side=server_side)


def connect(
    pool: ThreadPoolExecutor, client: ssl.SSLContext, server: ssl.SSLContext
) -> tuple["Future[ssl.SSLSocket]", "Future[ssl.SSLSocket]"]:
    near, far = socket.socketpair()
    return (
        pool.submit(wrap, client, near, server_side=False),
        pool.submit(wrap, server, far, server_side=True),
    )


# blocking sockets


@pytest.mark.clause("WA-15")
def test_two_identities_meet_and_know_each_other(pool: ThreadPoolExecutor, client: Identity, server: Identity) -> None:
    near, far = connect(pool, client_context(client, exactly(SERVER)), server_context(server, exactly(CLIENT)))
    with near.result() as mine, far.result() as theirs:
        assert peer_id(mine) == SERVER
        assert peer_id(theirs) == CLIENT
        assert mine.version() == theirs.version() == "TLSv1.3"
        mine.sendall(b"hello")
        assert theirs.recv(5) == b"hello"


def test_an_unwanted_client_is_refused_and_its_socket_closed(
    pool: ThreadPoolExecutor, client: Identity, server: Identity
) -> None:
    near, far = connect(pool, client_context(client, ANYBODY), server_context(server, exactly(SERVER)))
    with pytest.raises(UnwantedPeerError, match=r"found spiffe://example\.org/client") as caught:
        far.result()
    assert isinstance(caught.value, AuthorizationError)
    assert isinstance(caught.value, ssl.SSLError)
    with near.result() as mine:
        assert mine.recv(1) == b""


def test_an_unwanted_server_is_refused_before_anything_is_sent(
    pool: ThreadPoolExecutor, client: Identity, server: Identity
) -> None:
    near, far = connect(pool, client_context(client, exactly(CLIENT)), server_context(server, ANYBODY))
    with pytest.raises(UnwantedPeerError, match=r"found spiffe://example\.org/server"):
        near.result()
    with far.result() as theirs:
        assert theirs.recv(1) == b""


@pytest.mark.parametrize("use", ["read", "write"])
def test_skipping_the_handshake_does_not_skip_the_verification(
    pool: ThreadPoolExecutor, client: Identity, server: Identity, use: str
) -> None:
    near, far = socket.socketpair()
    far.settimeout(10)
    theirs = server_context(server, exactly(SERVER)).wrap_socket(far, server_side=True, do_handshake_on_connect=False)
    mine = pool.submit(wrap, client_context(client, ANYBODY), near, server_side=False)
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: theirs.recv(1),
        "write": lambda: theirs.sendall(b"secret"),
    }
    with pytest.raises(UnwantedPeerError):
        calls[use]()
    with mine.result() as connection:
        assert connection.recv(10) == b""


def test_a_socket_that_does_not_block_stays_open_while_the_handshake_waits(client: Identity, server: Identity) -> None:
    near, far = socket.socketpair()
    for end in (near, far):
        end.setblocking(False)
    mine = client_context(client, exactly(SERVER)).wrap_socket(near, do_handshake_on_connect=False)
    theirs = server_context(server, exactly(CLIENT)).wrap_socket(far, server_side=True, do_handshake_on_connect=False)
    with mine, theirs:
        for connection in (mine, theirs):
            with pytest.raises(ssl.SSLWantReadError):
                connection.recv(1)
        assert mine.send(b"hello") == 5
        assert theirs.recv(5) == b"hello"
        assert (peer_id(mine), peer_id(theirs)) == (SERVER, CLIENT)


def test_a_listening_socket_accepts_by_the_identity_of_the_day(
    pool: ThreadPoolExecutor, domain: TrustDomainDouble, client: Identity, server: Identity
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        listening = server_context(server, ANYBODY).wrap_socket(listener, server_side=True)
        renewed = domain.svid("/renewed")
        server.change(renewed, domain.bundle)
        with listening:
            accepted = pool.submit(listening.accept)
            with (
                socket.create_connection(listening.getsockname()) as raw,
                client_context(client, ANYBODY).wrap_socket(raw) as mine,
                accepted.result()[0] as theirs,
            ):
                assert peer_id(mine) == renewed.spiffe_id
                assert peer_id(theirs) == CLIENT


@pytest.mark.clause("WA-15")
def test_each_trust_domain_is_verified_by_its_own_bundle_alone(
    pool: ThreadPoolExecutor, domain: TrustDomainDouble, server: Identity
) -> None:
    """OpenSSL pools both trust domains' authorities and lets this pass."""
    liar = TrustDomainDouble("partner.example")
    forged = Identity(_forge(liar, CLIENT), domain.bundle)
    server.change(server.svid, domain.bundle, liar.bundle)
    near, far = connect(pool, client_context(forged, ANYBODY), server_context(server, ANYBODY))
    with pytest.raises(HandshakeRefusedError, match="chain: does not lead to"):
        far.result()
    near.result().close()


def _forge(liar: TrustDomainDouble, victim: SpiffeID) -> X509SVID:
    """An SVID that names another trust domain than its authority's."""
    name, liar.name = liar.name, victim.trust_domain
    svid = liar.svid(victim.path)
    liar.name = name
    return svid


def test_federated_trust_domains_meet(pool: ThreadPoolExecutor, domain: TrustDomainDouble, server: Identity) -> None:
    partner = TrustDomainDouble("partner.example")
    guest = Identity(partner.svid("/guest"), partner.bundle, domain.bundle)
    server.change(server.svid, domain.bundle, partner.bundle)
    near, far = connect(pool, client_context(guest, any_in(domain.name)), server_context(server, any_in(partner.name)))
    with near.result(), far.result() as theirs:
        assert str(peer_id(theirs)) == "spiffe://partner.example/guest"


def test_a_trust_domain_without_bundle_is_not_trusted(
    pool: ThreadPoolExecutor, domain: TrustDomainDouble, server: Identity
) -> None:
    stranger = TrustDomainDouble("stranger.example")
    guest = Identity(stranger.svid("/guest"), stranger.bundle, domain.bundle)
    near, far = connect(pool, client_context(guest, ANYBODY), server_context(server, ANYBODY))
    with pytest.raises(ssl.SSLCertVerificationError):
        far.result()
    near.result().close()


def test_a_chain_with_an_intermediate_is_verified(
    pool: ThreadPoolExecutor, domain: TrustDomainDouble, server: Identity
) -> None:
    client = Identity(domain.svid("/client", via_intermediate=True), domain.bundle)
    near, far = connect(pool, client_context(client, ANYBODY), server_context(server, exactly(CLIENT)))
    with near.result(), far.result() as theirs:
        assert peer_id(theirs) == CLIENT


def test_an_authority_that_is_no_root_may_be_trusted(
    pool: ThreadPoolExecutor, domain: TrustDomainDouble, server: Identity
) -> None:
    svid = domain.svid("/client", via_intermediate=True)
    server.change(server.svid, Bundle(trust_domain=domain.name, x509_authorities=svid.chain[1:]))
    near, far = connect(
        pool, client_context(Identity(svid, domain.bundle), ANYBODY), server_context(server, exactly(CLIENT))
    )
    with near.result(), far.result() as theirs:
        assert peer_id(theirs) == CLIENT


def test_a_leaf_of_a_trust_domain_without_bundle_is_refused_whoever_signed_it(
    pool: ThreadPoolExecutor, domain: TrustDomainDouble, server: Identity
) -> None:
    forged = Identity(_forge(domain, SpiffeID.parse("spiffe://absent.example/a")), domain.bundle)
    near, far = connect(pool, client_context(forged, ANYBODY), server_context(server, ANYBODY))
    with pytest.raises(HandshakeRefusedError, match=r"trust domain absent\.example is not trusted"):
        far.result()
    near.result().close()


def chain_of(identity: Identity) -> list[bytes]:
    return [identity.svid.chain_der()]


def test_a_chain_that_was_verified_before_is_asked_about_again() -> None:
    domain, wanted = TrustDomainDouble(), [True]
    client = Identity(domain.svid("/client"), domain.bundle)
    context = client_context(client, matching(lambda _: wanted[0]))
    for _ in range(2):
        assert context.admit(chain_of(client)) == CLIENT
    wanted[0] = False
    with pytest.raises(UnwantedPeerError):
        context.admit(chain_of(client))


@pytest.mark.parametrize("seconds", [0, 3600])
def test_a_chain_that_was_verified_before_ends_all_the_same(seconds: int) -> None:
    domain = TrustDomainDouble()
    client, clock = Identity(domain.svid("/client"), domain.bundle), FakeClock(domain.now)
    context = LiveContext(client, ANYBODY, server_side=True, clock=clock)
    clock.advance(-seconds)
    assert context.admit(chain_of(client)) == CLIENT
    clock.jump(client.svid.not_after - clock.now() + timedelta(seconds=1))
    with pytest.raises(HandshakeRefusedError, match="cert is not valid at validation time"):
        context.admit(chain_of(client))


def test_a_chain_that_was_verified_before_is_nobodys_in_another_bundle_or_in_the_past() -> None:
    domain = TrustDomainDouble()
    client, clock = Identity(domain.svid("/client"), domain.bundle), FakeClock(domain.now)
    context = LiveContext(client, ANYBODY, server_side=True, clock=clock)
    assert context.admit(chain_of(client)) == CLIENT
    clock.jump(-timedelta(days=1))
    with pytest.raises(HandshakeRefusedError, match="cert is not valid at validation time"):
        context.admit(chain_of(client))
    clock.jump(timedelta(days=1))
    svid = client.svid
    domain.rotate()
    domain.drop()
    client.change(svid, domain.bundle)
    with pytest.raises(HandshakeRefusedError, match="does not lead to an authority"):
        context.admit(chain_of(client))
    client.change(svid)
    with pytest.raises(HandshakeRefusedError, match="is not trusted"):
        context.admit(chain_of(client))


def test_no_chain_is_nobody(client: Identity) -> None:
    with pytest.raises(HandshakeRefusedError, match="expected a certificate, found none"):
        client_context(client, ANYBODY).admit([])


def test_a_connection_that_was_given_another_context_is_nobodys(server: Identity, tmp_path: Path) -> None:
    ours = server_context(server, ANYBODY).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    ours.context = stock_context(server, tmp_path, server_side=True)
    with pytest.raises(TypeError, match="expected the one that made the connection"):
        ours.do_handshake()


# change


@pytest.mark.clause("WA-12")
def test_a_dropped_authority_is_forgotten(
    pool: ThreadPoolExecutor, domain: TrustDomainDouble, client: Identity, server: Identity
) -> None:
    of_server, of_client = server_context(server, ANYBODY), client_context(client, ANYBODY)
    for end in connect(pool, of_client, of_server):
        end.result().close()
    domain.rotate()
    domain.drop()
    server.change(domain.svid("/server"), domain.bundle)
    near, far = connect(pool, of_client, of_server)
    with pytest.raises(ssl.SSLError):
        near.result()
    with pytest.raises(ssl.SSLError):
        far.result()
    client.change(domain.svid("/client"), domain.bundle)
    near, far = connect(pool, of_client, of_server)
    with near.result() as mine, far.result():
        assert peer_id(mine) == SERVER


@pytest.mark.clause("WA-22")
def test_without_an_identity_every_handshake_is_refused(
    pool: ThreadPoolExecutor, client: Identity, server: Identity
) -> None:
    server.deny()
    near, far = connect(pool, client_context(client, ANYBODY), server_context(server, ANYBODY))
    with pytest.raises(HandshakeRefusedError, match="no identity issued"):
        far.result()
    with pytest.raises(OSError, match=r"."):
        near.result()


def test_an_expired_peer_is_refused(pool: ThreadPoolExecutor, domain: TrustDomainDouble, server: Identity) -> None:
    expired = Identity(domain.svid("/client", lifetime=timedelta(minutes=-1)), domain.bundle)
    near, far = connect(pool, client_context(expired, ANYBODY), server_context(server, ANYBODY))
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        far.result()
    near.result().close()


# other TLS


def test_a_client_without_certificate_is_refused(pool: ThreadPoolExecutor, client: Identity, server: Identity) -> None:
    anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anonymous.check_hostname = False
    anonymous.load_verify_locations(cadata=client.bundles[CLIENT.trust_domain].x509_der())
    near, far = connect(pool, anonymous, server_context(server, ANYBODY))
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        far.result()
    near.result().close()


def test_tls_1_2_is_refused(pool: ThreadPoolExecutor, client: Identity, server: Identity, tmp_path: Path) -> None:
    old = stock_context(client, tmp_path, server_side=False)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    near, far = connect(pool, old, server_context(server, ANYBODY))
    with pytest.raises(ssl.SSLError):
        far.result()
    with pytest.raises(ssl.SSLError):
        near.result()


def test_a_stock_client_gets_no_session_to_resume(
    pool: ThreadPoolExecutor, client: Identity, server: Identity, tmp_path: Path
) -> None:
    near, far = connect(pool, stock_context(client, tmp_path, server_side=False), server_context(server, ANYBODY))
    with near.result() as mine, far.result() as theirs:
        theirs.sendall(b"x")
        assert mine.recv(1) == b"x"
        assert mine.session is None or not mine.session.has_ticket


def test_a_session_to_resume_is_refused(
    pool: ThreadPoolExecutor, client: Identity, server: Identity, tmp_path: Path
) -> None:
    stock_server = stock_context(server, tmp_path, server_side=True)
    near, far = connect(pool, client_context(client, ANYBODY), stock_server)
    with near.result() as mine, far.result() as theirs:
        theirs.sendall(b"x")
        assert mine.recv(1) == b"x"
        session = mine.session
    assert session is not None
    left, right = socket.socketpair()
    with left, right, pytest.raises(ValueError, match="session: not supported"):
        client_context(client, ANYBODY).wrap_socket(left, session=session)


def test_alpn_is_negotiated(pool: ThreadPoolExecutor, client: Identity, server: Identity) -> None:
    of_client, of_server = client_context(client, ANYBODY), server_context(server, ANYBODY)
    of_client.set_alpn_protocols(["h2", "http/1.1"])
    of_server.set_alpn_protocols(["http/1.1"])
    near, far = connect(pool, of_client, of_server)
    with near.result() as mine, far.result():
        assert mine.selected_alpn_protocol() == "http/1.1"


def test_an_ordinary_connection_has_no_peer_id(
    pool: ThreadPoolExecutor, client: Identity, server: Identity, tmp_path: Path
) -> None:
    near, far = connect(
        pool, stock_context(client, tmp_path, server_side=False), stock_context(server, tmp_path, server_side=True)
    )
    with (
        near.result(),
        far.result() as theirs,
        pytest.raises(AuthorizationError, match="was not verified by a LiveContext"),
    ):
        peer_id(theirs)


def fail(_: SpiffeID) -> bool:
    raise LookupError("a bug of the service's")


def answer_nobody_awaits(peer: SpiffeID) -> object:
    async def later() -> bool:
        return peer == CLIENT

    return later()


@pytest.mark.parametrize(
    "authorize", [lambda _: False, lambda _: 1, lambda _: "no", fail, answer_nobody_awaits, exactly], ids=range(6)
)
def test_an_authorizer_admits_by_true_or_none_alone(
    pool: ThreadPoolExecutor, client: Identity, server: Identity, authorize: Authorizer
) -> None:
    near, far = connect(pool, client_context(client, lambda _: None), server_context(server, authorize))
    with pytest.raises(UnwantedPeerError):
        far.result()
    with near.result() as mine:
        assert mine.recv(1) == b""
    near, far = connect(pool, client_context(client, authorize), server_context(server, lambda _: True))
    with pytest.raises(UnwantedPeerError):
        near.result()
    with far.result() as theirs:
        assert theirs.recv(1) == b""


async def async_authorizer(_: SpiffeID) -> bool:
    return True


@pytest.mark.parametrize("make", [server_context, client_context])
def test_arguments_in_the_wrong_order_or_of_another_type_make_no_context(
    make: Callable[[object, object], LiveContext], client: Identity
) -> None:
    for source, authorize in (
        (exactly(SERVER), client),
        (exactly(SERVER), exactly(SERVER)),
        (client, SERVER),
        (client, None),
        (client, async_authorizer),
        (client.svid, ANYBODY),
    ):
        with pytest.raises(TypeError, match="expected"):
            make(source, authorize)


class Delegating:
    """A source that answers for another one."""

    def __init__(self, source: Identity) -> None:
        self._source = source

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)


def test_a_source_is_not_asked_when_a_context_is_made(client: Identity) -> None:
    client.deny()
    client_context(client, ANYBODY)
    client_context(Delegating(client), ANYBODY)  # type: ignore[arg-type]  # it has what is asked for, when it is


def test_what_libraries_set_on_a_context_does_not_switch_the_check_off(
    pool: ThreadPoolExecutor, domain: TrustDomainDouble, client: Identity, tmp_path: Path
) -> None:
    """requests, urllib3, http.client and anyio set these on a context that they are given."""
    stranger = TrustDomainDouble()
    stranger.rotate()
    stranger.drop()  # so that it has another authority
    impostor = Identity(stranger.svid("/server"), stranger.bundle)
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in stranger.bundle.x509_authorities))
    context = client_context(client, exactly(SERVER))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.verify_flags = ssl.VerifyFlags.VERIFY_DEFAULT
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.post_handshake_auth = True
    context.load_verify_locations(authorities)
    context.load_default_certs()
    context.sslsocket_class, context.sslobject_class = ssl.SSLSocket, ssl.SSLObject
    near, far = connect(pool, context, stock_context(impostor, tmp_path, server_side=True))
    with pytest.raises(ssl.SSLCertVerificationError):
        near.result()
    with pytest.raises(ssl.SSLError):
        far.result()
    other = Identity(domain.svid("/other"), domain.bundle)
    near, far = connect(pool, context, server_context(other, ANYBODY))
    with pytest.raises(UnwantedPeerError):
        near.result()
    far.result().close()


def test_the_context_of_a_client_serves_nobody_and_that_of_a_server_calls_nobody(
    client: Identity, server: Identity
) -> None:
    with pytest.raises(ssl.SSLError, match="Cannot create a server socket"):
        client_context(client, ANYBODY).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    with pytest.raises(ssl.SSLError, match="Cannot create a client socket"):
        server_context(server, ANYBODY).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())


def test_no_key_stays_in_a_file(client: Identity) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are what is wanted
    client_context(client, ANYBODY).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 - names are what is wanted


def test_threads_may_share_a_context_while_its_identity_changes(
    domain: TrustDomainDouble, client: Identity, server: Identity
) -> None:
    of_client, of_server = client_context(client, exactly(SERVER)), server_context(server, exactly(CLIENT))
    ended = threading.Event()

    def change() -> None:
        while not ended.wait(0.002):
            server.change(domain.svid("/server"), domain.bundle)
            client.change(domain.svid("/client"), domain.bundle)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        with ThreadPoolExecutor(max_workers=8) as pool:
            pairs = [connect(pool, of_client, of_server) for _ in range(40)]
            for near, far in pairs:
                with near.result() as mine, far.result() as theirs:
                    assert (peer_id(mine), peer_id(theirs)) == (SERVER, CLIENT)
    finally:
        ended.set()
        changer.join()


# asyncio and uvloop


@pytest.fixture(params=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as made:
        yield made
        made.run(leave_nothing_open())


async def talk(of_client: LiveContext, of_server: LiveContext) -> tuple[list[SpiffeID], SpiffeID, bytes]:
    """Let a client ask `who?` over asyncio streams; give what the server saw, what the client saw, and the answer."""
    seen: list[SpiffeID] = []
    strays: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: strays.append(context))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(peer_id(writer.get_extra_info("ssl_object")))
        writer.write(await reader.readline())
        writer.close()

    async with asyncio.timeout(10), await asyncio.start_server(answer, "127.0.0.1", 0, ssl=of_server) as listening:
        port = listening.sockets[0].getsockname()[1]
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=of_client)
            found = peer_id(writer.get_extra_info("ssl_object"))
            try:
                writer.write(b"who?\n")
                reply = await reader.read()
            except OSError:
                reply = b""
            finally:
                writer.close()
        finally:
            assert not strays, "a refusal is no accident of the loop's"
    return seen, found, reply


def test_streams_meet(runner: asyncio.Runner, client: Identity, server: Identity) -> None:
    told = runner.run(talk(client_context(client, exactly(SERVER)), server_context(server, exactly(CLIENT))))
    assert told == ([CLIENT], SERVER, b"who?\n")


def test_streams_refuse_an_unwanted_client_without_calling_the_service(
    runner: asyncio.Runner, client: Identity, server: Identity
) -> None:
    told = runner.run(talk(client_context(client, ANYBODY), server_context(server, exactly(SERVER))))
    assert told == ([], SERVER, b"")


def test_streams_refuse_an_unwanted_server(runner: asyncio.Runner, client: Identity, server: Identity) -> None:
    with pytest.raises(UnwantedPeerError):
        runner.run(talk(client_context(client, exactly(CLIENT)), server_context(server, ANYBODY)))


def test_streams_are_refused_without_an_identity(runner: asyncio.Runner, client: Identity, server: Identity) -> None:
    server.deny()
    with pytest.raises(OSError, match=r"."):
        runner.run(talk(client_context(client, ANYBODY), server_context(server, ANYBODY)))
    client.deny()
    with pytest.raises(HandshakeRefusedError, match="no identity issued"):
        runner.run(talk(client_context(client, ANYBODY), server_context(server, ANYBODY)))


@pytest.mark.parametrize("use", ["read", "write"])
def test_buffers_give_and_take_nothing_before_the_peer_is_admitted(
    client: Identity, server: Identity, use: str
) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    mine = client_context(client, ANYBODY).wrap_bio(to_client, to_server)
    theirs = server_context(server, exactly(SERVER)).wrap_bio(to_server, to_client, server_side=True)
    calls: dict[str, Callable[[], object]] = {"read": lambda: theirs.read(10), "write": lambda: theirs.write(b"secret")}
    with pytest.raises(ssl.SSLWantReadError):
        mine.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        calls[use]()
    mine.write(b"hello")
    for _ in range(2):
        with pytest.raises(UnwantedPeerError):
            calls[use]()
    with pytest.raises(AuthorizationError):
        peer_id(theirs)
