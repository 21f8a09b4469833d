"""Measure whether a uid is served while another one attacks the socket.

`python -m bench.hostile [--json] [--seconds 3] [--plain] [ATTACK …]`

For each attack, a new server behind the gate runs. One uid attacks it, and a stock gRPC client with another uid calls it
without a pause. The promise: the client's p99 is ≤ 50 ms, the server's RSS ≤ 150 MB.
Two uids need root: without it, the second uid's figures are left out.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import grpc
import grpclib.server
import structlog
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc

from attestor.api.denials import Denials
from attestor.api.status import translate
from attestor.deniallog import DenialLog
from attestor.flows.serve_denials import ServeDenials
from attestor.nodeclock import NodeClock
from attestor.receipts import Receipts
from bench.rig.attacks import ATTACKS
from bench.rig.child import Child
from cognomen.gate.caller import Caller
from cognomen.gate.gate import Limits, listen
from cognomen.gate.health import Health, HealthState
from cognomen.gate.unixrpc import Service, serve
from cognomen.protocol.feed import Cursor
from svid.clock import SystemClock
from svid.denials import Denial
from svid.spiffeid import TrustDomain

__all__ = [
    "ATTACKER_UID",
    "VICTIM_UID",
    "Served",
    "await_attack",
    "call_for",
    "peak_rss_mb",
    "run_as",
    "running_server",
]

ATTACKER_UID, VICTIM_UID = 65532, 65533
P99_MS, RSS_MB = 50.0, 150.0
DENIALS = 100_000
_BEGUN = "attacking"
_SPARE_SECONDS = 60  # to start and to end
_NO_RETRIES = (("grpc.enable_retries", 0),)  # as in svid/workloadapi/client


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The results of one client.

    Units: milliseconds.
    """

    calls: int
    errors: int
    p50: float
    p99: float
    worst: float


def call_for(path: Path, seconds: float) -> Served:
    """Call the health service again and again, over one channel."""
    took: list[float] = []
    errors = 0
    with grpc.insecure_channel(f"unix:{path}", options=_NO_RETRIES) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        stub.Check(health_pb2.HealthCheckRequest(), timeout=10, wait_for_ready=True)
        until = time.perf_counter() + seconds
        while (began := time.perf_counter()) < until:
            try:
                stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.RpcError:
                errors += 1
            took.append((time.perf_counter() - began) * 1000)
    took.sort()
    return Served(
        calls=len(took), errors=errors, p50=took[len(took) // 2], p99=took[int(len(took) * 0.99)], worst=took[-1]
    )


def peak_rss_mb(pid: int) -> float:
    """The peak resident memory of that process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@contextlib.contextmanager
def running_server(path: Path, *, plain: bool = False) -> Iterator[subprocess.Popen[str]]:
    """A server in its own process."""
    command = [sys.executable, "-m", "bench.hostile", "--serve", str(path), *(["--plain"] if plain else [])]
    with Child(command, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError("server: expected it to be ready, found that it ended")
        yield process


def run_as(uid: int | None, what: str, path: Path, seconds: float) -> Child[str]:
    """Start an attack, or the client with the name `call`, in a process that changes to that uid after it has imported everything."""
    command = [sys.executable, "-m", "bench.hostile", "--act", what, "--path", str(path), "--seconds", str(seconds)]
    if uid is not None:
        command += ["--uid", str(uid)]
    return Child(command, stdout=subprocess.PIPE, text=True)


def await_attack(attacker: subprocess.Popen[str]) -> None:
    """Return once it attacks; before that, it imports, which may take long on a busy machine."""
    if attacker.stdout is None or attacker.stdout.readline().rstrip() != _BEGUN:
        raise RuntimeError("attacker: expected it to begin, found that it ended")


def _denials() -> ServeDenials:
    """Denials as an attestor has them after a large revocation."""
    clock, log = NodeClock(SystemClock()), DenialLog()
    end = clock.now() + timedelta(hours=1)
    log.put((Denial(number, end) for number in range(DENIALS)), Cursor(incarnation="1", number=1))
    return ServeDenials(log, Receipts(log), age=timedelta, clock=clock)


async def _serve(path: Path, *, plain: bool) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))  # nobody reads what it says
    state, denials = HealthState(), _denials()
    state.set_serving(serving=True)

    def services(caller: Caller) -> Sequence[Service]:
        return [Health(state), Denials(denials, caller, TrustDomain("example.org"))]

    async with contextlib.AsyncExitStack() as stack:
        if plain:
            server = await stack.enter_async_context(grpclib.server.Server([Health(state)]))
            await server.start(path=str(path))
            await asyncio.to_thread(path.chmod, 0o666)
        else:
            await stack.enter_async_context(serve(listen(path, 0o666), services, Limits(), translate=translate))
        print("ready", flush=True)
        await asyncio.Event().wait()


def _act(what: str, path: Path, seconds: float, uid: int | None) -> None:
    if uid is not None:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    if what == "call":
        print(json.dumps(asdict(call_for(path, seconds))))
    else:
        print(_BEGUN, flush=True)
        ATTACKS[what](path, time.perf_counter() + seconds)


def _measure(attack: str | None, seconds: float, *, plain: bool) -> tuple[Served | None, float]:
    """The results of the second uid, and the server's peak RSS."""
    two_uids = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = Path(directory) / "api.sock"
        with running_server(path, plain=plain) as server, contextlib.ExitStack() as ending:
            if attack:
                attacker = ending.enter_context(run_as(ATTACKER_UID if two_uids else None, attack, path, seconds + 2))
                await_attack(attacker)
            victim = ending.enter_context(run_as(VICTIM_UID if two_uids else None, "call", path, seconds))
            answer, _ = victim.communicate(timeout=seconds + _SPARE_SECONDS)
            if attack:
                attacker.communicate(timeout=seconds + _SPARE_SECONDS)
            served = Served(**json.loads(answer)) if answer and (two_uids or not attack) else None
            return served, peak_rss_mb(server.pid)


def _print_table(rows: Mapping[str, tuple[Served | None, float]]) -> None:
    print(f"{'attack':<20} {'calls':>7} {'errors':>6} {'p50 ms':>8} {'p99 ms':>8} {'worst':>8} {'RSS MB':>7}")
    for attack, (served, rss_mb) in rows.items():
        if served:
            figures = f"{served.calls:>7} {served.errors:>6} {served.p50:>8.2f} {served.p99:>8.2f} {served.worst:>8.1f}"
        else:
            figures = "second uid left out: not root".center(41)
        print(f"{attack:<20} {figures} {rss_mb:>7.1f}")


def main() -> int:
    """Print the figures; exit with 1 if one of them misses the promise."""
    parser = argparse.ArgumentParser(prog="bench.hostile", description=__doc__)
    parser.add_argument("attacks", nargs="*", choices=[*ATTACKS, []], metavar="ATTACK")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--plain", action="store_true", help="use grpclib's own server, without a gate, for comparison")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--act", help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--uid", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(_serve(options.serve, plain=options.plain))
        return 0
    if options.act:
        _act(options.act, options.path, options.seconds, options.uid)
        return 0
    rows = {
        name or "(none)": _measure(name, options.seconds, plain=options.plain)
        for name in [None, *(options.attacks or ATTACKS)]
    }
    if options.json:
        print(
            json.dumps(
                {name: {"served": served and asdict(served), "rss_mb": rss} for name, (served, rss) in rows.items()},
                indent=1,
            )
        )
    else:
        _print_table(rows)
    missed = any((served and served.p99 > P99_MS) or rss_mb > RSS_MB for served, rss_mb in rows.values())
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
