"""Rows of many streams at the workload's side: eight by eight, opened at once, after a restart; and new audiences for one caller alone."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bench.house import House
from bench.results import Measured, percentile, spread
from bench.rig.http2 import CallFailed, Connection, framed, wait_for_identity
from bench.settings import Settings
from bench.workload_rows import endpoint, jwt_request, one_after_the_other

__all__ = ["jwt_new_alone", "reconnect_storm", "streams_at_once", "x509_busy"]

_CONNECTIONS = _IN_FLIGHT = 8
_AT_ONCE = 200
_STORM_STREAMS, _STORM_CONNECTIONS = 1000, 200  # a uid may have 256 connections, and 1,024 calls
_MOST_ROUNDS = 10
_REST_SECONDS = 1.0  # a uid's budget is full again
_DIAL_SECONDS = 0.05
_BACK_SECONDS = 60.0
_METHOD = "FetchX509SVID"


def x509_busy(settings: Settings) -> Measured:
    """8 connections with 8 streams each. Each stream is opened, read once, and reset, again and again."""
    with endpoint(settings, []) as socket:
        return uvloop.run(_keep_busy(socket, settings.load_seconds))


def streams_at_once(settings: Settings) -> Measured:
    """200 streams, each on its own connection, all dialled at once: until the last has its first message."""
    with endpoint(settings, []) as socket:
        return uvloop.run(_open_at_once(socket, settings.count(_AT_ONCE), rounds=min(settings.rounds, _MOST_ROUNDS)))


def jwt_new_alone(settings: Settings) -> Measured:
    """One caller, one call after the other, each for a new audience."""
    with endpoint(settings, []) as socket:
        return uvloop.run(_new_audiences(socket, settings.load_seconds))


def reconnect_storm(settings: Settings) -> Measured:
    """1,000 streams whose attestor ends and starts again: from when it is ready until the last has an SVID again."""
    with House.serving(settings.directory) as house:
        house.create(house.entry("self"))
        uvloop.run(wait_for_identity(house.socket))
        return uvloop.run(_storm(house, settings.count(_STORM_STREAMS), settings.count(_STORM_CONNECTIONS)))


async def _keep_busy(socket: Path, seconds: float) -> Measured:
    connections = [await Connection.open(socket) for _ in range(_CONNECTIONS)]
    took: list[float] = []
    failed, why = 0, ""
    begin = time.perf_counter() + seconds / 5
    until = begin + seconds

    async def keep_fetching(connection: Connection) -> None:
        nonlocal failed, why
        while (began := time.perf_counter()) < until or not (took or failed):
            call = connection.call(_METHOD, framed(b""))
            try:
                moment, _ = await call.next()
            except CallFailed as e:
                failed, why = failed + 1, str(e)
                return
            connection.cancel(call)
            if began >= begin:
                took.append(moment - began)

    async with asyncio.TaskGroup() as group:
        for connection in connections * _IN_FLIGHT:
            group.create_task(keep_fetching(connection))
    rate = len(took) / (time.perf_counter() - begin)
    for connection in connections:
        connection.close()
    ratio = percentile(took, 99) / percentile(took, 50) if took else 0.0
    figures = {"calls per second": rate, "p99, times p50": ratio} | spread(took)
    return Measured(figures=figures, samples=len(took), failed=failed, why=why)


async def _open_at_once(socket: Path, count: int, *, rounds: int) -> Measured:
    took: list[float] = []
    failed, why = 0, ""
    for _ in range(rounds):
        began = time.perf_counter()
        try:
            connections = await _fetch_all(socket, count, per_connection=1)
        except (CallFailed, OSError) as e:
            failed, why = failed + 1, str(e)
            continue
        took.append(time.perf_counter() - began)
        for connection in connections:
            connection.close()
        await asyncio.sleep(_REST_SECONDS)
    figures = {"streams": float(count)} | (spread(took) if took else {})
    return Measured(figures=figures, samples=len(took), failed=failed, why=why)


async def _fetch_all(socket: Path, connections: int, *, per_connection: int) -> Sequence[Connection]:
    """Open so many streams, and return once each has an SVID."""
    opened: list[Connection] = []
    try:
        for _ in range(connections):
            opened.append(await Connection.open(socket))  # noqa: PERF401 - a failure closes those that are open
        calls = [one.call(_METHOD, framed(b"")) for one in opened for _ in range(per_connection)]
        for call in calls:
            await call.next()
    except (CallFailed, OSError):
        for one in opened:
            one.close()
        raise
    return opened


async def _new_audiences(socket: Path, seconds: float) -> Measured:
    connection = await Connection.open(socket)
    numbers = itertools.count()

    async def fetch() -> float:
        began = time.perf_counter()
        await connection.unary("FetchJWTSVID", jwt_request(f"alone-{next(numbers)}"))
        return time.perf_counter() - began

    measured = await one_after_the_other(fetch, seconds)
    connection.close()
    return measured


async def _storm(house: House, streams: int, connections: int) -> Measured:
    per_connection = max(1, streams // connections)
    await _fetch_all(house.socket, connections, per_connection=per_connection)
    failures = 0

    async def come_back() -> float:
        """Dial like a client that was cut off, until every stream has an SVID; returns when the last one has."""
        nonlocal failures
        while True:
            try:
                connection = await Connection.open(house.socket)
                calls = [connection.call(_METHOD, framed(b"")) for _ in range(per_connection)]
                return max([(await call.next())[0] for call in calls])
            except (CallFailed, OSError):
                failures += 1
                await asyncio.sleep(_DIAL_SECONDS)

    house.joining.kill()
    async with asyncio.TaskGroup() as group, asyncio.timeout(_BACK_SECONDS):
        dialling = [group.create_task(come_back()) for _ in range(connections)]
        await asyncio.to_thread(house.attestor.start)
        ready = time.perf_counter()
        backs = sorted([await one - ready for one in dialling])
    figures = {
        "streams": float(connections * per_connection),
        "half of them s": max(0.0, backs[len(backs) // 2]),
        "all of them s": max(0.0, backs[-1]),
        "tries in vain": float(failures),
    }
    return Measured(figures=figures, samples=len(backs))
