"""Connections of a LiveContext whose peer is denied: not one byte passes any more, and whoever waits learns why; by real TLS."""

import asyncio
import contextlib
import gc
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Self

import pytest
import uvloop

from bench.rig.loops import leave_nothing_open
from svid.errors import AuthorizationError, RevokedError
from svid.spiffeid import TrustDomain
from svid.tls.authorize import matching
from svid.tls.connections import CheckedObject, CheckedSocket, end_when_revoked
from svid.tls.context import LiveContext, client_context, server_context
from svid.tls.refusals import OutdatedError, RevokedHandshakeError, RevokedPeerError
from tests.doubles.clock import FakeClock
from tests.doubles.identity import Identity, KnowingIdentity
from tests.doubles.trustdomain import TrustDomainDouble

ANYBODY = matching(lambda _: True)
MANY = 16 * 1024 * 1024
"""More bytes than the kernel holds for anybody."""
RECORD = 16384
"""The most that one read gives."""


@pytest.fixture
def knowing(domain: TrustDomainDouble) -> KnowingIdentity:
    """The server, whose source knows of denials."""
    return KnowingIdentity(domain.svid("/server"), domain.bundle)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(max_workers=4) as executor:
        yield executor


def connected(
    pool: ThreadPoolExecutor, client: LiveContext, server: LiveContext
) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Both ends of a connection; the client's, then the server's."""
    near, far = socket.socketpair()
    for end in (near, far):
        end.settimeout(10)
    other = pool.submit(server.wrap_socket, far, server_side=True)
    mine = client.wrap_socket(near)
    try:
        return mine, other.result()
    except OSError:
        mine.close()
        raise


def test_a_denied_peer_is_refused_at_the_handshake_also_one_that_is_remembered(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity
) -> None:
    of_client, of_server = client_context(client, ANYBODY), server_context(knowing, ANYBODY)
    for end in connected(pool, of_client, of_server):
        end.close()
    knowing.revoke_svid(client.svid)
    found = f"peer: spiffe://example.org/client with the serial {client.svid.serial:x} was revoked"
    with pytest.raises(RevokedHandshakeError, match=re.escape(found)) as caught:
        connected(pool, of_client, of_server)
    assert isinstance(caught.value, RevokedError)
    assert isinstance(caught.value, ssl.SSLError)


def test_a_denied_intermediate_ends_what_it_signed(
    pool: ThreadPoolExecutor, domain: TrustDomainDouble, knowing: KnowingIdentity
) -> None:
    below = Identity(domain.svid("/client", via_intermediate=True), domain.bundle)
    near, far = connected(pool, client_context(below, ANYBODY), server_context(knowing, ANYBODY))
    with near, far:
        knowing.revoke(domain.name, below.svid.chain[1].serial_number)
        with pytest.raises(RevokedPeerError):
            far.recv(1)


def test_a_number_of_another_trust_domain_or_of_somebody_else_ends_nothing(
    pool: ThreadPoolExecutor, domain: TrustDomainDouble, client: Identity, knowing: KnowingIdentity
) -> None:
    near, far = connected(pool, client_context(client, ANYBODY), server_context(knowing, ANYBODY))
    with near, far:
        knowing.revoke(TrustDomain("elsewhere.org"), client.svid.serial)
        knowing.revoke(domain.name, client.svid.serial + 1)
        near.sendall(b"hello")
        assert far.recv(5) == b"hello"


def _send_file(end: ssl.SSLSocket, tmp: Path) -> None:
    path = tmp / "file"
    path.write_bytes(b"secret")
    with path.open("rb") as file:
        end.sendfile(file)


PASSING: dict[str, Callable[[ssl.SSLSocket, Path], object]] = {
    "pending": lambda end, _: end.pending(),
    "read": lambda end, _: end.read(1),
    "recv": lambda end, _: end.recv(1),
    "recv_into": lambda end, _: end.recv_into(bytearray(1)),
    "recvfrom": lambda end, _: end.recvfrom(1),
    "recvfrom_into": lambda end, _: end.recvfrom_into(bytearray(1)),
    "send": lambda end, _: end.send(b"x"),
    "sendall": lambda end, _: end.sendall(b"x"),
    "sendfile": _send_file,
    "sendto": lambda end, _: end.sendto(b"x", ("localhost", 1)),
    "unwrap": lambda end, _: end.unwrap(),
    "verify_client_post_handshake": lambda end, _: end.verify_client_post_handshake(),
    "write": lambda end, _: end.write(b"x"),
    "do_handshake": lambda end, _: end.do_handshake(),
}
"""Every method of an SSLSocket by which bytes pass, or could once TLS is over."""

HARMLESS = {
    *("accept", "bind", "connect", "connect_ex", "listen", "close", "shutdown", "detach", "dup", "makefile"),
    *("recvmsg", "recvmsg_into", "sendmsg", "sendmsg_afalg"),
    *(
        "cipher",
        "client_sigalg",
        "compression",
        "get_channel_binding",
        "get_unverified_chain",
        "get_verified_chain",
        "getpeercert",
    ),
    *(
        "group",
        "selected_alpn_protocol",
        "selected_npn_protocol",
        "session",
        "session_reused",
        "shared_ciphers",
        "version",
    ),
    *("context", "family", "fileno", "proto", "server_hostname", "server_side", "timeout", "type"),
    *("get_inheritable", "getblocking", "getpeername", "getsockname", "getsockopt", "gettimeout", "ioctl"),
    *("set_inheritable", "setblocking", "setsockopt", "settimeout"),
}
"""Those by which none pass: they say something, they set something, they refuse TLS, or they come down to those above."""

OF_OBJECTS = ("pending", "read", "unwrap", "verify_client_post_handshake", "write", "do_handshake")


def test_every_method_by_which_bytes_may_pass_is_known() -> None:
    assert {name for name in dir(ssl.SSLSocket) if not name.startswith("_")} - HARMLESS == set(PASSING)
    names = {name for name in dir(ssl.SSLObject) if not name.startswith("_")}
    assert names - HARMLESS == set(OF_OBJECTS)


@pytest.mark.parametrize("name", PASSING)
def test_nothing_passes_on_a_socket_after_its_peer_is_denied(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity, tmp_path: Path, name: str
) -> None:
    near, far = connected(pool, client_context(client, ANYBODY), server_context(knowing, ANYBODY))
    with near, far:
        near.sendall(b"secret")
        assert far.recv(1) == b"s"  # so that the rest is decrypted, and waits in OpenSSL
        knowing.revoke_svid(client.svid)
        found = f"peer: spiffe://example.org/client with the serial {client.svid.serial:x} was revoked"
        with pytest.raises(RevokedPeerError, match=re.escape(found)):
            PASSING[name](far, tmp_path)
        assert near.recv(10) == b""


@pytest.mark.parametrize("name", ["recv", "recv_into", "send", "sendall", "sendfile"])
def test_nothing_passes_either_where_tls_is_over_and_the_socket_is_used_on(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity, tmp_path: Path, name: str
) -> None:
    near, far = connected(pool, client_context(client, ANYBODY), server_context(knowing, ANYBODY))
    with near, far:
        ended = pool.submit(near.unwrap)
        far.unwrap()
        ended.result().sendall(b"in plain text")
        knowing.revoke_svid(client.svid)
        with pytest.raises(RevokedPeerError):
            PASSING[name](far, tmp_path)


@pytest.mark.parametrize("name", ["read", "recv", "recv_into"])
def test_a_peer_that_leaves_without_a_word_is_the_end_of_what_is_read(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity, tmp_path: Path, name: str
) -> None:
    near, far = connected(pool, client_context(client, ANYBODY), server_context(knowing, ANYBODY))
    with far:
        near.close()
        assert PASSING[name](far, tmp_path) == (0 if name == "recv_into" else b"")


def test_a_peer_that_leaves_without_a_word_is_an_error_where_that_is_wanted(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity
) -> None:
    near, far = socket.socketpair()
    accepted = pool.submit(
        server_context(knowing, ANYBODY).wrap_socket, far, server_side=True, suppress_ragged_eofs=False
    )
    with client_context(client, ANYBODY).wrap_socket(near), accepted.result(10) as mine:
        socket.socket.shutdown(mine, socket.SHUT_RD)
        if (
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).options & ssl.OP_IGNORE_UNEXPECTED_EOF
        ):  # Python 3.11.2 asks for that by itself
            assert mine.recv(1) == b""
        else:
            with pytest.raises(ssl.SSLEOFError):
                mine.recv(1)


@pytest.mark.parametrize("name", ["read", "write", "recv", "recv_into", "send", "sendall"])
def test_a_connection_that_was_closed_here_says_so_as_the_stdlib_does(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity, tmp_path: Path, name: str
) -> None:
    near, far = connected(pool, client_context(client, ANYBODY), server_context(knowing, ANYBODY))
    near.close()
    far.close()
    with pytest.raises(
        ValueError if name in {"read", "write"} else OSError, match=r"closed or unwrapped|Bad file descriptor"
    ):
        PASSING[name](far, tmp_path)


@pytest.mark.parametrize("data", [b"", bytes(range(256)) * 1000, memoryview(b"12345678").cast("I")])
def test_all_of_it_is_sent(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity, data: bytes | memoryview
) -> None:
    near, far = connected(pool, client_context(client, ANYBODY), server_context(knowing, ANYBODY))
    with near:
        sending = pool.submit(far.sendall, data)
        sending.add_done_callback(lambda _: far.close())
        with near.makefile("rb") as file:
            assert file.read() == bytes(data)
        assert sending.result(10) is None


class Within:
    """A call in a thread of its own that waits in the kernel, for a socket."""

    def __init__(self, pool: ThreadPoolExecutor, end: ssl.SSLSocket, call: Callable[[], object]) -> None:
        end.settimeout(None)
        started: SimpleQueue[int] = SimpleQueue()

        def run() -> object:
            started.put(threading.get_native_id())
            return call()

        self._answer = pool.submit(run)
        now = Path(f"/proc/self/task/{started.get(timeout=10)}/syscall")
        while now.read_text(encoding="ascii").split()[1:2] != [hex(end.fileno())]:
            assert not self._answer.done()

    def answer(self) -> object:
        return self._answer.result(10)


def test_a_thread_that_waits_in_a_read_wakes_up_and_learns_why(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity
) -> None:
    near, far = connected(pool, client_context(client, ANYBODY), server_context(knowing, ANYBODY))
    with near, far:
        waiting = Within(pool, far, lambda: far.recv(1))
        knowing.revoke_svid(client.svid)
        with pytest.raises(RevokedPeerError):
            waiting.answer()


def test_a_thread_that_waits_in_a_write_wakes_up_and_learns_why(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity
) -> None:
    near, far = connected(pool, client_context(client, ANYBODY), server_context(knowing, ANYBODY))
    with near, far:
        waiting = Within(pool, far, lambda: far.sendall(bytes(MANY)))
        knowing.revoke_svid(client.svid)
        with pytest.raises(RevokedPeerError):
            waiting.answer()


@pytest.mark.parametrize("read", ["read", "recv", "recv_into"])
def test_a_read_that_was_under_way_hands_nothing_on(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity, tmp_path: Path, read: str
) -> None:
    """The peer's last bytes come after the mark, and before the socket is shut down."""
    near, far = connected(pool, client_context(client, ANYBODY), server_context(knowing, ANYBODY))
    with near, far:
        waiting = Within(pool, far, lambda: PASSING[read](far, tmp_path))
        assert isinstance(far, CheckedSocket)
        far.revoke()
        near.sendall(b"secret")
        with pytest.raises(RevokedPeerError):
            waiting.answer()


def test_no_byte_is_handed_on_after_the_denial_while_the_peer_sends_on(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity
) -> None:
    near, far = connected(pool, client_context(client, ANYBODY), server_context(knowing, ANYBODY))
    got = 0
    begun = threading.Event()

    def take() -> None:
        nonlocal got
        while True:
            got += len(far.recv(RECORD))
            begun.set()

    with near, far:
        taking, sending = pool.submit(take), pool.submit(near.sendall, bytes(MANY * 16))
        assert begun.wait(10)
        knowing.revoke_svid(client.svid)
        at_the_denial = got
        with pytest.raises(RevokedPeerError):
            taking.result(10)
        with pytest.raises(OSError, match=r"."):
            sending.result(10)
        assert got <= at_the_denial + RECORD  # which had been handed on, and not been counted yet


def test_others_go_on(
    pool: ThreadPoolExecutor, domain: TrustDomainDouble, client: Identity, knowing: KnowingIdentity
) -> None:
    of_server, other = server_context(knowing, ANYBODY), Identity(domain.svid("/client"), domain.bundle)
    near, far = connected(pool, client_context(client, ANYBODY), of_server)
    near_other, far_other = connected(pool, client_context(other, ANYBODY), of_server)
    with near, far, near_other, far_other:
        knowing.revoke_svid(client.svid)
        near_other.sendall(b"hello")
        assert far_other.recv(5) == b"hello"


def test_all_are_marked_before_any_is_closed(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity
) -> None:
    of_client, of_server = client_context(client, ANYBODY), server_context(knowing, ANYBODY)
    ends = [connected(pool, of_client, of_server) for _ in range(8)]
    woken: list[list[bool]] = []

    def wait(mine: ssl.SSLSocket) -> None:
        with pytest.raises(RevokedPeerError):
            mine.recv(1)
        woken.append([isinstance(far, CheckedSocket) and far.revoked for _, far in ends])

    waiting = [threading.Thread(target=wait, args=(far,)) for _, far in ends]
    for one in waiting:
        one.start()
    knowing.revoke_svid(client.svid)
    for one in waiting:
        one.join(10)
    for near, far in ends:
        near.close()
        far.close()
    assert woken == [[True] * 8] * 8


def test_a_denial_that_comes_between_admission_and_the_first_byte_is_not_lost(
    pool: ThreadPoolExecutor, client: Identity, domain: TrustDomainDouble
) -> None:
    """The authorizer is the last to be asked; what is denied while it answers has no connection to end yet."""
    knowing = KnowingIdentity(domain.svid("/server"), domain.bundle)

    def late(_: object) -> bool:
        knowing.revoke_svid(client.svid)
        return True

    with pytest.raises(RevokedPeerError):
        connected(pool, client_context(client, ANYBODY), server_context(knowing, late))


class Answering:
    """A source that answers for another."""

    def __init__(self, source: KnowingIdentity) -> None:
        self._source = source

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)


def test_a_source_that_answers_for_another_knows_denials_as_well(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity
) -> None:
    of_server = server_context(Answering(knowing), ANYBODY)  # type: ignore[arg-type]  # it has what is asked for, when it is
    near, far = connected(pool, client_context(client, ANYBODY), of_server)
    with near, far:
        knowing.revoke_svid(client.svid)
        with pytest.raises(RevokedPeerError):
            far.recv(1)


def test_a_context_is_an_enforcement_point_for_as_long_as_it_is_used(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity
) -> None:
    of_server = server_context(knowing, ANYBODY)
    near, far = connected(pool, client_context(client, ANYBODY), of_server)
    del of_server
    gc.collect()
    assert knowing.points == ["server_context"]  # a connection uses it
    near.close()
    far.close()
    del far
    gc.collect()
    assert knowing.points == []


# asyncio and uvloop


@pytest.fixture(params=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as made:
        yield made
        made.run(leave_nothing_open())


class Streams:
    """Both ends of a connection: `reader` and `writer` are the server's."""

    def __init__(self) -> None:
        self.strays: list[object] = []
        self._leaving = contextlib.ExitStack()

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.strays.append(context))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leaving.close()
        assert not self.strays, "a denial is no accident of the loop's"

    async def connect(self, client: LiveContext, server: LiveContext) -> None:
        """Connect them; the handshake of both is over."""
        accepted: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Future()
        listening = await asyncio.start_server(lambda *ends: accepted.set_result(ends), "127.0.0.1", 0, ssl=server)
        self._leaving.callback(listening.close)
        port = listening.sockets[0].getsockname()[1]
        self.near = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        self._leaving.callback(self.near[1].close)
        self.reader, self.writer = await accepted
        self._leaving.callback(self.writer.close)


def test_a_stream_hands_on_nothing_after_its_peer_is_denied(
    runner: asyncio.Runner, client: Identity, knowing: KnowingIdentity
) -> None:
    async def run() -> None:
        async with asyncio.timeout(10), Streams() as ends:
            await ends.connect(client_context(client, ANYBODY), server_context(knowing, ANYBODY))
            knowing.revoke_svid(client.svid)
            ends.near[1].write(b"secret")
            with pytest.raises(RevokedPeerError):
                await ends.reader.read(10)
            assert await _rest(ends.near[0]) == b""

    runner.run(run())


def test_a_stream_sends_nothing_after_its_peer_is_denied(
    runner: asyncio.Runner, client: Identity, knowing: KnowingIdentity
) -> None:
    async def run() -> None:
        async with asyncio.timeout(10), Streams() as ends:
            await ends.connect(client_context(client, ANYBODY), server_context(knowing, ANYBODY))
            knowing.revoke_svid(client.svid)
            ends.writer.write(b"secret")
            with pytest.raises(RevokedPeerError):
                await ends.reader.read(10)
            with pytest.raises(RevokedPeerError):
                await ends.writer.drain()
            assert await _rest(ends.near[0]) == b""

    runner.run(run())


def test_a_stream_amidst_a_transfer_stops(runner: asyncio.Runner, client: Identity, knowing: KnowingIdentity) -> None:
    async def run() -> None:
        async with asyncio.timeout(10), Streams() as ends:
            await ends.connect(client_context(client, ANYBODY), server_context(knowing, ANYBODY))
            end_when_revoked(ends.writer.transport)
            ends.near[1].write(bytes(MANY))
            assert await ends.reader.readexactly(MANY // 2)
            knowing.revoke_svid(client.svid)
            with pytest.raises(RevokedPeerError):
                await ends.reader.readexactly(MANY // 2)

    runner.run(run())


def test_what_a_stream_has_not_sent_yet_stays_here(
    runner: asyncio.Runner, client: Identity, knowing: KnowingIdentity
) -> None:
    async def run() -> None:
        async with asyncio.timeout(10), Streams() as ends:
            await ends.connect(client_context(client, ANYBODY), server_context(knowing, ANYBODY))
            end_when_revoked(ends.writer.transport)
            ends.writer.write(bytes(MANY))
            got = len(await ends.near[0].read(1))
            knowing.revoke_svid(client.svid)
            with pytest.raises(RevokedPeerError):
                await ends.reader.read(1)
            got += len(await _rest(ends.near[0]))
            assert got < MANY // 2  # what the kernel held, and both ends of the loop

    runner.run(run())


def test_what_a_stream_that_is_being_closed_has_not_sent_yet_stays_here(
    runner: asyncio.Runner, client: Identity, knowing: KnowingIdentity
) -> None:
    async def run() -> None:
        async with asyncio.timeout(10), Streams() as ends:
            await ends.connect(client_context(client, ANYBODY), server_context(knowing, ANYBODY))
            end_when_revoked(ends.writer.transport)
            ends.writer.write(bytes(MANY))
            ends.writer.close()
            got = len(await ends.near[0].read(1))
            knowing.revoke_svid(client.svid)
            got += len(await _rest(ends.near[0]))
            assert got < MANY // 2  # what the kernel held, and both ends of the loop

    runner.run(run())


def test_a_stream_of_asyncio_ends_at_once_though_nobody_told_us_of_it(
    client: Identity, knowing: KnowingIdentity
) -> None:
    async def run() -> None:
        async with asyncio.timeout(10), Streams() as ends:
            await ends.connect(client_context(client, ANYBODY), server_context(knowing, ANYBODY))
            waiting = asyncio.ensure_future(ends.reader.read(1))
            await asyncio.to_thread(knowing.revoke_svid, client.svid)
            with pytest.raises(RevokedPeerError):
                await waiting
            assert await _rest(ends.near[0]) == b""

    asyncio.run(run())


def test_what_asyncio_has_not_sent_yet_stays_here_though_nobody_told_us_of_it(
    client: Identity, knowing: KnowingIdentity
) -> None:
    """A server that writes and does not read, as one does whose answer is long."""

    async def run() -> None:
        async with asyncio.timeout(10), Streams() as ends:
            await ends.connect(client_context(client, ANYBODY), server_context(knowing, ANYBODY))
            transport = ends.writer.transport
            assert isinstance(transport, asyncio.ReadTransport)
            transport.pause_reading()
            ends.writer.write(bytes(MANY))
            got = len(await ends.near[0].read(1))
            knowing.revoke_svid(client.svid)
            got += len(await _rest(ends.near[0]))
            assert got < MANY // 2
            with pytest.raises(RevokedPeerError):
                await ends.writer.drain()

    asyncio.run(run())


def test_a_client_of_asyncio_ends_as_well_and_one_that_began_without_tls(
    domain: TrustDomainDouble, knowing: KnowingIdentity
) -> None:
    """`start_tls`: who shakes hands is another transport's protocol then."""

    async def run() -> None:
        of_server = server_context(Identity(domain.svid("/server"), domain.bundle), ANYBODY)
        accepted: asyncio.Future[object] = asyncio.Future()

        async def upgrade(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await writer.start_tls(of_server)
            accepted.set_result(writer)

        async with asyncio.timeout(10):
            listening = await asyncio.start_server(upgrade, "127.0.0.1", 0)
            reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
            await writer.start_tls(client_context(knowing, ANYBODY), server_hostname="any")
            await accepted
            waiting = asyncio.ensure_future(reader.read(1))
            knowing.revoke(domain.name, *_serials(writer))
            with pytest.raises(RevokedPeerError):
                await waiting
            listening.close()

    asyncio.run(run())


def _serials(writer: asyncio.StreamWriter) -> frozenset[int]:
    """Those of the other end's chain."""
    connection = writer.get_extra_info("ssl_object")
    assert isinstance(connection, CheckedObject)
    assert connection.peer is not None
    return frozenset(connection.peer.numbers)


def test_a_stream_is_refused_to_a_denied_peer(
    runner: asyncio.Runner, client: Identity, knowing: KnowingIdentity
) -> None:
    async def run() -> None:
        knowing.revoke_svid(client.svid)
        async with asyncio.timeout(10), Streams() as ends:
            with pytest.raises(RevokedHandshakeError):
                await ends.connect(client_context(knowing, ANYBODY), server_context(client, ANYBODY))

    runner.run(run())


def test_an_idle_stream_that_is_known_ends_at_once(
    runner: asyncio.Runner, client: Identity, knowing: KnowingIdentity
) -> None:
    async def run() -> None:
        async with asyncio.timeout(10), Streams() as ends:
            await ends.connect(client_context(client, ANYBODY), server_context(knowing, ANYBODY))
            end_when_revoked(ends.writer.transport)
            waiting = asyncio.ensure_future(ends.reader.read(1))
            await asyncio.to_thread(knowing.revoke_svid, client.svid)
            with pytest.raises(RevokedPeerError):
                await waiting
            assert await _rest(ends.near[0]) == b""

    runner.run(run())


def test_a_stream_that_becomes_known_after_the_denial_ends_all_the_same(
    runner: asyncio.Runner, client: Identity, knowing: KnowingIdentity
) -> None:
    async def run() -> None:
        async with asyncio.timeout(10), Streams() as ends:
            await ends.connect(client_context(client, ANYBODY), server_context(knowing, ANYBODY))
            knowing.revoke_svid(client.svid)
            end_when_revoked(ends.writer.transport)
            with pytest.raises(RevokedPeerError):
                await ends.reader.read(1)

    runner.run(run())


def test_a_denial_after_the_end_of_a_loop_harms_nobody(client: Identity, knowing: KnowingIdentity) -> None:
    async def run() -> Streams:
        async with asyncio.timeout(10), Streams() as ends:
            await ends.connect(client_context(client, ANYBODY), server_context(knowing, ANYBODY))
            end_when_revoked(ends.writer.transport)
        return ends

    ends = asyncio.run(run())
    knowing.revoke_svid(client.svid)
    assert ends.writer.transport.is_closing()


def test_a_denial_of_whom_was_left_already_is_no_error(
    runner: asyncio.Runner, client: Identity, knowing: KnowingIdentity
) -> None:
    async def run() -> None:
        wrong: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
        async with asyncio.timeout(10), Streams() as ends:
            await ends.connect(client_context(client, ANYBODY), server_context(knowing, ANYBODY))
            end_when_revoked(ends.writer.transport)
            for _ in range(2):
                ends.writer.close()
            knowing.revoke_svid(client.svid)
            await asyncio.sleep(0)
        assert not wrong

    runner.run(run())


def test_only_a_transport_of_ours_can_be_ended() -> None:
    async def run() -> None:
        near, far = socket.socketpair()
        with far:
            _, writer = await asyncio.open_connection(sock=near)
            with pytest.raises(AuthorizationError, match="not a connection of a LiveContext"):
                end_when_revoked(writer.transport)
            writer.close()

    asyncio.run(run())


@pytest.mark.parametrize("name", OF_OBJECTS)
def test_nothing_passes_on_buffers_after_their_peer_is_denied(
    client: Identity, knowing: KnowingIdentity, name: str
) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    mine = client_context(client, ANYBODY).wrap_bio(to_client, to_server)
    theirs = server_context(knowing, ANYBODY).wrap_bio(to_server, to_client, server_side=True)
    for step in (mine.do_handshake, theirs.do_handshake, mine.do_handshake, theirs.do_handshake):
        with contextlib.suppress(ssl.SSLWantReadError):
            step()
    mine.write(b"secret")
    assert theirs.read(1) == b"s"
    knowing.revoke_svid(client.svid)
    to_client.read()
    with pytest.raises(RevokedPeerError):
        getattr(theirs, name)(*{"write": (b"x",)}.get(name, ()))
    assert not to_client.pending


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What still comes, until the connection ends, cleanly or not."""
    try:
        return await reader.read()
    except ConnectionError:
        return b""


# how old the truth is


def test_an_old_truth_refuses_handshakes_where_that_is_wanted(
    pool: ThreadPoolExecutor, client: Identity, knowing: KnowingIdentity
) -> None:
    of_server = server_context(knowing, ANYBODY, refuse_after=timedelta(seconds=30))
    of_client = client_context(client, ANYBODY)
    knowing.age = timedelta(seconds=30)
    for end in connected(pool, of_client, of_server):
        end.close()
    knowing.age = timedelta(seconds=31)
    with pytest.raises(OutdatedError, match="expected data at most 30 s old, found data 31 s old") as caught:
        connected(pool, of_client, of_server)
    assert isinstance(caught.value, ssl.SSLError)
    knowing.age = None
    with pytest.raises(OutdatedError, match="at most 30 s old, found none"):
        connected(pool, of_client, of_server)


def test_an_old_truth_is_logged_once_a_minute_and_goes_on(
    domain: TrustDomainDouble, client: Identity, knowing: KnowingIdentity, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock(domain.now)
    context = server_context(knowing, ANYBODY, clock=clock)
    chain = [client.svid.chain_der()]
    knowing.age = timedelta(minutes=1)
    context.admit(chain)
    assert not caplog.messages
    knowing.age = timedelta(minutes=2)
    for _ in range(3):
        context.admit(chain)
    assert caplog.messages == ["server_context: no word from the issuer for 120 s; later revocations are not known"]
    clock.advance(60)
    context.admit(chain)
    assert len(caplog.messages) == 2


def test_how_old_it_may_be_can_not_be_demanded_of_a_source_that_does_not_know(server: Identity) -> None:
    with pytest.raises(TypeError, match="expected a source that knows of revocations, found Identity"):
        server_context(server, ANYBODY, refuse_after=timedelta(minutes=1))
