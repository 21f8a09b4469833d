"""Faults at random, one after the other and two at a time: no restart is needed, no valid SVID is lost, nothing acknowledged is missing.

COGNOMEN_SOAK_MINUTES says for how long (2), COGNOMEN_SOAK_SEED by which lot: a run that failed prints its own.
"""

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random  # noqa: TID251 - seeded, and the seed is printed

import grpc
import pytest

from bench.rig.daemons import free_port
from bench.rig.network import network
from cognomen.cli.admin import connect
from cognomen.protocol.errors import Refused
from cognomen.wire.pb import admin_pb2, node_pb2
from svid.clock import SystemClock
from svid.errors import WorkloadAPIError
from svid.workloadapi.client import WorkloadAPIClient
from tests.doubles.threads import side_by_side
from tests.flow.randomfaults import Fault, Faults, small_disk
from tests.flow.shiftedclock import ShiftedClock, needs_shifted_clock
from tests.flow.soak import IS_SOAK
from tests.flow.twodaemons import World

MINUTES = float(os.environ.get("COGNOMEN_SOAK_MINUTES", "2"))
BACK_SECONDS = 90.0  # in which all is as before, on a busy machine
DISK_MIB = 24 + int(6 * MINUTES)  # each clock that is set has every SVID minted anew, and the ledger keeps all of them

pytestmark = [
    needs_shifted_clock,
    pytest.mark.skipif(not IS_SOAK, reason="waits for minutes: make soak"),
    pytest.mark.timeout(int(MINUTES * 60 + 10 * BACK_SECONDS)),
]


class Operator:
    """Creates entries without a rest, and remembers those that were acknowledged."""

    def __init__(self, world: World, over: threading.Event) -> None:
        self.created: list[str] = []
        self._world = world
        self._over = over

    def work(self) -> None:
        number = 0
        while not self._over.wait(0.5):
            number += 1
            entry = node_pb2.Entry(
                spiffe_id=f"spiffe://example.org/made/{number}",
                parent_id="spiffe://example.org/nodes",
                selectors=[node_pb2.Selector(type="unix", value="uid:4294967294")],
            )
            try:
                with connect(self._world.admin, seconds=5) as admin:
                    made = admin.create_entries(admin_pb2.EntriesRequest(entries=[entry]))
            except (Refused, grpc.RpcError):
                continue
            self.created += [one.id for one in made.entries]


class Workload:
    """Asks for an SVID and a token without a rest.

    Attributes:
        strict: what is not served now is not served although it should be.
        lost: why, each time.
        serials: of the X509-SVIDs, lower-case hexadecimal as the ledger has them.
        tokens: how many it got.
    """

    def __init__(self, world: World, over: threading.Event) -> None:
        self.strict = threading.Event()
        self.lost: list[str] = []
        self.serials: set[str] = set()
        self.tokens = 0
        self._socket = f"unix://{world.workload}"
        self._over = over

    def ask_for_x509(self) -> None:
        with WorkloadAPIClient(self._socket, timeout=timedelta(seconds=15)) as client:
            while not self._over.wait(0.1):
                was_strict = self.strict.is_set()
                try:
                    (svid,) = client.fetch_x509_context().svids
                    self.serials.add(f"{svid.serial:x}")
                    if not svid.leaf.not_valid_before_utc <= SystemClock().now() < svid.not_after:
                        self._lose(f"{svid.serial:x}: not valid now", was_strict=was_strict)
                except (WorkloadAPIError, ValueError) as e:
                    self._lose(str(e), was_strict=was_strict)

    def ask_for_tokens(self) -> None:
        number = 0
        with WorkloadAPIClient(self._socket, timeout=timedelta(seconds=15)) as client:
            while not self._over.wait(0.2):
                number += 1
                try:
                    client.fetch_jwt_svid(f"audience-{number}")
                    self.tokens += 1
                except WorkloadAPIError:
                    continue  # without its issuer, none is minted

    def _lose(self, why: str, *, was_strict: bool) -> None:
        if was_strict and self.strict.is_set():
            self.lost.append(why)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = SystemClock().monotonic() + BACK_SECONDS
    while not condition():
        assert SystemClock().monotonic() < end, what
        threading.Event().wait(0.2)


def troubles(world: World) -> str:
    """What either daemon has trouble with; empty: nothing."""
    asked = (world.run("status"), world.run("status", "attestor", f"--socket={world.workload}"))
    return "\n".join(one.stdout + one.stderr for one in asked if one.returncode)


def come_back(world: World, workload: Workload, operator: Operator, after: str) -> None:
    """Wait until both daemons are well, entries are taken, tokens minted and SVIDs served."""
    told = ["nobody asked"]

    def is_well() -> bool:
        told[0] = troubles(world)
        return not told[0]

    began = SystemClock().monotonic()
    try:
        wait_until(is_well, "well")
    except AssertionError as e:
        raise AssertionError(f"not well {BACK_SECONDS:g} s after {after}:\n{told[0]}") from e
    tokens, created = workload.tokens, len(operator.created)
    wait_until(lambda: workload.tokens > tokens, f"no token after {after}")
    wait_until(lambda: len(operator.created) > created, f"no entry after {after}")
    print(f"  well again after {SystemClock().monotonic() - began:.0f} s")  # noqa: T201 - as below


@contextmanager
def lasting(faults: list[Fault]) -> Iterator[None]:
    """Let the faults last for as long as the block does."""
    with ExitStack() as stack:
        for fault in faults:
            stack.callback(fault.end)
            fault.begin()
        yield


def ledger(world: World) -> set[str]:
    with connect(world.admin) as admin:
        found, serials = admin.list_credentials(admin_pb2.ListCredentialsRequest(page_size=1000)), set[str]()
        while True:
            serials |= {one.serial for one in found.credentials}
            if not found.next_page_token:
                return serials
            found = admin.list_credentials(
                admin_pb2.ListCredentialsRequest(page_size=1000, page_token=found.next_page_token)
            )


def entries(world: World) -> set[str]:
    with connect(world.admin) as admin:
        found, ids = admin.list_entries(admin_pb2.ListEntriesRequest(page_size=1000)), set[str]()
        while True:
            ids |= {one.id for one in found.entries}
            if not found.next_page_token:
                return ids
            found = admin.list_entries(admin_pb2.ListEntriesRequest(page_size=1000, page_token=found.next_page_token))


def test_faults_at_random_need_no_restart_and_lose_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("COGNOMEN_SOAK_SEED") or secrets.randbelow(2**32))
    print(f"COGNOMEN_SOAK_SEED={seed} COGNOMEN_SOAK_MINUTES={MINUTES:g} draws the same faults")  # noqa: T201 - pytest shows it when the drill fails
    clocks, port, over = (ShiftedClock(tmp_path / "i"), ShiftedClock(tmp_path / "a")), free_port(), threading.Event()
    with small_disk(tmp_path, DISK_MIB) as disk, network(port) as road:
        world = World(
            disk or tmp_path,
            f"--node-address=127.0.0.1:{port}",
            f"--advertised-node-address={road.address}",
            "--x509-svid-ttl=4m",
            "--node-svid-ttl=3m",
            environments=(clocks[0].environment, clocks[1].environment),
            logs=tmp_path,
        )
        with world.running():
            pids = world.issuer.pid, world.attestor.pid
            workload, operator = Workload(world, over), Operator(world, over)
            faults = Faults(lot=Random(seed), world=world, clocks=clocks, road=road, disk=disk)  # noqa: S311 - as above
            with side_by_side(over, workload.ask_for_x509, workload.ask_for_tokens, operator.work):
                come_back(world, workload, operator, "the start")
                end = SystemClock().monotonic() + MINUTES * 60
                while SystemClock().monotonic() < end:
                    drawn, seconds = faults.draw(), faults.seconds()
                    told = f"{seconds:g} s in which " + ", ".join(fault.what for fault in drawn)
                    print(told)  # noqa: T201 - as above
                    if not any(fault.stops or fault.sets_a_clock for fault in drawn):
                        workload.strict.set()
                    with lasting(drawn):
                        threading.Event().wait(seconds)
                    come_back(world, workload, operator, told)
                    assert not workload.lost, (told, workload.lost[:3])
                    workload.strict.clear()
            assert set(operator.created) <= entries(world), "every entry that was acknowledged is there"
            assert workload.serials <= ledger(world), "every SVID that was served is on record"
            verified = world.run("audit", "verify")
            assert verified.returncode == 0, verified.stderr
            assert (world.issuer.pid, world.attestor.pid) == pids
            logs = world.issuer.log() + world.attestor.log()
            assert "task ended" not in logs
            assert "Traceback" not in logs
