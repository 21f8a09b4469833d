"""Who is let in through the gate when many want to be, and when the daemon can look at nobody."""

import asyncio
import errno
import itertools
import os
import resource
import select
import socket
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from structlog.testing import capture_logs

from bench.rig.attacks import frame, greeting, request
from cognomen.gate.caller import Caller, peer
from cognomen.gate.gate import Gate, Limits
from tests.doubles.gated import As, never, raw, served
from tests.doubles.until import until

_PING, _HEADERS, _DATA, _SETTINGS = 6, 1, 0, 4
OF_THE_CONNECTION = 3  # tasks: of the gate, of its admissions, of the first connection

T = TypeVar("T")


class Client:
    """One connection, and what came on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, path: Path, *sent: bytes) -> "Client":
        """Connect, and return once the server has answered."""
        one = cls(*await asyncio.open_unix_connection(path))
        one.writer.writelines([greeting, *sent])
        async with asyncio.timeout(10):
            await one.reader.readexactly(9)
        return one

    async def is_open(self) -> bool:
        """Whether a PING is answered."""
        self.writer.write(frame(_PING, 0, 0, b"is it on"))
        try:
            async with asyncio.timeout(10):
                await self.reader.readuntil(b"is it on")
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        return True


@asynccontextmanager
async def full(
    path: Path, identify: As, *uids: int, holders: frozenset[int] = frozenset(), busy: frozenset[int] = frozenset()
) -> AsyncIterator[list[Client]]:
    """A server with as many connections as it may have, of these uids, the oldest first; those of `busy` have a call in flight."""
    limits = Limits(connections=len(uids))
    call = request(1) + frame(_DATA, 1, 1, bytes(5))
    async with served(path, never, limits=limits, identify=identify, holds_identity=holders.__contains__):
        held = []
        for uid in uids:
            identify.uid = uid
            held.append(await Client.of(path, *([call] if uid in busy else [])))
            assert await held[-1].is_open()  # so its call has begun
        yield held
        for one in held:
            one.writer.close()


async def open_ones(clients: list[Client]) -> list[bool]:
    return [await one.is_open() for one in clients]


async def test_an_idle_connection_of_the_uid_that_has_most_makes_room(tmp_path: Path) -> None:
    identify = As()
    async with full(tmp_path / "s", identify, 11, 12, 12, 13) as held:
        identify.uid = 14
        held.append(await Client.of(tmp_path / "s"))
        assert await open_ones(held) == [True, False, True, True, True]


async def test_a_uid_that_has_as_many_as_the_others_gets_no_more_at_their_expense(tmp_path: Path) -> None:
    identify = As()
    async with full(tmp_path / "s", identify, 11, 12) as held:
        assert b"connections: too many, expected at most 2" in await raw(tmp_path / "s", greeting)
        assert await open_ones(held) == [True, True]


async def test_a_thousand_uids_with_one_idle_connection_each_lock_nobody_out(tmp_path: Path) -> None:
    """Here 40 of them, who end the oldest first; whoever holds an identity keeps its own."""
    identify = As()
    async with full(tmp_path / "s", identify, *range(100, 140), holders=frozenset({100})) as held:
        identify.uid = 99
        newcomer = await Client.of(tmp_path / "s")
        assert await newcomer.is_open()
        assert [number for number, one in enumerate(held) if not await one.is_open()] == [1]
        newcomer.writer.close()


async def test_idle_connections_are_ended_before_those_with_calls(tmp_path: Path) -> None:
    identify = As()
    async with full(tmp_path / "s", identify, 11, 12, 13, busy=frozenset({11})) as held:
        identify.uid = 14
        held.append(await Client.of(tmp_path / "s"))
        assert await open_ones(held) == [True, False, True, True]


async def test_who_holds_an_identity_gets_in_where_strangers_have_calls_in_flight(tmp_path: Path) -> None:
    identify = As()
    busy = frozenset({11, 12})
    async with full(tmp_path / "s", identify, 13, 11, 12, holders=frozenset({13}), busy=busy) as held:
        identify.uid = 13
        held.append(await Client.of(tmp_path / "s"))
        assert await open_ones(held) == [True, False, True, True]


async def test_those_who_hold_identities_share_what_there_is(tmp_path: Path) -> None:
    identify = As()
    async with full(tmp_path / "s", identify, 11, 11, 11, 12, holders=frozenset({11, 12, 13})) as held:
        identify.uid = 13
        held.append(await Client.of(tmp_path / "s"))
        assert await open_ones(held) == [True, True, False, True, True]
        identify.uid = 12
        assert b"expected at most 4" in await raw(tmp_path / "s", greeting)


@pytest.mark.parametrize("uid", [0, os.geteuid()])
async def test_root_and_our_own_user_always_find_room(tmp_path: Path, uid: int) -> None:
    identify = As()
    async with full(tmp_path / "s", identify, 11, 12, holders=frozenset({11, 12})) as held:
        identify.uid = uid
        held.append(await Client.of(tmp_path / "s"))
        assert await open_ones(held) == [True, True, True]


async def test_there_are_never_more_connections_than_may_be_however_many_come_at_once(tmp_path: Path) -> None:
    identify = As()
    async with full(tmp_path / "s", identify, *range(11, 19)) as held:
        identify.uid = 99
        answers = await asyncio.gather(*(Client.of(tmp_path / "s") for _ in range(8)))
        held.extend(answers)
        assert sum(await open_ones(held)) == 8


async def test_a_socket_takes_its_share_of_few_descriptors(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (256, hard)
    )  # three for each connection here, and those of the tests before
    identify = As()
    identify.uid = 11
    try:
        async with served(tmp_path / "s", identify=identify):
            held = [await Client.of(tmp_path / "s") for _ in range(64)]
            assert b"connections: too many, expected at most 64" in await raw(tmp_path / "s", greeting)
            for one in held:
                one.writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_descriptors_that_ran_out_are_told_once_and_accepting_goes_on(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    loop = asyncio.get_running_loop()
    with capture_logs() as lines:
        async with served(tmp_path / "s"):
            with socket.socket(socket.AF_UNIX) as client:
                client.setblocking(False)
                resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
                try:
                    client.connect(str(tmp_path / "s"))
                    await until(lambda: bool(lines))
                    await asyncio.sleep(0.3)  # some refused accepts long
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                await loop.sock_sendall(client, greeting)
                async with asyncio.timeout(5):
                    assert await loop.sock_recv(client, 10)
    assert [(line["event"], line["log_level"]) for line in lines] == [("accept failed", "warning")]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EMFILE, "Too many open files"), b"descriptors: none left"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), b"the kernel does not say who it is"),
    ],
)
async def test_a_caller_that_cannot_be_looked_at_is_told_why_and_the_log_has_one_line(
    tmp_path: Path, error: OSError, reason: bytes
) -> None:
    def look(sock: socket.socket, *, accepted_at: float) -> Caller:
        peer(sock, accepted_at=accepted_at).process.close()
        raise error

    with capture_logs() as lines:
        async with served(tmp_path / "s", identify=look):
            for _ in range(5):
                assert reason in await raw(tmp_path / "s")
    assert [line["event"] for line in lines][:1] == ["connection refused"]
    assert not any("exc_info" in line for line in lines)


async def test_connections_beyond_a_uids_budget_wait_and_are_served(tmp_path: Path) -> None:
    async with served(tmp_path / "s", limits=Limits(rate=200)):  # of which five are free
        answers = await asyncio.gather(*(raw(tmp_path / "s", b"garbage") for _ in range(9)))
    assert all(b"preface" in one for one in answers)


async def test_a_uid_that_owes_much_is_told_to_come_again(tmp_path: Path) -> None:
    async with served(tmp_path / "s", limits=Limits(rate=1)):  # one in half a minute
        _, first = await asyncio.open_unix_connection(tmp_path / "s")  # not answered: it owes what its connection cost
        assert b"too many connections" in await raw(tmp_path / "s")
        first.close()


async def test_one_uid_keeps_only_so_many_waiting_and_the_rest_is_told_at_the_door(tmp_path: Path) -> None:
    async with served(tmp_path / "s", limits=Limits(rate=38, connections_per_uid=128)):  # one in a second
        with ExitStack() as leaving:
            clients = [leaving.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(140)]
            for client in clients:
                client.setblocking(False)
                client.connect(str(tmp_path / "s"))
            last = asyncio.get_running_loop().sock_recv(clients[-1], 1000)
            assert b"too many connections" in await asyncio.wait_for(last, 10)
            assert [len(select.select(clients, [], [], 0)[0]) <= 140 - 128] == [True]


async def test_all_connections_of_an_account_may_come_at_once(tmp_path: Path) -> None:
    """As after a restart of the daemon: the most that it may have, before the loop has a turn."""
    limits = Limits()
    async with served(tmp_path / "s", limits=limits):
        with ExitStack() as leaving:
            clients = [leaving.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(limits.connections_per_uid)]
            for client in clients:
                client.setblocking(False)
                client.connect(str(tmp_path / "s"))
                client.send(greeting)
            answers = [
                await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 9), 10) for client in clients
            ]
    assert {answer[3] for answer in answers} == {_SETTINGS}


async def test_a_connection_whose_task_is_cancelled_before_its_first_step_is_closed(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    made = itertools.count(1)

    def make(
        loop: asyncio.AbstractEventLoop,
        work: Generator[asyncio.Future[object] | None, None, T] | Coroutine[object, object, T],
    ) -> asyncio.Future[T]:
        if next(made) == OF_THE_CONNECTION:
            gate.cancel()
        return asyncio.Task(work, loop=loop)

    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        loop.set_task_factory(make)
        gate = asyncio.create_task(Gate(listener, Limits(), lambda _: pytest.fail("nobody is welcomed")).run())
        client.connect(str(tmp_path / "s"))
        client.setblocking(False)
        await asyncio.wait([gate])
        assert gate.cancelled()
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1), 10) == b""


async def test_who_has_only_looked_whether_anybody_listens_was_not_refused(tmp_path: Path) -> None:
    """A daemon and each command look so before they begin, and may have left before a busy daemon comes to them."""
    with capture_logs() as lines:
        async with served(tmp_path / "s"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(tmp_path / "s"))
            (await Client.of(tmp_path / "s")).writer.close()  # who came later is served
    assert lines == []
