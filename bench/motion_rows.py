"""Rows about motion: a change on its way to open streams, an outage, a kill -9, a first identity."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import uvloop

from bench.house import House, copy_of_interpreter, cpu_seconds, environment_of_copy, rss_mb
from bench.results import Measured, percentile, spread
from bench.rig.child import Child
from bench.rig.http2 import Call, CallFailed, Connection, framed, wait_for_identity
from bench.settings import Settings
from cognomen.protocol.entry import EntryID
from svid import WorkloadAPIClient, WorkloadAPIError
from svid.wire.pb import workload_pb2

__all__ = ["attestor_idle", "first_identity", "kill", "outage", "push"]

_STREAMS = 100
_STOCK_CLIENT = """
from spiffe import X509Source
print("asking", flush=True)
X509Source(timeout_in_seconds=60)
print("has it", flush=True)
"""


class _Seen(Protocol):
    """Wait until streams have an identity, or have lost it; the time for each."""

    async def __call__(self, *, holds: bool, text: bytes) -> Sequence[float]: ...


class _Watcher:
    """One open stream of FetchX509SVID."""

    def __init__(self, connection: Connection) -> None:
        self._call: Call = connection.call("FetchX509SVID", framed(b""))

    async def until(self, *, holds: bool, text: bytes) -> float:
        """The time of the next message that holds this SPIFFE ID, or the next one that does not."""
        while True:
            moment, message = await self._call.next()
            if (text in message) == holds:
                return moment


def push(settings: Settings) -> Measured:
    """From the call that applies an entry to the message on open streams: one that all of 100 match, and one that one of them matches."""
    with House.serving(settings.directory) as house:
        program = copy_of_interpreter(house.directory)
        house.create(house.entry("self"), house.entry("witness", f"path:{program}"))
        return uvloop.run(_push(settings, house, program))


async def _push(settings: Settings, house: House, program: Path) -> Measured:
    streams = settings.count(_STREAMS)
    await wait_for_identity(house.socket)
    with _witness(house, program) as witness:
        connections = [await Connection.open(house.socket) for _ in range(streams - 1)]
        watchers = [_Watcher(connection) for connection in connections]
        lines = asyncio.StreamReader(limit=2**20)
        telling, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), _pipe_of(witness)
        )

        async def heard(*, holds: bool, text: bytes) -> float:
            while line := await lines.readline():
                moment, _, ids = line.partition(b" ")
                if (text in ids.split()) == holds:
                    return float(moment)
            raise CallFailed("witness: ended")

        async def everybody(*, holds: bool, text: bytes) -> Sequence[float]:
            waits: list[Awaitable[float]] = [watcher.until(holds=holds, text=text) for watcher in watchers]
            return await asyncio.gather(*waits, heard(holds=holds, text=text))

        async def witness_alone(*, holds: bool, text: bytes) -> Sequence[float]:
            return [await heard(holds=holds, text=text)]

        await heard(holds=True, text=b"spiffe://example.org/bench/witness")
        await asyncio.gather(*(watcher.until(holds=True, text=b"/bench/self") for watcher in watchers))
        every = await _rounds(settings.rounds, house, (f"uid:{os.getuid()}",), everybody)
        one = await _rounds(settings.rounds, house, (f"path:{program}",), witness_alone)
        for connection in connections:
            connection.close()
        telling.close()
    return Measured(figures=spread(every, "all match, ") | spread(one, "one matches, "), samples=len(every) + len(one))


async def _rounds(count: int, house: House, selectors: tuple[str, ...], seen: _Seen) -> list[float]:
    """Apply an entry and remove it again, that often; how long each stream waited for it."""
    took: list[float] = []
    for number in range(count):
        entry = house.entry(f"push{len(selectors[0])}-{number}", *selectors)
        text = str(entry.spiffe_id).encode()
        began = time.perf_counter()
        creating = asyncio.ensure_future(asyncio.to_thread(house.create, entry))
        took += [moment - began for moment in await seen(holds=True, text=text)]
        await asyncio.to_thread(house.delete, await creating)
        await seen(holds=False, text=text)
    return took


def outage(settings: Settings) -> Measured:
    """After an outage, from when the issuer is ready: until a change made then is on an open stream. Fetches continue meanwhile."""
    with House.serving(settings.directory) as house:
        house.create(house.entry("self"))
        return uvloop.run(_outage(settings, house))


async def _outage(settings: Settings, house: House) -> Measured:
    await wait_for_identity(house.socket)
    connection = await Connection.open(house.socket)
    watcher = _Watcher(connection)
    await watcher.until(holds=True, text=b"/bench/self")
    await asyncio.to_thread(house.issuer.stop)
    fetches = failed = 0
    until = time.perf_counter() + settings.outage_seconds
    while time.perf_counter() < until:
        call = connection.call("FetchX509SVID", framed(b""))
        fetches += 1
        try:
            await call.next(5)
        except (CallFailed, TimeoutError):
            failed += 1
        connection.cancel(call)
        await asyncio.sleep(0.1)
    await asyncio.to_thread(house.issuer.start)
    began = time.perf_counter()
    applying = asyncio.ensure_future(asyncio.to_thread(house.create, house.entry("after")))
    took = await watcher.until(holds=True, text=b"/bench/after") - began
    await applying
    connection.close()
    return Measured(
        figures={"in step s": took, "outage s": settings.outage_seconds, "fetches meanwhile": fetches},
        samples=1,
        failed=failed,
    )


def attestor_idle(settings: Settings) -> Measured:
    """Memory and CPU of an attestor that holds 1,000 SVIDs and that nobody calls."""
    with House.running(settings.directory) as house:
        house.invite()
        entries = house.entries(settings.count(1000))
        house.create(*entries)
        house.joining.start()
        house.wait_for_issued(len(entries))
        time.sleep(1)
        used = cpu_seconds(house.joining.pid)
        time.sleep(settings.idle_seconds)
        share = (cpu_seconds(house.joining.pid) - used) / settings.idle_seconds * 100
        return Measured(figures={"RSS MB": rss_mb(house.joining.pid), "% of a core": share}, samples=1)


def first_identity(settings: Settings) -> Measured:
    """From the call that creates its entry until the stock Python client, which was refused before and retries, has its SVID."""
    took = []
    with House.serving(settings.directory) as house:
        environment = {**os.environ, "SPIFFE_ENDPOINT_SOCKET": f"unix://{house.socket}"}
        for number in range(max(1, settings.rounds // 6)):
            with Child(
                [sys.executable, "-c", _STOCK_CLIENT],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as client:
                if client.stdout is None or client.stdout.readline() != "asking\n":
                    raise CallFailed("stock client: expected it to ask")
                time.sleep(1 + number % 3 / 3)  # by then it has been refused several times
                began = time.perf_counter()
                ids = house.create(house.entry("first"))
                if client.stdout.readline() != "has it\n":
                    raise CallFailed("stock client: expected an SVID")
                took.append(time.perf_counter() - began)
            house.delete(ids)
    return Measured(figures=spread(took), samples=len(took))


def kill(settings: Settings) -> Measured:
    """After a kill -9, from the start: until the issuer accepts a change, and until the attestor hands out an SVID."""
    issuer, attestor = [], []
    with House.serving(settings.directory) as house:
        house.create(house.entry("self"))
        _fetch(house)
        running = house.joining
        for number in range(settings.kills):
            house.issuer.kill()
            began = time.perf_counter()
            house.issuer.start()
            ids: Sequence[EntryID] = house.create(house.entry(f"after{number}", f"uid:{2_000_000 + number}"))
            issuer.append(time.perf_counter() - began)
            running.kill()
            began = time.perf_counter()
            house.attestor.start()
            running = house.attestor
            _fetch(house)
            attestor.append(time.perf_counter() - began)
            house.delete(ids)
    figures = {"issuer s": max(issuer), "attestor s": max(attestor), "issuer p50 s": percentile(issuer, 50)}
    return Measured(figures=figures | {"attestor p50 s": percentile(attestor, 50)}, samples=2 * settings.kills)


def _fetch(house: House) -> None:
    until = time.perf_counter() + 30
    with WorkloadAPIClient(f"unix://{house.socket}") as client:
        while time.perf_counter() < until:
            with suppress(WorkloadAPIError):
                client.fetch_x509_context()
                return
            time.sleep(0.01)
    raise TimeoutError("workload: expected an SVID")


@contextmanager
def _witness(house: House, program: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of that program that holds a stream open and prints what arrives."""
    command = [str(program), "-m", "bench.motion_rows", str(house.socket)]
    with Child[bytes](command, env=environment_of_copy(), stdout=subprocess.PIPE) as process:
        yield process


def _pipe_of(process: "subprocess.Popen[bytes]") -> BinaryIO:
    """Its output, which the reader must close; only one may, because a second close could hit somebody else's descriptor."""
    if process.stdout is None:
        raise AssertionError("the witness has a pipe")
    return os.fdopen(os.dup(process.stdout.fileno()), "rb")


async def _tell(path: Path) -> None:
    """The witness: print the time and the SPIFFE IDs of each message."""
    call = (await Connection.open(path)).call("FetchX509SVID", framed(b""))
    while True:
        moment, message = await call.next(seconds=600)
        svids = workload_pb2.X509SVIDResponse.FromString(message).svids
        print(moment, *(svid.spiffe_id for svid in svids), flush=True)


if __name__ == "__main__":
    uvloop.run(_tell(Path(sys.argv[1])))
