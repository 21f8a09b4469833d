"""The front of a door: what it carries, whom it lets go, and who comes in while strangers hold what they can."""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from bench.rig.network import network
from bench.rig.strangers import client_hello, half_open
from bench.rig.webca import WebAuthority
from issuer.api.crowd import CrowdLimits, KnownAddresses
from issuer.api.front import Front, FrontLimits
from issuer.metrics import Metrics
from tests.flow.issuer_harness import Node, running
from tests.flow.test_issuer_node_door import empty_mint

LIMITS = FrontLimits(
    door="join",
    crowd=CrowdLimits(strangers=20, per_address=10, reserved=20),
    hello_seconds=0.3,
    handshake_seconds=0.3,
    stranger_seconds=0.3,
)
BIG = 8 * 1024 * 1024
PATIENT = replace(LIMITS, hello_seconds=60, handshake_seconds=60, stranger_seconds=60, stranger_bytes=4 * BIG)


class Behind:
    """A door with an echo behind it."""

    def __init__(self, front: Front, address: str, authority: WebAuthority, metrics: Metrics) -> None:
        self.front = front
        self.address = address
        self.metrics = metrics
        self.authority = authority
        self.ended = asyncio.Event()
        self.goes_on = asyncio.Event()
        """The flood waits for it after its first message."""

    def refused(self) -> float:
        return (
            self.metrics.registry.get_sample_value("cognomen_issuer_connections_refused_total", {"door": "join"}) or 0.0
        )

    def cut(self) -> float:
        return self.metrics.registry.get_sample_value("cognomen_issuer_connections_cut_total", {"door": "join"}) or 0.0

    def channel(self, address: str = "", *, own: bytes = b"") -> grpc.aio.Channel:
        roots, own = self.authority.path.read_bytes(), own or self.authority.identity.read_bytes()
        options = [
            ("grpc.ssl_target_name_override", "localhost"),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", 2 * BIG),
            ("grpc.http2.lookahead_bytes", 8 * BIG),  # more than all buffers on the way hold
        ]
        return grpc.aio.secure_channel(address or self.address, grpc.ssl_channel_credentials(roots, own, own), options)

    async def echo(self, data: bytes) -> bytes:
        async with self.channel() as channel:
            say: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/a.Echo/Say")
            return await say(data, timeout=20)


@asynccontextmanager
async def door(
    folder: Path,
    limits: FrontLimits = PATIENT,
    *,
    identify: Callable[[bytes], str | None] = lambda _: None,
    trusted: Sequence[WebAuthority] = (),
) -> AsyncIterator[Behind]:
    authority, metrics = WebAuthority(folder), Metrics()
    context = authority.server_context()
    context.set_alpn_protocols(["h2"])
    context.verify_mode = ssl.CERT_OPTIONAL
    for one in (authority, *trusted):
        context.load_verify_locations(one.path)
    front = Front(lambda: context, identify, limits, KnownAddresses(), metrics)

    async def say(request: bytes, call: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        front.note_use(call.peer())
        return request

    async def wait(request: bytes, call: object) -> AsyncIterator[bytes]:
        del call, request
        try:
            yield b"begun"
            await asyncio.Event().wait()
        finally:
            behind.ended.set()

    async def flood(request: bytes, call: object) -> AsyncIterator[bytes]:
        del call
        try:
            yield request
            await behind.goes_on.wait()
            while True:
                yield request
        finally:
            behind.ended.set()

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 2 * BIG)])
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Wait": grpc.unary_stream_rpc_method_handler(wait),
        "Flood": grpc.unary_stream_rpc_method_handler(flood),
    }
    echo = grpc.method_handlers_generic_handler("a.Echo", methods)
    server.add_generic_rpc_handlers((echo,))
    address = front.bind(server, "127.0.0.1:0", key="address")
    behind = Behind(front, address, authority, metrics)
    await server.start()
    front.start()
    try:
        yield behind
    finally:
        await server.stop(0)
        front.close()


async def test_megabytes_pass_unchanged_both_ways(tmp_path: Path) -> None:
    async with door(tmp_path) as behind:
        data = bytes(range(256)) * (BIG // 256)
        assert await behind.echo(data) == data


async def test_who_says_nothing_or_goes_no_further_is_let_go(tmp_path: Path) -> None:
    async with door(tmp_path, LIMITS) as behind:
        with half_open(behind.address, 3) as silent, half_open(behind.address, 3, hello=client_hello()) as halfway:
            await asyncio.to_thread(silent.wait_for_ends)
            await asyncio.to_thread(halfway.wait_for_ends)
        assert await behind.echo(b"still here") == b"still here"


async def test_a_stranger_that_shakes_hands_and_stays_is_let_go(tmp_path: Path) -> None:
    async with door(tmp_path, LIMITS) as behind, asyncio.timeout(20):
        context = behind.authority.client_context()
        host, _, port = behind.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")
        with pytest.raises((ConnectionResetError, ssl.SSLError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.transport.abort()


async def test_a_stranger_that_says_too_much_is_let_go_counted_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with door(tmp_path, replace(PATIENT, stranger_bytes=1024)) as behind:
        with pytest.raises(grpc.aio.AioRpcError):
            await behind.echo(bytes(4096))
        assert behind.cut() == 1
        assert capsys.readouterr().out.count("connections cut") == 1
        assert await behind.echo(b"little") == b"little"


async def test_a_handshake_that_fails_is_counted_and_told_once_in_ten_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with door(tmp_path) as behind:
        host, _, port = behind.address.rpartition(":")
        for _ in range(5):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):  # with what the door did not read
                await reader.read()
            writer.close()
        assert (
            behind.metrics.registry.get_sample_value("cognomen_issuer_handshakes_failed_total", {"door": "join"}) == 5
        )
    told = [line for line in capsys.readouterr().out.splitlines() if "handshake failed" in line]
    assert len(told) == 1
    assert "HTTP_REQUEST" in told[0]


async def test_one_address_gets_its_share_and_others_come_in(tmp_path: Path) -> None:
    async with door(tmp_path) as behind:
        with half_open(behind.address, 30) as strangers:
            await asyncio.to_thread(strangers.wait_for_ends, 10)
            assert await behind.echo(b"in") == b"in"
            assert strangers.standing() == 10
        assert behind.refused() == 20


async def test_where_everything_is_taken_a_newcomer_comes_in(tmp_path: Path) -> None:
    async with door(tmp_path) as behind:
        with half_open(behind.address, 20, from_addresses=20, hello=client_hello()) as strangers:
            assert await behind.echo(b"in") == b"in"
            assert strangers.standing() == 19


async def anew(node: Node) -> grpc.StatusCode:
    """Call over a new connection."""
    again = Node(node.address, node.key, node.credential)
    try:
        return await empty_mint(again)
    finally:
        await again.close()


async def test_nodes_come_back_and_join_while_strangers_hold_what_they_can(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        assert await anew(node) is grpc.StatusCode.INVALID_ARGUMENT
        hello = client_hello()
        with (
            half_open(issuer.bound.node_address, 2000, from_addresses=500, hello=hello),
            half_open(issuer.bound.join_address, 1000, from_addresses=500, hello=hello),
        ):
            for _ in range(3):
                assert await anew(node) is grpc.StatusCode.INVALID_ARGUMENT
            other = await issuer.join()
        await other.close()
        await node.close()


async def test_a_far_and_thin_peer_comes_in_while_strangers_hold_what_they_can(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        with (
            network(issuer.bound.node_address) as road,
            half_open(issuer.bound.node_address, 900, from_addresses=300, hello=client_hello()),
        ):
            road.round_trip, road.bytes_a_second = 2.0, 12_000
            assert await anew(replace(node, address=road.address)) is grpc.StatusCode.INVALID_ARGUMENT
        await node.close()


async def test_what_a_replaced_certificate_opened_ends_once_another_is_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    await asyncio.to_thread(folder.mkdir)
    other = WebAuthority(folder, name="other")
    limits = replace(
        PATIENT, crowd=CrowdLimits(strangers=20, per_address=10, reserved=20, nodes=5), handover_seconds=0.3
    )
    async with (
        asyncio.timeout(30),
        door(tmp_path, limits, identify=lambda _: "a node", trusted=[other]) as behind,
        behind.channel() as older,
        behind.channel(own=other.identity.read_bytes()) as newer,
    ):
        feed: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = older.unary_stream("/a.Echo/Wait")
        followed = feed(b"")
        assert await followed.read() == b"begun"
        assert await behind.echo(b"by the older one") == b"by the older one"
        say: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = newer.unary_unary("/a.Echo/Say")
        await say(b"by the newer one")
        await behind.ended.wait()
        assert await say(b"goes on") == b"goes on"


async def test_a_node_that_takes_nothing_of_what_waits_for_it_is_let_go(tmp_path: Path) -> None:
    limits = replace(PATIENT, crowd=CrowdLimits(strangers=20, per_address=10, reserved=20, nodes=5), stuck_seconds=0.3)
    async with door(tmp_path, limits, identify=lambda _: "a node") as behind, asyncio.timeout(120):
        with network(behind.address) as road:
            async with behind.channel(road.address) as channel:
                flood: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/a.Echo/Flood")
                call = flood(bytes(64 * 1024))
                await call.read()
                assert not behind.ended.is_set()
                road.is_held = True
                behind.goes_on.set()
                await behind.ended.wait()
                road.is_held = False
        assert await behind.echo(b"still here") == b"still here"


async def test_who_is_turned_away_is_told_once_in_ten_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with door(tmp_path) as behind:
        with half_open(behind.address, 40) as strangers:
            await asyncio.to_thread(strangers.wait_for_ends, 10)
    told = [line for line in capsys.readouterr().out.splitlines() if "connections refused" in line]
    assert len(told) == 1
    assert "127.1.0.1" in told[0]
    assert "expected at most 10 from one address" in told[0]


async def test_a_door_without_descriptors_says_so_once_in_ten_seconds_and_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, often, accept = list[int](), asyncio.Event(), socket.socket.accept

    def refuse(listener: socket.socket) -> tuple[socket.socket, object]:
        if often.is_set():
            return accept(listener)
        tries.append(1)
        if len(tries) == 4:
            often.set()
        raise OSError(errno.EMFILE, "Too many open files")

    async with door(tmp_path) as behind:
        monkeypatch.setattr(socket.socket, "accept", refuse)
        assert await behind.echo(b"in") == b"in"
    told = [line for line in capsys.readouterr().out.splitlines() if "accept failed" in line]
    assert len(tries) == 4
    assert len(told) == 1
