"""A TCP relay to a port of loopback, the road, with faults that a test or a bench turns on and off: distance, low bandwidth, cuts."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from bench.rig.loops import accepting, in_own_loop

__all__ = ["Network", "network"]

CHUNK_BYTES = 16 * 1024
TURNS = 20  # in a second, on a road of low bandwidth

Line = asyncio.Queue[tuple[float, bytes]]


class Network:
    """One road; its attributes may be set at any time, from any thread.

    Attributes:
        round_trip: how many seconds a byte and its answer take together.
        bytes_a_second: how much goes through each way; None: anything.
        is_held: nothing goes through for now, nothing is lost.
        connections: how many were made so far.
        waiting: how many pieces are held up now.
    """

    def __init__(self, target_port: int) -> None:
        self.round_trip = 0.0
        self.bytes_a_second: int | None = None
        self.is_held = False
        self.connections = 0
        self.waiting = 0
        self.port = 0
        self._target_port = target_port
        self._open: dict[asyncio.Task[None], _Connection] = {}

    @property
    def address(self) -> str:
        """The address at which the road begins."""
        return f"127.0.0.1:{self.port}"

    def lose_what_is_open(self) -> None:
        """Let both ends of each open connection believe that it is open, and carry nothing more on it."""
        for connection in tuple(self._open.values()):
            connection.is_lost = True

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Carry connections while the block runs."""
        async with accepting(await asyncio.start_server(self._came, "127.0.0.1", 0)) as self.port:
            yield

    def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = _Connection(self)
        task = asyncio.get_running_loop().create_task(self._serve(connection, reader, writer))
        self._open[task] = connection
        task.add_done_callback(self._open.pop)

    async def _serve(
        self, connection: "_Connection", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await asyncio.sleep(self.round_trip)  # as long as TCP's own handshake would take
            there = await asyncio.open_connection("127.0.0.1", self._target_port)
            try:
                await connection.carry((reader, writer), there)
            finally:
                there[1].transport.abort()
        except OSError:
            pass  # nobody listens there now
        finally:
            writer.transport.abort()


class _Connection:
    def __init__(self, road: Network) -> None:
        self.is_lost = False
        self._road = road

    async def carry(
        self,
        ours: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        theirs: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        """Carry both ways until one side ends."""
        async with asyncio.TaskGroup() as group:
            ways = []
            for reader, writer in ((ours[0], theirs[1]), (theirs[0], ours[1])):
                line: Line = asyncio.Queue(maxsize=8)
                ways += [group.create_task(self._take(reader, line)), group.create_task(self._give(line, writer))]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()

    async def _take(self, reader: asyncio.StreamReader, line: Line) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await reader.read(self._most()):
                await line.put((loop.time() + self._road.round_trip / 2, data))
        if self.is_lost:
            await asyncio.Event().wait()  # the other end does not learn that it has ended
        await line.put((loop.time() + self._road.round_trip / 2, b""))
        await asyncio.Event().wait()

    async def _give(self, line: Line, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            at, data = await line.get()
            await asyncio.sleep(at - loop.time())
            self._road.waiting += 1
            while self._road.is_held:  # noqa: ASYNC110 - set from another thread
                await asyncio.sleep(1 / TURNS)
            self._road.waiting -= 1
            if self.is_lost:
                continue
            if not data:
                return
            if self._road.bytes_a_second:
                await asyncio.sleep(len(data) / self._road.bytes_a_second)
            with contextlib.suppress(OSError):
                writer.write(data)
                await writer.drain()

    def _most(self) -> int:
        return CHUNK_BYTES if self._road.bytes_a_second is None else max(1, self._road.bytes_a_second // TURNS)


@contextmanager
def network(target: int | str) -> Iterator[Network]:
    """Make a road to that port, or to that host:port of loopback, for as long as the block runs.

    It has its own thread, so that a test may wait without closing it.
    """
    road = Network(int(str(target).rpartition(":")[2]))
    with in_own_loop(road.serving):
        yield road
