"""Rows of the workload's side, which can be measured at any SPIFFE Workload API: ours, or the one that --endpoint names."""

import asyncio
import hashlib
import itertools
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvloop

from bench import h2load
from bench.house import House
from bench.results import Measured, spread
from bench.rig.http2 import CallFailed, Connection, framed, wait_for_identity
from bench.settings import Settings
from svid.wire.pb import workload_pb2 as pb

__all__ = [
    "endpoint",
    "fetch_x509_new",
    "fetch_x509_open",
    "jwt_cached",
    "jwt_new",
    "jwt_request",
    "one_after_the_other",
]

_CONNECTIONS = _IN_FLIGHT = 8
_REST_SECONDS = (
    0.003  # between two connections: without it, a fast machine would use up what a uid may have in a second
)


def fetch_x509_open(settings: Settings) -> Measured:
    """One caller, one call after the other on an open connection: from the call to its first message."""
    with endpoint(settings, _this_program()) as socket:
        return uvloop.run(_fetch_open(socket, settings.load_seconds))


def fetch_x509_new(settings: Settings) -> Measured:
    """One caller, a new connection for each call: from the dial to the first message."""
    with endpoint(settings, _this_program()) as socket:
        return uvloop.run(_fetch_new(socket, settings.load_seconds))


def jwt_cached(settings: Settings) -> Measured:
    """Calls a second for the same audience, from h2load: 8 connections, 8 calls in flight on each."""
    h2load.check_present()
    with endpoint(settings, []) as socket:
        body = jwt_request("bench")
        answer = uvloop.run(_one_token(socket, body))
        load = h2load.run(
            socket,
            "FetchJWTSVID",
            body,
            answer_bytes=len(framed(answer)),
            seconds=settings.load_seconds,
            directory=settings.directory.parent,
        )
        figures = {"calls per second": load.rate} | spread(load.latencies)
        return Measured(figures=figures, samples=load.calls, failed=load.failed)


def jwt_new(settings: Settings) -> Measured:
    """Calls a second, each for a new audience: 8 connections, 8 calls in flight on each."""
    with endpoint(settings, []) as socket:
        return uvloop.run(_new_audiences(socket, settings.load_seconds))


@contextmanager
def endpoint(settings: Settings, selectors: Sequence[str]) -> Iterator[Path]:
    """The socket of the given endpoint, or of our own attestor with one entry for this process."""
    if settings.endpoint is not None:
        yield settings.endpoint
        return
    with House.serving(settings.directory) as house:
        house.create(house.entry("self", f"uid:{os.getuid()}", *selectors))
        uvloop.run(wait_for_identity(house.socket))
        yield house.socket


def _this_program() -> list[str]:
    program = Path(sys.executable).resolve()
    return [f"path:{program}", f"sha256:{hashlib.sha256(program.read_bytes()).hexdigest()}"]


def jwt_request(audience: str) -> bytes:
    """The message of FetchJWTSVID for that audience, framed."""
    return framed(pb.JWTSVIDRequest(audience=[audience]).SerializeToString())


async def _one_token(socket: Path, body: bytes) -> bytes:
    """The answer to one call, which must be a token."""
    connection = await Connection.open(socket)
    answer = await connection.unary("FetchJWTSVID", body)
    connection.close()
    if not pb.JWTSVIDResponse.FromString(answer).svids:
        raise CallFailed("FetchJWTSVID: expected a token, found none")
    return answer


async def _fetch_open(socket: Path, seconds: float) -> Measured:
    connection = await Connection.open(socket)

    async def fetch() -> float:
        nonlocal connection
        began = time.perf_counter()
        try:
            call = connection.call("FetchX509SVID", framed(b""))
            moment, _ = await call.next()
        except CallFailed:
            connection = await Connection.open(socket)
            raise
        connection.cancel(call)
        return moment - began

    measured = await one_after_the_other(fetch, seconds)
    connection.close()
    return measured


async def _fetch_new(socket: Path, seconds: float) -> Measured:
    async def fetch() -> float:
        began = time.perf_counter()
        connection = await Connection.open(socket)
        moment, _ = await connection.call("FetchX509SVID", framed(b"")).next()
        connection.close()
        await asyncio.sleep(_REST_SECONDS)
        return moment - began

    return await one_after_the_other(fetch, seconds)


async def one_after_the_other(fetch: Callable[[], Awaitable[float]], seconds: float) -> Measured:
    """Fetch for that long, after a fifth of it to warm up."""
    took: list[float] = []
    failed, why = 0, ""
    begin = time.perf_counter() + seconds / 5
    while (began := time.perf_counter()) < begin + seconds or not (took or failed):
        try:
            one = await fetch()
        except (CallFailed, OSError) as e:
            failed, why = failed + 1, str(e)
            continue
        if began >= begin:
            took.append(one)
    return Measured(figures=spread(took), samples=len(took), failed=failed, why=why)


async def _new_audiences(socket: Path, seconds: float) -> Measured:
    connections = [await Connection.open(socket) for _ in range(_CONNECTIONS)]
    took: list[float] = []
    failed = 0
    numbers = itertools.count()
    begin = time.perf_counter() + seconds / 5
    until = begin + seconds

    async def keep_calling(connection: Connection) -> None:
        nonlocal failed
        while (began := time.perf_counter()) < until or not (took or failed):
            try:
                await connection.unary("FetchJWTSVID", jwt_request(f"bench-{next(numbers)}"))
            except CallFailed:
                failed += 1
            else:
                if began >= begin:
                    took.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as group:
        for connection in connections * _IN_FLIGHT:
            group.create_task(keep_calling(connection))
    rate = len(took) / (time.perf_counter() - begin)
    for connection in connections:
        connection.close()
    return Measured(figures={"calls per second": rate} | spread(took), samples=len(took), failed=failed)
