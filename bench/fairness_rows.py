"""Rows of one uid against another: how a uid is served while another uid asks for as much as it can get.

Two uids need root: without it, these rows have no figures.
"""

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import uvloop

from bench.hostile import ATTACKER_UID, VICTIM_UID
from bench.house import House
from bench.results import Measured, spread
from bench.rig.attacks import ATTACKS
from bench.rig.child import Child
from bench.rig.http2 import CallFailed, Connection, framed, wait_for_identity
from bench.settings import Settings
from cognomen.wire.pb import inspect_pb2
from svid.wire.pb import workload_pb2 as pb

__all__ = ["connect_storm", "one_against_another"]

_STORMS = 1  # processes
_IN_FLIGHT = 90  # on a connection
_CONNECTIONS = 8
_SPARE_SECONDS = 60.0
_WARM_UP_SECONDS = 1.0
_REST_SECONDS = 0.005  # between two connections: a uid may have only so many in a second
_EXPLAIN = "/cognomen.attestor.v1.Inspect/Explain"


def connect_storm(settings: Settings) -> Measured:
    """From the dial to the first message of FetchX509SVID on a new connection each time, while another uid does nothing but connect."""
    with _house(settings) as socket:
        if socket is None:
            return Measured(figures={}, samples=0)
        took, failed, why = _against("storm", "dial", socket, settings.load_seconds, attackers=_STORMS)
        return Measured(figures=spread(took), samples=len(took), failed=failed, why=why)


def one_against_another(settings: Settings) -> Measured:
    """One call after the other, alone and while another uid has 720 such calls in flight: new tokens, cached tokens, explanations."""
    with _house(settings) as socket:
        if socket is None:
            return Measured(figures={}, samples=0)
        figures: dict[str, float] = {}
        failed, reason = 0, ""
        for what in ("tokens", "kept", "explain"):
            for attackers, named in ((0, "alone"), (1, "against another")):
                flood = "tokens" if what == "kept" else what
                took, missed, why = _against(
                    f"flood-{flood}", what, socket, settings.load_seconds / 2, attackers=attackers
                )
                figures |= spread(took, f"{what}, {named}, ") if took else {}
                failed, reason = failed + missed, why or reason
        return Measured(figures=figures, samples=len(figures), failed=failed, why=reason)


@contextmanager
def _house(settings: Settings) -> Iterator[Path | None]:
    """A socket that both uids can reach, with identities for both; None without root."""
    if os.geteuid() != 0:
        yield None
        return
    with House.serving(settings.directory) as house:
        for directory in (settings.directory.parent, settings.directory):
            directory.chmod(0o711)
        uids = (os.getuid(), ATTACKER_UID, VICTIM_UID)
        house.create(*(house.entry(f"u{uid}", f"uid:{uid}") for uid in uids))
        uvloop.run(wait_for_identity(house.socket))
        yield house.socket


def _against(
    attack: str, what: str, socket: Path, seconds: float, *, attackers: int
) -> tuple[Sequence[float], int, str]:
    """What one uid sees while another attacks: how long each call took, how many failed, and the error of the last one."""
    with ExitStack() as ending:
        for _ in range(attackers):
            ending.enter_context(_run_as(ATTACKER_UID, attack, socket, seconds + 3))
        if attackers:
            time.sleep(_WARM_UP_SECONDS)
        victim = ending.enter_context(_run_as(VICTIM_UID, what, socket, seconds))
        answer, _ = victim.communicate(timeout=seconds + _SPARE_SECONDS)
    seen = json.loads(answer)
    return seen["took"], seen["failed"], seen["why"]


def _run_as(uid: int, what: str, socket: Path, seconds: float) -> Child[str]:
    command = [sys.executable, "-m", "bench.fairness_rows", what, str(socket), str(seconds), str(uid)]
    return Child(command, stdout=subprocess.PIPE, text=True)


class _Caller:
    """One uid's side: a connection for calls of the Workload API, and a channel for all others."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._numbers = itertools.count()

    async def dial(self) -> None:
        """A new connection, and its first identity."""
        connection = await Connection.open(self._socket)
        try:
            await connection.call("FetchX509SVID", framed(b"")).next(10)
        finally:
            connection.close()

    async def tokens(self, connection: Connection) -> None:
        """A token for a new audience."""
        await connection.unary("FetchJWTSVID", _request(f"a{os.getuid()}-{next(self._numbers)}"))

    async def kept(self, connection: Connection) -> None:
        """One of fifty tokens that were requested before."""
        await connection.unary("FetchJWTSVID", _request(f"kept-{next(self._numbers) % 50}"))

    async def explain(self, channel: grpc.aio.Channel) -> None:
        """Why this process has its identity."""
        ask: grpc.aio.UnaryUnaryMultiCallable[inspect_pb2.ExplainRequest, bytes] = channel.unary_unary(
            _EXPLAIN, request_serializer=inspect_pb2.ExplainRequest.SerializeToString
        )
        await ask(inspect_pb2.ExplainRequest(), timeout=30)

    async def one_after_the_other(self, what: str, seconds: float) -> None:
        """Call for that long, and print the results."""
        took: list[float] = []
        failed, why = 0, ""
        call, close = await self._call_of(what)
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            try:
                await call()
                took.append(time.perf_counter() - began)
            except (CallFailed, OSError, TimeoutError, grpc.RpcError) as e:
                failed, why = failed + 1, str(e)[:300]
            await asyncio.sleep(_REST_SECONDS if what == "dial" else 0)
        await close()
        print(json.dumps({"took": took, "failed": failed, "why": why}))

    async def flood(self, what: str, seconds: float) -> None:
        """Keep as many calls in flight as eight connections may have, for that long."""
        until = time.perf_counter() + seconds

        async def again(call: Callable[[], Awaitable[None]]) -> None:
            while time.perf_counter() < until:
                try:
                    await call()
                except (CallFailed, OSError, TimeoutError, grpc.RpcError):
                    await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            for _ in range(_CONNECTIONS):
                call, _close = await self._call_of(what)
                for _ in range(_IN_FLIGHT):
                    group.create_task(again(call))

    async def _call_of(self, what: str) -> tuple[Callable[[], Awaitable[None]], Callable[[], Awaitable[None]]]:
        if what == "explain":
            channel = grpc.aio.insecure_channel(
                f"unix:{self._socket}", options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
            )
            return (lambda: self.explain(channel)), channel.close
        if what == "dial":
            return self.dial, _nothing
        connection = await Connection.open(self._socket)
        kind = self.tokens if what == "tokens" else self.kept
        return (lambda: kind(connection)), _nothing


async def _nothing() -> None:
    """Close nothing: the process ends."""


def _request(audience: str) -> bytes:
    return framed(pb.JWTSVIDRequest(audience=[audience]).SerializeToString())


def _act() -> None:
    parser = argparse.ArgumentParser(prog="bench.fairness_rows")
    parser.add_argument("what")
    parser.add_argument("socket", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("uid", type=int)
    options = parser.parse_args()
    os.setgroups([])
    os.setgid(options.uid)
    os.setuid(options.uid)
    if options.what == "storm":
        ATTACKS["connect_storm"](options.socket, time.perf_counter() + options.seconds)
        return
    caller = _Caller(options.socket)
    name, _, flooded = options.what.partition("-")
    run = caller.flood(flooded, options.seconds) if flooded else caller.one_after_the_other(name, options.seconds)
    if flooded == "explain" or name == "explain":
        asyncio.run(run)  # gRPC's own loop integration
    else:
        uvloop.run(run)


if __name__ == "__main__":
    _act()
