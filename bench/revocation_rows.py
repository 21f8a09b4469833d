"""Rows of revocation: from the command to verifiers in separate processes, and the cost of very many denials."""

import json
import multiprocessing
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias, TypeVar

import msgspec

from bench import verifier
from bench.house import House, copy_of_interpreter, environment_of_copy, rss_mb
from bench.results import Measured, percentile, spread
from bench.rig.child import Child
from bench.settings import Settings
from bench.target import AUDIENCE
from bench.verifier import POINTS, Refusals, Shown
from cognomen.cli.admin import connect
from cognomen.cli.inspect import inspecting
from cognomen.wire.admin import document_from_message
from cognomen.wire.pb import admin_pb2
from svid import SpiffeID, WorkloadAPIClient, WorkloadAPIError

__all__ = ["revoke", "revoke_many"]

_VERIFIERS = 100
_LIVE_ROWS = 1_000_000
_REVOKED_ROWS = 100_000
_STEP_SECONDS = 120.0
_SETTLE_SECONDS = 0.5
_LOOK_SECONDS = 0.002
_LOOK_FOR_RECEIPTS_SECONDS = 0.02

_Sent = TypeVar("_Sent")
_Heard = TypeVar("_Heard")
_Named = TypeVar("_Named")
_Verifier: TypeAlias = "Connection[Shown | None, Refusals | bool | None]"


class _Target(msgspec.Struct):
    """What a process of bench/target reported."""

    port: int
    serial: str
    jti: str
    token: str
    chain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Round:
    """The effects of one command, in seconds after it."""

    refusals: Sequence[Refusals]
    validated: float
    receipts: float
    admitted: int


def revoke(settings: Settings) -> Measured:
    """From the call that revokes a certificate and a token, until 100 verifiers, each a process, refuse them and the attestor knows it."""
    with House.serving(settings.directory) as house:
        program = copy_of_interpreter(house.directory)
        target = house.entry("target", f"path:{program}")
        house.create(house.entry("self"), target)
        with _verifiers(house, target.spiffe_id, settings.count(_VERIFIERS)) as pipes:
            rounds = [_round(house, program, target.spiffe_id, pipes) for _ in range(max(1, settings.rounds // 3))]
    return Measured(
        figures={
            **_refused(rounds, "last byte, ", lambda one: one.connection),
            **_refused(rounds, "handshake, ", lambda one: one.handshake),
            **_refused(rounds, "JWTGuard, ", lambda one: one.token),
            **spread([one.validated for one in rounds], "ValidateJWTSVID, "),
            **spread([one.receipts for one in rounds], "receipts of all, "),
            "verifiers": len(pipes),
        },
        samples=len(rounds) * len(pipes),
        failed=sum(one.admitted for one in rounds),
        why="a handshake was accepted after the revocation",
    )


def _refused(rounds: Sequence[_Round], prefix: str, moment: Callable[[Refusals], float]) -> dict[str, float]:
    """The spread over all verifiers, and the median of each round's slowest."""
    by_round = [[moment(one) for one in each.refusals] for each in rounds]
    slowest = percentile([max(each) for each in by_round], 50) * 1000
    return {**spread([one for each in by_round for one in each], prefix), f"{prefix}slowest, p50 ms": slowest}


@contextmanager
def _verifiers(house: House, target: SpiffeID, count: int) -> Iterator[Sequence[_Verifier]]:
    with _processes(verifier.verify, house, target, count) as (pipes, _):
        for pipe in pipes:
            _heard(pipe)
        yield pipes
        for pipe in pipes:
            pipe.send(None)


@contextmanager
def _processes(
    work: "Callable[[str, _Named, Connection[_Heard, _Sent]], None]", house: House, named: _Named, count: int
) -> "Iterator[tuple[Sequence[Connection[_Sent, _Heard]], Sequence[int]]]":
    """That many processes of one function, forked from one that has imported everything they need; their pipes and ids."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([verifier.__name__])
    pipes: list[Connection[_Sent, _Heard]] = []
    processes = []
    try:
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(f"unix://{house.socket}", named, theirs), daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        yield pipes, [process.pid or 0 for process in processes]
    finally:
        for pipe in pipes:
            pipe.close()
        for process in processes:
            process.join(1)
            process.kill()


def _heard(pipe: "Connection[_Sent, _Heard]") -> _Heard:
    """What a process says next.

    Raises:
        TimeoutError: it says nothing.
        EOFError: it has ended.
    """
    if not pipe.poll(_STEP_SECONDS):
        raise TimeoutError("verifier: expected a word")
    return pipe.recv()


@contextmanager
def _serving(house: House, program: Path, target: SpiffeID) -> Iterator[_Target]:
    """A process that will be revoked; it gets an identity that was not revoked yet."""
    command = [str(program), "-m", "bench.target", f"unix://{house.socket}", str(target)]
    with Child[str](command, env=environment_of_copy(), stdout=subprocess.PIPE, text=True) as child:
        if child.stdout is None:
            raise AssertionError("the target has a pipe")
        yield msgspec.convert(json.loads(child.stdout.readline()), type=_Target)


def _round(house: House, program: Path, target: SpiffeID, pipes: Sequence[_Verifier]) -> _Round:
    with (
        _serving(house, program, target) as serving,
        connect(house.admin_socket) as admin,
        WorkloadAPIClient(f"unix://{house.socket}") as client,
        ThreadPoolExecutor(1) as pool,
    ):
        _tell(pipes, Shown(port=serving.port, chain=bytes.fromhex(serving.chain), token=serving.token))
        for pipe in pipes:
            _heard(pipe)
        client.validate_jwt_svid(serving.token, AUDIENCE)
        time.sleep(_SETTLE_SECONDS)
        asked = admin_pb2.RevocationTarget(kind="svid", serials=[serving.serial, serving.jti])
        validating = pool.submit(_refused_at, client, serving.token)
        began = time.perf_counter()
        change = admin.revoke(admin_pb2.RevokeRequest(target=asked)).revocation.change
        found = [_heard(pipe) for pipe in pipes]
        receipts = _wait_for_receipts(house, len(pipes) * POINTS, change)
        _tell(pipes, None)
        admitted = sum(not _heard(pipe) for pipe in pipes)
        validated = validating.result(_STEP_SECONDS) - began
    refusals = [
        Refusals(connection=one.connection - began, handshake=one.handshake - began, token=one.token - began)
        for one in found
        if isinstance(one, Refusals)
    ]
    return _Round(refusals=refusals, validated=validated, receipts=receipts - began, admitted=admitted)


def _tell(pipes: Sequence[_Verifier], what: Shown | None) -> None:
    for pipe in pipes:
        pipe.send(what)


def _refused_at(client: WorkloadAPIClient, token: str) -> float:
    """Have the attestor validate a token until it refuses; returns when that was."""
    with suppress(WorkloadAPIError):
        while True:
            client.validate_jwt_svid(token, AUDIENCE)
            time.sleep(_LOOK_SECONDS)
    return time.perf_counter()


def _wait_for_receipts(house: House, count: int, change: int) -> float:
    """When the attestor shows that so many enforcement points enforce that change."""
    until = time.perf_counter() + _STEP_SECONDS
    while time.perf_counter() < until:
        with inspecting(f"unix://{house.socket}") as inspect:
            document = document_from_message(inspect.get_status())
        status = msgspec.convert(document, type=_Status, strict=False)
        if sum(point.change_number >= change for point in status.enforced) >= count:
            return time.perf_counter()
        time.sleep(_LOOK_FOR_RECEIPTS_SECONDS)
    raise TimeoutError(f"attestor: expected receipts of {count} enforcement points")


class _Point(msgspec.Struct):
    change_number: int


class _Status(msgspec.Struct):
    enforced: list[_Point]


def revoke_many(settings: Settings) -> Measured:
    """One command that ends 100,000 of a million live credentials: the call, and what the attestor and a process of the SDK hold then."""
    with House.serving(settings.directory) as house:
        house.create(house.entry("self"))
        house.wait_for_issued(1)
        house.issuer.stop()
        revoked = SpiffeID.from_segments(house.node.trust_domain, "bench", "revoked")
        last = _fill_ledger(house, revoked, rows=settings.count(_LIVE_ROWS), every=_LIVE_ROWS // _REVOKED_ROWS)
        house.issuer.start()
        with (
            _processes(verifier.hold, house, house.node.trust_domain, 1) as ((pipe,), (pid,)),
            connect(house.admin_socket) as admin,
        ):
            _heard(pipe)
            time.sleep(_SETTLE_SECONDS)
            attestor, sdk = rss_mb(house.joining.pid), rss_mb(pid)
            target = admin_pb2.RevocationTarget(kind="spiffe-id", spiffe_id=str(revoked))
            began = time.perf_counter()
            denied = admin.revoke(admin_pb2.RevokeRequest(target=target)).revocation.denied
            took = time.perf_counter() - began
            pipe.send(last)
            _heard(pipe)
            held = time.perf_counter() - began
            time.sleep(_SETTLE_SECONDS)
            figures = {
                "commit s": took,
                "attestor, MB more": rss_mb(house.joining.pid) - attestor,
                "SDK, MB more": rss_mb(pid) - sdk,
                "in force s": held,
                "credentials": denied,
            }
            pipe.send(0)
    return Measured(figures=figures, samples=1)


def _fill_ledger(house: House, revoked: SpiffeID, *, rows: int, every: int) -> int:
    """Write rows of live X509-SVIDs, of which one of so many has that SPIFFE ID; the largest number among those."""
    with closing(sqlite3.connect(house.directory / "issuer" / "issuer.db")) as database, database:
        database.execute(
            """
            INSERT INTO credential
                (kind, serial, spiffe_id, entry_id, entry_revision, node_id, authority_id, audiences, issued_at, not_after, state)
            WITH RECURSIVE row (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM row WHERE number + 1 < :rows)
            SELECT kind, lower(hex(randomblob(16))), CASE WHEN row.number % :every THEN spiffe_id ELSE :revoked END,
                'entry-' || row.number % 1000, 1, node_id, authority_id, audiences, issued_at, not_after, state
            FROM row, (SELECT * FROM credential WHERE kind = 'x509' AND state = 'issued' LIMIT 1)
            """,
            {"rows": rows, "every": every, "revoked": str(revoked)},
        )
        (last,) = database.execute("SELECT max(serial) FROM credential WHERE spiffe_id = ?", (str(revoked),)).fetchone()
        return int(last, 16)
