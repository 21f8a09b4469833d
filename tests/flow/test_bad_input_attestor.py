"""Bad input at the attestor: what it refuses to start on, and who is unharmed when somebody misbehaves on its socket."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import msgspec
import pytest

import attestor.main
from attestor.config import AttestorConfig
from bench.rig.attacks import greeting
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from svid.spiffeid import SpiffeID, TrustDomain
from tests.flow.liveissuer import LiveIssuer
from tests.flow.test_attestor_end_to_end import SECONDS, LiveAttestor, Stream, entry, paths

_CONNECTIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An attestor with a workload that listens to it."""

    issuer: LiveIssuer
    local: LiveAttestor
    node: SpiffeID
    stream: Stream

    @property
    def path(self) -> str:
        return str(self.local.config.workload_socket)

    async def check_unharmed(self, path: str = "/db") -> None:
        """The open stream hears of a change, and a caller that comes now is served."""
        await self.issuer.create(entry(path, self.node))
        async with asyncio.timeout(SECONDS):
            while path not in paths(await self.stream.next()):
                pass
            async with self.local.stream() as another:
                assert path in paths(await another.next())


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Served]:
    async with AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(LiveIssuer(directory).running())
        local = LiveAttestor(directory)
        local.config = msgspec.structs.replace(local.config, connections_per_uid=_CONNECTIONS)
        node = await stack.enter_async_context(local.running(await issuer.invite()))
        await issuer.create(entry("/web", node))
        stream = await stack.enter_async_context(local.stream())
        assert paths(await stream.next()) == ["/web"]
        yield Served(issuer=issuer, local=local, node=node, stream=stream)


async def refusal(config: AttestorConfig, invite: Invite | None = None) -> Refused:
    """What keeps an attestor from starting."""
    with pytest.raises(Refused) as refused:
        async with asyncio.timeout(SECONDS):
            await attestor.main.run(config, invite=invite, stop=asyncio.Event())
    return refused.value


async def test_a_second_attestor_on_the_same_state_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        elsewhere = msgspec.structs.replace(served.local.config, workload_socket=tmp_path / "other" / "api.sock")
        refused = await refusal(elsewhere)
        assert refused.kind is Kind.EXISTS
        assert refused.detail.endswith(" is already in use by a running attestor")
        assert not elsewhere.workload_socket.exists()
        await served.check_unharmed()


async def test_a_socket_in_the_state_directory_itself_works_as_in_the_help(tmp_path: Path) -> None:
    local = LiveAttestor(tmp_path)
    local.config = msgspec.structs.replace(local.config, workload_socket=local.config.state_dir / "api.sock")
    async with LiveIssuer(tmp_path).running() as issuer, local.running(await issuer.invite()) as node:
        await issuer.create(entry("/web", node))
        async with local.stream() as stream:
            assert paths(await stream.next()) == ["/web"]


async def test_a_truncated_state_is_refused_left_alone_and_good_again_when_it_is_whole(tmp_path: Path) -> None:
    local = LiveAttestor(tmp_path)
    async with LiveIssuer(tmp_path).running() as issuer:
        async with local.running(await issuer.invite()) as before:
            pass
        file = local.config.state_dir / "node.state"
        whole = file.read_bytes()
        for length in range(0, len(whole), 101):  # at each byte: tests/unit/attestor/state/test_disk
            file.write_bytes(whole[:length])
            refused = await refusal(local.config, await issuer.invite() if length == 0 else None)
            assert (refused.kind, refused.hint[:16]) == (Kind.INVALID, "restore the file")
            assert file.read_bytes() == whole[:length]
        file.write_bytes(whole)
        async with local.running() as after:
            assert after == before


async def test_an_invite_for_another_trust_domain_is_refused_and_stays_good(tmp_path: Path) -> None:
    local = LiveAttestor(tmp_path)
    async with LiveIssuer(tmp_path).running() as issuer:
        invite = await issuer.invite()
        foreign = msgspec.structs.replace(local.config, trust_domain=TrustDomain("other.test"))
        refused = await refusal(foreign, invite)
        assert refused.detail == "invite: expected the trust domain other.test, found example.org"
        assert not (local.config.state_dir / "node.state").exists()
        async with local.running(invite):
            pass


async def test_a_socket_directory_that_others_write_costs_no_invite(tmp_path: Path) -> None:
    local = LiveAttestor(tmp_path)
    directory = local.config.workload_socket.parent
    async with LiveIssuer(tmp_path).running() as issuer:
        invite = await issuer.invite()
        directory.chmod(0o777)
        refused = await refusal(local.config, invite)
        assert refused.detail == f"directory {directory}: expected write access for its owner only, found mode 0777"
        assert list(directory.iterdir()) == []
        directory.chmod(0o755)
        async with local.running(invite):
            pass


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 4096,
        b"\xff" * 4096,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + b"a" * 4096,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 4096,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00" * 4096,
    ],
    ids=["zeros", "ones", "http1", "tls", "frames", "settings"],
)
async def test_garbage_on_the_workload_socket_ends_its_own_connection_alone(tmp_path: Path, garbage: bytes) -> None:
    async with serving(tmp_path) as served:
        for _ in range(3):
            reader, writer = await asyncio.open_unix_connection(served.path)
            try:
                writer.write(garbage)
                async with asyncio.timeout(SECONDS):
                    await reader.read()
            except OSError:  # it may have had enough before it was all sent
                pass
            finally:
                writer.close()
        await served.check_unharmed()


async def test_one_connection_more_than_the_budget_is_refused_and_the_others_stay(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        held = [await asyncio.open_unix_connection(served.path) for _ in range(_CONNECTIONS - 1)]
        reader, writer = await asyncio.open_unix_connection(served.path)
        async with asyncio.timeout(SECONDS):
            said = await reader.read()
        expected = f"connections of uid {os.geteuid()}: too many, expected at most {_CONNECTIONS}"
        assert expected.encode() in said
        for each in (writer, *(writer for _, writer in held)):
            each.close()
        await served.check_unharmed()


@pytest.mark.parametrize("before", ["", f"s.sendall({greeting!r}); s.recv(1);"], ids=["at once", "once it is in"])
async def test_a_caller_that_dies_between_connect_and_call_leaves_nothing_behind(tmp_path: Path, before: str) -> None:
    dies = f"import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); {before} os._exit(0)"
    async with serving(tmp_path) as served:
        for _ in range(2 * _CONNECTIONS):  # one left behind each would be more than the budget
            await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", dies, served.path], check=True, timeout=SECONDS
            )
        await served.check_unharmed()


async def test_a_call_without_its_header_harms_no_other_on_the_same_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, grpc.aio.insecure_channel(f"unix:{served.path}") as channel:
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(
            "/SpiffeWorkloadAPI/FetchX509SVID"
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await method(b"").read()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        good = method(b"", metadata=(("workload.spiffe.io", "true"),))
        assert await good.read() is not grpc.aio.EOF
        good.cancel()
        await served.check_unharmed()
