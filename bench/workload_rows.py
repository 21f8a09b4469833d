"""Rows of a workload: what one caller waits for, and how many calls a second there are; of our attestor or of any other Workload API."""

import asyncio
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from bench.house import House
from bench.http2 import Connection, framed
from bench.results import Measured, spread
from bench.settings import Settings
from svid.wire.pb import workload_pb2 as pb

__all__ = ["H2LoadMissing", "fetch_x509_new", "fetch_x509_open", "jwt_cached", "jwt_new"]

_CONNECTIONS = _IN_FLIGHT = 8
_CACHED_CALLS = 3000  # a second of load, at what we aim for
_SUCCEEDED = re.compile(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded")
_RATE = re.compile(r"finished in [^,]+, ([0-9.]+) req/s")


class H2LoadMissing(Exception):  # noqa: N818 - as svid's Refused: says what happened
    """The load generator is not installed."""


@contextmanager
def _socket(settings: Settings) -> Iterator[Path]:
    """The Workload API that is measured: somebody else's, or our own with path and digest among the selectors."""
    if settings.endpoint is not None:
        yield settings.endpoint
        return
    with House.serving(settings.directory) as house:
        digest = subprocess.run(
            ["sha256sum", str(Path(sys.executable).resolve())], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        path = f"path:{Path(sys.executable).resolve()}"
        house.create(house.entry("self", f"uid:{os.getuid()}", path, f"sha256:{digest}"))
        # h2load is another program
        house.create(house.entry("load", f"uid:{os.getuid()}"))
        house.wait_for_issued(2)
        yield house.socket


def fetch_x509_open(settings: Settings) -> Measured:
    """FetchX509SVID until its first message, one caller, on a connection that is open."""

    async def measure(path: Path) -> list[float]:
        connection = await Connection.open(path)
        took = await _for(settings.load_seconds, lambda: _first_message(connection))
        connection.close()
        return took

    return _one_caller(settings, measure)


def fetch_x509_new(settings: Settings) -> Measured:
    """FetchX509SVID until its first message, one caller, each time on a new connection."""

    async def once() -> None:
        connection = await Connection.open(path_of[0])
        await _first_message(connection)
        connection.close()

    path_of: list[Path] = []

    async def measure(path: Path) -> list[float]:
        path_of.append(path)
        return await _for(settings.load_seconds, once)

    return _one_caller(settings, measure)


def jwt_cached(settings: Settings) -> Measured:
    """FetchJWTSVID of one audience, 8 connections with 8 calls in flight each, by h2load."""
    h2load = shutil.which("h2load")
    if h2load is None:
        raise H2LoadMissing("h2load: expected it, found none; install Debian's nghttp2-client")
    body = framed(pb.JWTSVIDRequest(audience=["bench"]).SerializeToString())
    with _socket(settings) as path, tempfile.NamedTemporaryFile() as data:
        data.write(body)
        data.flush()
        uvloop.run(_check_answers(path, body))
        done = subprocess.run(
            [
                *(h2load, f"--requests={int(settings.load_seconds * _CACHED_CALLS)}", f"--data={data.name}"),
                *(f"--clients={_CONNECTIONS}", f"--max-concurrent-streams={_IN_FLIGHT}", f"--base-uri=unix:{path}"),
                *("--header=content-type: application/grpc", "--header=te: trailers"),
                *("--header=workload.spiffe.io: true", "http://localhost/SpiffeWorkloadAPI/FetchJWTSVID"),
            ],
            capture_output=True, text=True, timeout=300, check=True,
        )  # fmt: skip
    counts, rate = _SUCCEEDED.search(done.stdout), _RATE.search(done.stdout)
    if counts is None or rate is None:
        raise ValueError(f"h2load: expected its summary, found {done.stdout[-400:]!r}")
    total, succeeded = map(int, counts.groups())
    return Measured(figures={"calls per second": float(rate[1])}, samples=succeeded, failed=total - succeeded)


def jwt_new(settings: Settings) -> Measured:
    """FetchJWTSVID of a new audience each time, 8 connections with 8 calls in flight each."""
    with _socket(settings) as path:
        return uvloop.run(_jwt_new(settings, path))


async def _jwt_new(settings: Settings, path: Path) -> Measured:
    numbers, began = itertools.count(), time.perf_counter()
    until = began + settings.load_seconds
    took: list[float] = []

    async def keep_asking(connection: Connection) -> None:
        while (asked := time.perf_counter()) < until:
            request = pb.JWTSVIDRequest(audience=[f"bench-{began}-{next(numbers)}"])
            await connection.unary("FetchJWTSVID", framed(request.SerializeToString()))
            took.append(time.perf_counter() - asked)

    connections = [await Connection.open(path) for _ in range(_CONNECTIONS)]
    async with asyncio.TaskGroup() as group:
        for connection in connections:
            for _ in range(_IN_FLIGHT):
                group.create_task(keep_asking(connection))
    seconds = time.perf_counter() - began
    for connection in connections:
        connection.close()
    return Measured(figures={"calls per second": len(took) / seconds} | spread(took), samples=len(took))


def _one_caller(settings: Settings, measure: Callable[[Path], Coroutine[None, None, list[float]]]) -> Measured:
    with _socket(settings) as path:
        took = uvloop.run(measure(path))
    return Measured(figures=spread(took), samples=len(took))


async def _first_message(connection: Connection) -> None:
    call = connection.call("FetchX509SVID", framed(b""))
    await call.next()
    connection.cancel(call)


async def _for(seconds: float, once: Callable[[], Coroutine[None, None, None]]) -> list[float]:
    """How long each took, one after the other; the first fifth of the time warms up."""
    took: list[float] = []
    warm, until = time.perf_counter() + seconds / 5, time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        await once()
        if began >= warm:
            took.append(time.perf_counter() - began)
    return took


async def _check_answers(path: Path, body: bytes) -> None:
    """One call of the kind that h2load repeats: it sees HTTP statuses only, which are 200 for refusals, too."""
    connection = await Connection.open(path)
    await connection.unary("FetchJWTSVID", body)
    connection.close()
