"""kill -9 of either daemon, under writes, fetches and rotations: nothing that was acknowledged is lost, workloads are served."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from bench.rig.daemons import Daemon, free_port
from cognomen.cli.admin import connect
from cognomen.process.privatefile import write_private
from cognomen.protocol.auditlog import AuditRow, broken_link
from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.errors import Refused
from cognomen.protocol.selector import Selector
from cognomen.wire.node import entry_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from svid import WorkloadAPIClient, WorkloadAPIError
from svid.spiffeid import SpiffeID, TrustDomain
from tests.doubles.threads import side_by_side
from tests.flow.soak import IS_SOAK, TIMEOUT

KILLS = 100 if IS_SOAK else 5
PROGRESS_SECONDS = 20
PAUSE_SECONDS = 0.05 if IS_SOAK else 0  # between two writes: else 100 kills leave more entries than are minted in time
TD = TrustDomain("example.org")


@dataclass
class Witness:
    """What was acknowledged to whom, and how often somebody waited in vain."""

    entries: set[str] = field(default_factory=set)
    serials: set[str] = field(default_factory=set)
    fetches: int = 0
    refusals: int = 0
    progress: threading.Condition = field(default_factory=threading.Condition)

    def note(self, change: Callable[[], object]) -> None:
        with self.progress:
            change()
            self.progress.notify_all()

    def wait_for_more(self, count: Callable[[], int], more: int) -> None:
        """Return after that many more of what is counted."""
        with self.progress:
            goal = count() + more
            assert self.progress.wait_for(lambda: count() >= goal, timeout=PROGRESS_SECONDS), "no progress"


class House:
    """An issuer, an attestor, and somebody who writes and somebody who fetches for as long as the block runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.admin_socket = directory / "admin" / "issuer.sock"
        self.socket = directory / "run" / "api.sock"
        self.socket.parent.mkdir(mode=0o755)
        self.issuer = Daemon(
            [
                *("issuer", "run", "--trust-domain", TD.name, "--state", str(directory / "issuer")),
                *("--admin-socket", str(self.admin_socket)),
                *("--authority-lifetime", "60s", "--authority-spread", "1s", "--node-svid-ttl", "20s"),
                *("--node-address", f"127.0.0.1:{free_port()}", "--join-address", f"127.0.0.1:{free_port()}"),
            ],
            log=directory / "issuer.log",
            ready="COGNOMEN_ADMIN_SOCKET=",
        )
        attestor = ["attestor", "run", "--state", str(directory / "attestor"), "--workload-socket", str(self.socket)]
        self.joining = Daemon(
            [*attestor, "--invite", str(directory / "invite")], log=directory / "attestor.log", ready="SPIFFE_"
        )
        self.attestor = Daemon(attestor, log=directory / "attestor.log", ready="SPIFFE_")
        self.witness = Witness()
        self._over = threading.Event()

    def start(self) -> None:
        self.issuer.start()
        with connect(self.admin_socket) as admin:
            invite = admin.create_invite(pb.CreateInviteRequest())
            (self.directory / "invite").touch(mode=0o600)
            write_private(self.directory / "invite", invite.invite.encode())
            self.node = SpiffeID.parse(invite.node_spiffe_id)
            admin.create_entries(pb.EntriesRequest(entries=[entry_to_pb(self.entry("self", f"uid:{os.getuid()}"))]))
        self.joining.start()
        self.joining.stop()
        self.attestor.start()

    def entry(self, name: str, value: str) -> RegistrationEntry:
        return RegistrationEntry(
            spiffe_id=SpiffeID.from_segments(TD, "workload", name),
            parent_id=self.node,
            selectors=frozenset({Selector("unix", value)}),
        )

    def write(self) -> None:
        """Create entries one after the other; an error while the issuer is away says nothing."""
        number = 0
        while not self._over.is_set():
            number += 1
            request = pb.EntriesRequest(entries=[entry_to_pb(self.entry(f"n{number}", f"uid:{100_000 + number}"))])
            try:
                with connect(self.admin_socket) as admin:
                    made = admin.create_entries(request).entries[0].id
            except Refused:
                self._over.wait(0.01)
                continue
            self.witness.note(partial(self.witness.entries.add, made))
            self._over.wait(PAUSE_SECONDS)

    def fetch(self) -> None:
        """Fetch an X509-SVID again and again."""
        with WorkloadAPIClient(f"unix://{self.socket}") as client:
            while not self._over.is_set():
                try:
                    svid = client.fetch_x509_context().svids[0]
                except WorkloadAPIError:
                    self.witness.note(self._refused)
                    self._over.wait(0.01)
                    continue
                self.witness.note(partial(self._fetched, f"{svid.serial:x}"))

    def _refused(self) -> None:
        self.witness.refusals += 1

    def _fetched(self, serial: str) -> None:
        self.witness.fetches += 1
        self.witness.serials.add(serial)

    def minted(self) -> int:
        """How many X509-SVIDs of workloads stand in the ledger."""
        database = sqlite3.connect(f"file:{self.directory}/issuer/issuer.db?mode=ro", uri=True)
        try:
            (count,) = database.execute("SELECT count(*) FROM credential WHERE kind = 'x509'").fetchone()
        finally:
            database.close()
        return int(count)

    @contextmanager
    def busy(self) -> Iterator[None]:
        with side_by_side(self._over, self.write, self.fetch):
            yield

    def stop(self) -> None:
        for daemon in (self.joining, self.attestor, self.issuer):
            daemon.stop()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    try:
        found.start()
        yield found
    finally:
        found.stop()


def check_nothing_was_lost(house: House) -> None:
    """Every acknowledged entry and every serial that a workload saw is in the store, and the audit rows hang together."""
    database = sqlite3.connect(f"file:{house.directory}/issuer/issuer.db?mode=ro", uri=True)
    try:
        entries = {row[0] for row in database.execute("SELECT id FROM entry")}
        serials = {row[0] for row in database.execute("SELECT serial FROM credential")}
        rows = [
            AuditRow(number=number, body=body, hash=digest)
            for number, body, digest in database.execute("SELECT number, body, hash FROM audit ORDER BY number")
        ]
    finally:
        database.close()
    assert house.witness.entries <= entries
    assert house.witness.serials <= serials
    assert len(rows) > len(house.witness.entries)
    assert broken_link(rows) is None


@pytest.mark.timeout(TIMEOUT)
def test_killing_the_issuer_loses_nothing_and_no_workload_notices(house: House) -> None:
    witness = house.witness
    with house.busy():
        for _ in range(KILLS):
            witness.wait_for_more(lambda: len(witness.entries), 3)
            refusals = witness.refusals
            house.issuer.kill()
            witness.wait_for_more(lambda: witness.fetches, 5)
            house.issuer.start()
            witness.wait_for_more(lambda: len(witness.entries), 3)
            witness.wait_for_more(house.minted, 1)  # else it is away for good: the attestor asks again after up to 2 s
            witness.wait_for_more(lambda: witness.fetches, 5)
            assert witness.refusals == refusals, house.attestor.log()
    house.stop()
    check_nothing_was_lost(house)


@pytest.mark.timeout(TIMEOUT)
def test_killing_the_attestor_needs_no_invite_and_serves_again(house: House) -> None:
    witness = house.witness
    with house.busy():
        for _ in range(KILLS):
            witness.wait_for_more(lambda: witness.fetches, 5)
            house.attestor.kill()
            witness.wait_for_more(lambda: len(witness.entries), 3)
            house.attestor.start()
            witness.wait_for_more(lambda: witness.fetches, 5)
    house.stop()
    assert len(witness.serials) > KILLS, "keys live in memory only: each start mints anew"
    check_nothing_was_lost(house)
