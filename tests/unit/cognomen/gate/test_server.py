"""gRPC behind the gate, through a real socket: limits, outcomes, the caller's death, the end."""

import asyncio
import os
import socket
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpclib.const import Status
from hpack import Decoder

from bench.rig.attacks import frame, greeting, request
from cognomen.gate.call import Call
from cognomen.gate.caller import Caller, peer
from cognomen.gate.gate import Limits, listen
from cognomen.gate.unixrpc import serve
from cognomen.protocol.errors import Kind, Refused
from tests.doubles.gated import Doing, answer, never, raw, read_on, served, translate
from tests.doubles.until import until

_DATA, _HEADERS, _RST = 0, 1, 3


async def call(path: Path, method: str = "Do", service: str = "", *, seconds: float = 10) -> bytes:
    """One call by the stock client on a connection of its own."""
    async with grpc.aio.insecure_channel(f"unix:{path}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        message = HealthCheckRequest(service=service).SerializeToString()
        return await channel.unary_unary(f"/test.Doing/{method}")(message, timeout=seconds)


async def status_of(path: Path, method: str = "Do", service: str = "", *, seconds: float = 10) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(path, method, service, seconds=seconds)
    return refused.value.code().name, refused.value.details() or ""


async def answer_to(path: Path, sent: bytes) -> dict[str, str]:
    """Send one call's frames, and return the headers that answer it."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(greeting + sent)
    async with asyncio.timeout(5):
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == _HEADERS:
                writer.close()
                return {str(name): str(value) for name, value in Decoder().decode(payload)}


async def test_a_stock_client_is_answered(tmp_path: Path) -> None:
    async with served(tmp_path / "s"):
        assert HealthCheckResponse.FromString(await call(tmp_path / "s")).status == HealthCheckResponse.SERVING


async def test_services_are_made_with_the_caller_of_the_connection(tmp_path: Path) -> None:
    callers: list[Caller] = []

    def make(caller: Caller) -> list[Doing]:
        callers.append(caller)
        return [Doing(answer)]

    async with serve(listen(tmp_path / "s", 0o600), make, Limits(), translate=translate):
        await call(tmp_path / "s")
        await call(tmp_path / "s")
        assert [(caller.pid, caller.uid) for caller in callers] == [(os.getpid(), os.geteuid())] * 2
    assert not any(caller.is_alive() for caller in callers)  # the pidfds were given back


async def test_a_refusal_is_translated(tmp_path: Path) -> None:
    async def refuse(_: Call) -> None:
        raise Refused(Kind.DENIED, "not you")

    async with served(tmp_path / "s", refuse):
        assert await status_of(tmp_path / "s") == ("PERMISSION_DENIED", "not you")


async def test_a_fault_of_ours_leaks_no_text(tmp_path: Path) -> None:
    async def fail(_: Call) -> None:
        raise RuntimeError("the secret")

    async with served(tmp_path / "s", fail):
        assert await status_of(tmp_path / "s") == ("INTERNAL", "internal error")


async def test_a_method_that_forgets_to_answer_is_our_fault(tmp_path: Path) -> None:
    async def forget(_: Call) -> None:
        return

    async with served(tmp_path / "s", forget):
        assert await status_of(tmp_path / "s") == ("INTERNAL", "internal error")


async def test_a_method_cancelled_by_what_it_waits_for_is_answered(tmp_path: Path) -> None:
    async def wait(_: Call) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with served(tmp_path / "s", wait):
        assert await status_of(tmp_path / "s", seconds=3) == ("INTERNAL", "internal error")


async def test_unknown_method_is_unimplemented(tmp_path: Path) -> None:
    async with served(tmp_path / "s"):
        assert (await status_of(tmp_path / "s", "Other"))[0] == "UNIMPLEMENTED"


async def test_the_callers_deadline_ends_the_method(tmp_path: Path) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(_: Call) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with served(tmp_path / "s", wait):
        while not begun.is_set():  # a busy machine may use up the time before
            assert (await status_of(tmp_path / "s", seconds=0.2))[0] == "DEADLINE_EXCEEDED"
        await asyncio.wait_for(ended.wait(), 5)


async def test_message_over_the_limit_is_refused_by_its_prefix(tmp_path: Path) -> None:
    async with served(tmp_path / "s", limits=Limits(message_bytes=1000)):
        status, detail = await status_of(tmp_path / "s", service="x" * 1000)
        assert (status, detail) == ("RESOURCE_EXHAUSTED", "message: expected at most 1000 bytes, found 1003")
        await call(tmp_path / "s", service="x" * 997)


async def test_large_messages_pass_where_they_are_allowed(tmp_path: Path) -> None:
    limits = Limits(message_bytes=8 * 2**20, rate=1_000_000)
    async with served(tmp_path / "s", limits=limits):
        await call(tmp_path / "s", service="x" * 7 * 2**20)


@pytest.mark.parametrize(
    ("message", "status", "detail"),
    [
        (b"\x01\0\0\0\0", Status.UNIMPLEMENTED, "compression is not supported"),
        (b"\0\0\0\0\x05abc", Status.INVALID_ARGUMENT, "expected all the bytes its prefix promises"),
        (b"\0\0\0\0\x03\xff\xff\xff", Status.INVALID_ARGUMENT, "expected HealthCheckRequest"),
        (b"\0\xff\xff\xff\xff", Status.RESOURCE_EXHAUSTED, "expected at most 65536 bytes, found 4294967295"),
    ],
)
async def test_broken_message_is_answered_with_its_status(
    tmp_path: Path, message: bytes, status: Status, detail: str
) -> None:
    async with served(tmp_path / "s"):
        answer = await answer_to(tmp_path / "s", request(1) + frame(_DATA, 1, 1, message))
        assert answer["grpc-status"] == str(status.value)
        assert detail in answer["grpc-message"]


@pytest.mark.parametrize(
    ("extra", "status"),
    [
        (("grpc-timeout", "9" * 9 + "S"), Status.INVALID_ARGUMENT),
        (("grpc-timeout", "soon"), Status.INVALID_ARGUMENT),
        (("x-bin", "a"), Status.INVALID_ARGUMENT),
        (("content-type", "text/html"), Status.UNKNOWN),
        ((":method", "GET"), Status.UNKNOWN),
        ((":path", "/other"), Status.UNIMPLEMENTED),
    ],
)
async def test_malformed_call_is_answered(tmp_path: Path, extra: tuple[str, str], status: Status) -> None:
    async with served(tmp_path / "s"):
        answer = await answer_to(tmp_path / "s", request(1, "Check", extra) + frame(_DATA, 1, 1))
        assert answer["grpc-status"] == str(status.value)


async def test_frame_of_an_unknown_type_is_ignored(tmp_path: Path) -> None:
    async with served(tmp_path / "s"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.writelines([greeting, frame(0x77, 0, 0, b"from the future"), frame(6, 0, 0, b"still on")])
        async with asyncio.timeout(5):
            found = b""
            while b"still on" not in found:
                found += await reader.read(4096)
        writer.close()


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0\x01", greeting + b"\xff" * 9, bytes(range(256))]
)
async def test_garbage_ends_its_own_connection_only(tmp_path: Path, sent: bytes) -> None:
    async with served(tmp_path / "s"):
        assert b"expected" in await raw(tmp_path / "s", sent)
        await call(tmp_path / "s")


@pytest.mark.parametrize("sent", [b"", greeting[:10], greeting + b"\0", greeting + frame(1, 0, 1, b"\x82")])
async def test_whoever_does_not_finish_what_was_begun_is_closed(tmp_path: Path, sent: bytes) -> None:
    async with served(tmp_path / "s", limits=Limits(stall_seconds=0.2)):
        assert b"within 0.2 s, found silence" in await raw(tmp_path / "s", sent)


async def test_an_idle_connection_stays(tmp_path: Path) -> None:
    async with served(tmp_path / "s", limits=Limits(stall_seconds=0.1)):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(greeting)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read_on(reader), 0.5)
        writer.close()


async def test_flood_of_control_frames_is_told_to_calm_down(tmp_path: Path) -> None:
    async with served(tmp_path / "s", limits=Limits(rate=200)):
        found = await raw(tmp_path / "s", greeting, *[frame(6, 0, 0, bytes(8))] * 2000)
        assert b"flood of control frames" in found
        await call(tmp_path / "s")


async def test_client_that_takes_its_first_message_and_leaves_is_no_flood(tmp_path: Path) -> None:
    async with (
        served(tmp_path / "s", never, limits=Limits(rate=200)),
        grpc.aio.insecure_channel(f"unix:{tmp_path / 's'}") as channel,
    ):
        method = channel.unary_stream(
            "/test.Doing/Stream",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        for _ in range(50):  # 2,500 units of resets, where 500 end an attacker's connection
            stream = method(HealthCheckRequest(), timeout=10)
            assert await stream.read() is not grpc.aio.EOF
            stream.cancel()


async def test_one_connection_more_than_a_uid_may_have_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path / "s", limits=Limits(connections_per_uid=2)):
        held = [await asyncio.open_unix_connection(tmp_path / "s") for _ in range(2)]
        assert f"connections of uid {os.geteuid()}: too many, expected at most 2".encode() in await raw(tmp_path / "s")
        for _, writer in held:
            writer.close()
        await call(tmp_path / "s")


async def test_one_call_more_than_a_uid_may_have_is_refused_alone(tmp_path: Path) -> None:
    async with served(tmp_path / "s", never, limits=Limits(calls_per_uid=3)):
        calls = b"".join(request(n) for n in (1, 3, 5, 7))
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(greeting + calls)
        refused = frame(_RST, 0, 7, (7).to_bytes(4, "big"))  # REFUSED_STREAM
        async with asyncio.timeout(5):
            found = b""
            while refused not in found:
                found += await reader.read(4096)
        writer.close()


async def test_calls_that_were_reset_count_no_longer(tmp_path: Path) -> None:
    async with served(tmp_path / "s", limits=Limits(calls_per_uid=3)):
        resets = b"".join(request(n) + frame(_RST, 0, n, (8).to_bytes(4, "big")) for n in range(1, 21, 2))
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(greeting + resets + frame(6, 0, 0, b"all sent"))
        async with asyncio.timeout(5):
            await reader.readuntil(b"all sent")
        await call(tmp_path / "s")
        writer.close()


CHILD = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(flush=True); sys.stdin.read(); {then}"


async def test_a_connection_ends_with_the_process_that_made_it(tmp_path: Path) -> None:
    """The parent connects, forks and exits; the child holds the inherited socket, and is not believed."""
    fork = "import os; os.fork() and os._exit(0); print(s.recv(1 << 16) and s.recv(1 << 16), flush=True)"
    async with served(tmp_path / "s"):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CHILD.format(then=fork), str(tmp_path / "s")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdin
        assert child.stdout
        await child.stdout.readline()
        child.stdin.close()
        assert (
            await asyncio.wait_for(child.stdout.readline(), 5) == b"b''\n"
        )  # the connection was closed under the child
        await child.stdout.read()  # to its end, or its transport stays open
        await child.wait()


class Immortal:
    """A process handle that always believes: what the pidfd is there to prevent."""

    def __init__(self) -> None:
        self._never, self._other = socket.socketpair()

    def is_alive(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._never.fileno()

    def close(self) -> None:
        self._never.close()
        self._other.close()


async def test_with_an_always_alive_double_the_same_child_is_believed(tmp_path: Path) -> None:
    def believe(sock: socket.socket, *, accepted_at: float) -> Caller:
        real = peer(sock, accepted_at=accepted_at)
        real.process.close()
        return Caller(pid=real.pid, uid=real.uid, gid=real.gid, groups=real.groups, process=Immortal())

    listen_on = "d = s.recv(1 << 16); d += b'' if b'believed' in d else s.recv(1 << 16)"
    speak = f"s.send(bytes.fromhex(sys.argv[2])); {listen_on}; print(d, flush=True)"
    fork = f"import os; os.fork() and os._exit(0); {speak}"
    ping = (greeting + frame(6, 0, 0, b"believed")).hex()
    async with serve(
        listen(tmp_path / "s", 0o600), lambda _: [Doing(answer)], Limits(), translate=translate, identify=believe
    ):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CHILD.format(then=fork), str(tmp_path / "s"), ping),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdin
        assert child.stdout
        await child.stdout.readline()
        child.stdin.close()
        assert b"believed" in await asyncio.wait_for(child.stdout.readline(), 5)
        await child.stdout.read()  # to its end, or its transport stays open
        await child.wait()


async def test_connections_that_end_leave_no_descriptor_behind(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with served(tmp_path / "s"):
        await raw(tmp_path / "s", b"garbage")
        before = descriptors()
        for _ in range(20):
            await raw(tmp_path / "s", b"garbage")
        await until(lambda: descriptors() <= before)


async def test_a_fault_in_making_the_services_ends_that_connection_only(tmp_path: Path) -> None:
    made = 0

    def make(_: Caller) -> list[Doing]:
        nonlocal made
        made += 1
        if made == 1:
            raise RuntimeError("our fault")
        return [Doing(answer)]

    async with serve(listen(tmp_path / "s", 0o600), make, Limits(), translate=translate):
        assert await raw(tmp_path / "s") == b""
        await call(tmp_path / "s")


async def test_closing_lets_a_unary_call_end(tmp_path: Path) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def slowly(call: Call) -> None:
        began.set()
        await may_end.wait()
        await answer(call)

    async with served(tmp_path / "s", slowly) as server:
        calling = asyncio.ensure_future(call(tmp_path / "s"))
        await began.wait()
        closing = asyncio.ensure_future(server.close(5))
        await asyncio.sleep(0)
        may_end.set()
        await closing
        assert HealthCheckResponse.FromString(await calling).status == HealthCheckResponse.SERVING


async def test_closing_does_not_wait_for_streams(tmp_path: Path) -> None:
    async with served(tmp_path / "s", never) as server, grpc.aio.insecure_channel(f"unix:{tmp_path / 's'}") as channel:
        stream: grpc.aio.UnaryStreamCall[bytes, bytes] = channel.unary_stream("/test.Doing/Stream")(b"")  # type: ignore[arg-type]  # the stub knows no raw bytes
        await stream.read()
        await asyncio.wait_for(server.close(60), 5)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stream.read()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_what_the_block_raises_comes_out_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with served(tmp_path / "s"):
            raise ValueError("mine")


async def test_a_server_moves_to_another_listener_and_keeps_whoever_came_to_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with served(path) as server, grpc.aio.insecure_channel(f"unix:{path}") as kept:
        message = HealthCheckRequest().SerializeToString()
        await kept.unary_unary("/test.Doing/Do")(message, timeout=10)
        with socket.socket(socket.AF_UNIX) as early:
            early.connect(str(path))  # still in the kernel's queue
            path.unlink()
            server.move_to(listen(path, 0o600))
            early.setblocking(False)
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_sendall(early, greeting)
                assert await asyncio.get_running_loop().sock_recv(early, 9)
        await kept.unary_unary("/test.Doing/Do")(message, timeout=10)
        assert HealthCheckResponse.FromString(await call(path)).status == HealthCheckResponse.SERVING
