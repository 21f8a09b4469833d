"""svid.tls with gRPC, both of its servers and both of its channels: who is let in, and rotations under load."""

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias, cast

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from bench.rig.loops import in_own_loop
from svid.clock import SystemClock
from svid.errors import WorkloadAPIError
from svid.integrations.grpc_calls import Call
from svid.integrations.grpc_checks import BearerCheck, PeerCheck
from svid.integrations.grpc_client import grpc_aio_channel, grpc_bearer_credentials, grpc_channel
from svid.integrations.grpc_relay import GOAWAY_FRAME, FrameBoundaries, connection_frame, relay_to
from svid.integrations.grpc_server import grpc_aio_server, grpc_interceptor, grpc_server
from svid.jwtsvid import JWTSVID, verify
from svid.spiffeid import SpiffeID
from svid.tls.authorize import Authorizer, any_in, exactly
from svid.tls.context import client_context
from tests.doubles.grpcrunning import running
from tests.doubles.identity import CLIENT, SERVER, Identity
from tests.doubles.trustdomain import TrustDomainDouble
from tests.flow.progress import Progress
from tests.flow.soak import IS_SOAK, TIMEOUT

ROTATIONS = 24 if IS_SOAK else 3
BETWEEN_SECONDS = 10 / 3 if IS_SOAK else 0.3  # and half of it again for the spread: a rotation every 5 s
PER_SECOND = 200
WHO, COUNT = "/test.Who/Say", "/test.Who/Count"
Serve: TypeAlias = "Callable[[Identity, Authorizer], contextlib.AbstractContextManager[tuple[int, Met]]]"


class Met:
    """Whom a server met, by the leaves that it saw."""

    def __init__(self) -> None:
        self.leaves: set[bytes] = set()

    def note(self, context: Call) -> None:
        (leaf,) = cast("Collection[bytes]", context.auth_context()["x509_pem_cert"])
        self.leaves.add(leaf)


@contextlib.contextmanager
def blocking(server: Identity, authorize: Authorizer, *others: grpc.ServerInterceptor) -> Iterator[tuple[int, Met]]:
    check, met = PeerCheck(server, authorize), Met()

    def say(request: bytes, context: grpc.ServicerContext) -> bytes:
        met.note(context)
        return request + str(check(context)).encode()

    def count(request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number
            threading.Event().wait(0.05)

    door, port = grpc_server("127.0.0.1:0", check, ThreadPoolExecutor(8), interceptors=others)
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    }
    door.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Who", methods)])
    with running(door):
        yield port, met


@contextlib.contextmanager
def asynchronous(server: Identity, authorize: Authorizer) -> Iterator[tuple[int, Met]]:
    check, met = PeerCheck(server, authorize), Met()

    async def say(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        met.note(context)
        return request + str(check(context)).encode()

    async def count(request: bytes, _: "grpc.aio.ServicerContext[bytes, bytes]") -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number
            await asyncio.sleep(0.05)

    @contextlib.asynccontextmanager
    async def serving() -> AsyncIterator[int]:
        running, port = grpc_aio_server("127.0.0.1:0", check)
        methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Say": grpc.unary_unary_rpc_method_handler(say),
            "Count": grpc.unary_stream_rpc_method_handler(count),
        }
        running.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Who", methods)])
        await running.start()
        try:
            yield port
        finally:
            await running.stop(0)

    with in_own_loop(serving) as port:
        yield port, met


SERVERS = pytest.mark.parametrize("serve", [blocking, asynchronous])


def ask(
    channel: grpc.Channel,
    request: bytes = b"",
    *,
    metadata: Sequence[tuple[str, str]] = (),
    credentials: grpc.CallCredentials | None = None,
) -> bytes:
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(WHO)
    return method(request, timeout=10, metadata=tuple(metadata), credentials=credentials)


def stream(channel: grpc.Channel, request: bytes) -> Iterator[bytes]:
    method: grpc.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(COUNT)
    return iter(method(request, timeout=20))


def say(port: int, client: Identity, authorize: Authorizer) -> bytes:
    with grpc_channel(f"127.0.0.1:{port}", client, authorize) as channel:
        return ask(channel, b"I am ")


def refused(port: int, client: Identity, authorize: Authorizer) -> str:
    with pytest.raises(grpc.RpcError) as error:
        say(port, client, authorize)
    return told(error.value)


def told(error: BaseException) -> str:
    """A call's status and what is said of it."""
    call = cast("grpc.Call", error)
    return f"{call.code().name}: {call.details()}"


@SERVERS
def test_each_side_knows_the_other(serve: Serve, client: Identity, server: Identity) -> None:
    with serve(server, exactly(CLIENT)) as (port, _):
        assert say(port, client, exactly(SERVER)) == f"I am {CLIENT}".encode()
        with grpc_channel(f"127.0.0.1:{port}", client, exactly(SERVER)) as channel:
            assert list(stream(channel, b"3")) == [b"0", b"1", b"2"]


@SERVERS
async def test_each_side_knows_the_other_in_asyncio(serve: Serve, client: Identity, server: Identity) -> None:
    with serve(server, exactly(CLIENT)) as (port, _):
        async with grpc_aio_channel(f"127.0.0.1:{port}", client, exactly(SERVER)) as channel:
            who: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(WHO)
            assert await who(b"I am ", timeout=10) == f"I am {CLIENT}".encode()
            count: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(COUNT)
            assert [one async for one in count(b"2", timeout=10)] == [b"0", b"1"]


def test_a_client_leaves_a_server_that_it_did_not_want_and_says_why(
    client: Identity, server: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    with blocking(server, exactly(CLIENT)) as (port, met):
        other = exactly(SpiffeID.parse("spiffe://example.org/other"))
        assert refused(port, client, other).startswith("UNAVAILABLE: ")
        assert f"expected spiffe://example.org/other, found {SERVER}" in caplog.text
        assert not met.leaves


def test_a_client_leaves_an_impostor(client: Identity, domain: TrustDomainDouble) -> None:
    stranger = TrustDomainDouble()
    stranger.rotate()
    stranger.drop()  # so that it has another authority
    impostor = Identity(stranger.svid("/server"), stranger.bundle, domain.bundle)
    with blocking(impostor, any_in(domain.name)) as (port, _):
        assert refused(port, client, exactly(SERVER)).startswith("UNAVAILABLE: ")


@SERVERS
def test_a_client_that_is_not_wanted_may_not_call(serve: Serve, client: Identity, server: Identity) -> None:
    with contextlib.ExitStack() as stack:
        port, met = stack.enter_context(serve(server, exactly(SERVER)))
        assert refused(port, client, exactly(SERVER)) == "PERMISSION_DENIED: forbidden"
        channel = stack.enter_context(grpc_channel(f"127.0.0.1:{port}", client, exactly(SERVER)))
        with pytest.raises(grpc.RpcError, match="forbidden"):
            list(stream(channel, b"3"))
        assert not met.leaves


@SERVERS
def test_each_call_is_checked_anew_on_a_connection_that_stays(
    serve: Serve, client: Identity, server: Identity, domain: TrustDomainDouble
) -> None:
    with (
        serve(server, exactly(CLIENT)) as (port, _),
        grpc_channel(f"127.0.0.1:{port}", client, exactly(SERVER)) as channel,
    ):
        ask(channel)
        domain.rotate()
        domain.drop()  # of whom the client's SVID is
        server.change(domain.svid("/server"), domain.bundle)
        with pytest.raises(grpc.RpcError, match="unauthenticated"):
            ask(channel)


def test_whoever_has_no_identity_any_more_neither_calls_nor_serves(
    client: Identity, server: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    with blocking(server, exactly(CLIENT)) as (port, _):
        with grpc_channel(f"127.0.0.1:{port}", client, exactly(SERVER)) as channel:
            ask(channel)
            server.deny()
            with pytest.raises(grpc.RpcError, match="unavailable"):
                ask(channel)
        client.deny()
        assert refused(port, client, exactly(SERVER)).startswith("UNAVAILABLE: ")
        assert "no identity issued" in caplog.text
    with pytest.raises(WorkloadAPIError, match="no identity issued"):
        grpc_server("127.0.0.1:0", PeerCheck(server, exactly(CLIENT)), ThreadPoolExecutor(1))


def test_who_shows_no_certificate_does_not_get_in(server: Identity) -> None:
    with contextlib.ExitStack() as stack:
        port, met = stack.enter_context(blocking(server, exactly(CLIENT)))
        (authority,) = next(iter(server.bundles.values())).x509_authorities
        credentials = grpc.ssl_channel_credentials(authority.public_bytes(Encoding.PEM))
        options = [("grpc.ssl_target_name_override", "server.example.org")]
        channel = stack.enter_context(grpc.secure_channel(f"127.0.0.1:{port}", credentials, options))
        with pytest.raises(grpc.RpcError) as error:
            ask(channel)
        assert told(error.value).startswith("UNAVAILABLE: ")
        assert not met.leaves


def test_another_process_is_not_served_by_the_relay(client: Identity, server: Identity) -> None:
    program = (
        "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.settimeout(10)\ns.connect(chr(0) + sys.argv[1])\n"
        "try:\n    s.send(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n')\n    print(len(s.recv(100)))\n"
        "except (ConnectionResetError, BrokenPipeError):\n    print(0)"
    )
    context = client_context(client, exactly(SERVER))
    with blocking(server, exactly(CLIENT)) as (port, _), relay_to(f"127.0.0.1:{port}", client, context) as name:
        command = [sys.executable, "-c", program, name]
        assert subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout == "0\n"
        with socket.socket(socket.AF_UNIX) as other, pytest.raises(OSError, match="in use"):
            other.bind(f"\0{name}")


def test_a_relay_that_ends_leaves_nothing_open_whatever_it_was_doing(client: Identity, server: Identity) -> None:
    with blocking(server, exactly(CLIENT)) as (port, _), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)
        for step in range(100):
            context = client_context(client, exactly(SERVER))
            with (
                socket.socket(socket.AF_UNIX) as grpc_end,
                relay_to(f"127.0.0.1:{port}", client, context) as name,
            ):
                grpc_end.connect(f"\0{name}")
                time.sleep(step * 0.0001)  # so that it ends while it accepts, connects, shakes hands, or relays
        gc.collect()
    assert [str(one.message) for one in warned] == []


def test_what_is_sent_before_the_handshake_reaches_nobody(client: Identity, server: Identity) -> None:
    with blocking(server, exactly(CLIENT)) as (port, met), socket.create_server(("127.0.0.1", 0)) as listener:

        def inject() -> None:
            accepted, _ = listener.accept()
            with (
                contextlib.suppress(OSError),  # the relay resets what it does not want
                accepted,
                socket.create_connection(("127.0.0.1", port)) as real,
            ):
                accepted.sendall(b"\0\0\0\4\0\0\0\0\0")  # an HTTP/2 SETTINGS frame
                while data := accepted.recv(65536):
                    real.sendall(data)
                    accepted.sendall(real.recv(65536))

        between = threading.Thread(target=inject)
        between.start()
        assert refused(listener.getsockname()[1], client, exactly(SERVER)).startswith("UNAVAILABLE: ")
        between.join()
        assert not met.leaves


def test_no_directory_of_somebody_elses_is_on_the_way(
    client: Identity, server: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_to_all = tmp_path / "a%41?#" / ("d" * 100)
    open_to_all.mkdir(parents=True)
    open_to_all.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(open_to_all))
    with (
        blocking(server, exactly(CLIENT)) as (port, _),
        grpc_channel(f"127.0.0.1:{port}", client, exactly(SERVER)) as channel,
    ):
        assert not list(open_to_all.iterdir())
        assert ask(channel)


@pytest.mark.parametrize("target", ["", "host", "host:", ":443", "host:x", "host:0", "host:65536"])
def test_what_is_no_target_is_refused(target: str, client: Identity) -> None:
    with pytest.raises(ValueError, match="target: expected host:port"), grpc_channel(target, client, exactly(SERVER)):
        pass


def test_nobody_listens_is_said(client: Identity, caplog: pytest.LogCaptureFixture) -> None:
    assert refused(1, client, exactly(SERVER)).startswith("UNAVAILABLE: ")
    assert "refused" in caplog.text


@pytest.fixture
def ends(client: Identity, server: Identity) -> tuple[Identity, Identity]:
    return client, server


class Tokens:
    """A source of JWT-SVIDs of one component, and a verifier of them."""

    def __init__(self, domain: TrustDomainDouble, path: str) -> None:
        self._domain = domain
        self._path = path
        self.is_away = False

    def fetch(self, audience: str | Collection[str]) -> JWTSVID:
        if self.is_away:
            raise WorkloadAPIError("away", code="UNAVAILABLE")
        return self.verify(self._domain.token(self._path, "db"), audience)

    def verify(self, token: str, audience: str | Collection[str]) -> JWTSVID:
        bundles = {self._domain.name: self._domain.bundle}
        return verify(token, bundles.get, audience=audience, at=SystemClock().now())


@pytest.mark.parametrize(
    ("path", "audience", "answer"),
    [
        ("/client", "db", "OK"),
        ("/other", "db", "PERMISSION_DENIED: forbidden"),
        ("/client", "else", "UNAUTHENTICATED: unauthenticated"),
    ],
)
def test_a_call_brings_a_jwt_svid(
    path: str, audience: str, answer: str, domain: TrustDomainDouble, ends: tuple[Identity, Identity]
) -> None:
    client, server = ends
    check = BearerCheck(Tokens(domain, ""), audience=audience, authorize=exactly(CLIENT))
    tokens = Tokens(domain, path)
    with (
        blocking(server, exactly(CLIENT), grpc_interceptor(check)) as (port, _),
        grpc_channel(f"127.0.0.1:{port}", client, exactly(SERVER)) as channel,
    ):
        with pytest.raises(grpc.RpcError, match="unauthenticated"):  # without one
            ask(channel)
        for twice in ([("authorization", "Bearer a")] * 2, [("authorization", "Basic a")]):
            with pytest.raises(grpc.RpcError, match="unauthenticated"):
                ask(channel, metadata=twice)
        credentials = grpc_bearer_credentials(tokens, "db")
        if answer == "OK":
            assert ask(channel, credentials=credentials) == str(CLIENT).encode()
        else:
            with pytest.raises(grpc.RpcError) as error:
                ask(channel, credentials=credentials)
            assert told(error.value) == answer
        tokens.is_away = True
        with pytest.raises(grpc.RpcError) as error:
            ask(channel, credentials=credentials)
        assert told(error.value).startswith("UNAVAILABLE: ")


@pytest.mark.timeout(TIMEOUT)
@SERVERS
def test_no_call_fails_while_identities_and_authorities_rotate(
    serve: Serve, client: Identity, server: Identity, domain: TrustDomainDouble
) -> None:
    """Calls at a steady rate and streams over many rotations, on one channel, which shows each identity."""
    over, progress = threading.Event(), Progress(2)

    def load(number: int, channel: grpc.Channel) -> int:
        while not over.wait(2 / PER_SECOND):
            assert ask(channel) == str(CLIENT).encode()
            progress.made[number] += 1
        return progress.made[number]

    def streams(channel: grpc.Channel) -> int:
        made = 0
        while not over.is_set():
            assert len(list(stream(channel, b"20"))) == 20
            made += 1
        return made

    with (
        serve(server, exactly(CLIENT)) as (port, met),
        grpc_channel(f"127.0.0.1:{port}", client, exactly(SERVER)) as channel,
        ThreadPoolExecutor(3) as pool,
    ):
        loads = [pool.submit(load, number, channel) for number in range(2)]
        streaming = pool.submit(streams, channel)
        for rotation in range(ROTATIONS):
            over.wait(BETWEEN_SECONDS)
            domain.rotate()
            for identity in (client, server):
                identity.change(identity.svid, domain.bundle)
            over.wait(BETWEEN_SECONDS / 2)  # the spread time
            progress.wait_for_all(loads, more=10)
            client.change(domain.svid("/client"), domain.bundle)
            server.change(domain.svid("/server"), domain.bundle)
            while len(met.leaves) < rotation + 2 and not any(one.done() for one in loads):
                over.wait(0.005)
        over.set()
        assert all(one.result() >= 10 * ROTATIONS for one in loads)
        assert streaming.result() > 0
        assert len(met.leaves) == ROTATIONS + 1


@given(payloads=st.lists(st.binary(max_size=40), min_size=1), cuts=st.lists(st.integers(1, 30), min_size=1))
def test_the_ends_of_frames_are_found_however_the_stream_is_cut(payloads: list[bytes], cuts: list[int]) -> None:
    frames = [connection_frame(kind % 256, payload) for kind, payload in enumerate(payloads)]
    whole, ends, position = b"".join(frames), set[int](), 0
    for one in frames:
        position += len(one)
        ends.add(position)
    reader, start, turn = FrameBoundaries(), 0, 0
    while start < len(whole):
        piece = whole[start : start + cuts[turn % len(cuts)]]
        end, within = reader.feed(piece), [one for one in ends if start < one <= start + len(piece)]
        assert end == (max(within) - start if within else None)
        start, turn = start + len(piece), turn + 1
        assert reader.is_at_boundary == (start in ends)
    assert reader.is_at_boundary
    assert FrameBoundaries().feed(GOAWAY_FRAME) == len(GOAWAY_FRAME)
    assert not FrameBoundaries().is_at_boundary  # nothing may come before the server's SETTINGS
