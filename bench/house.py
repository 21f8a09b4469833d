"""The daemons that a row measures: real ones, each in its own process, started by the command on free ports.

Decided here: how they are started, and what the kernel says about them. The modules of the rows decide what is measured.
"""

import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from bench.rig.daemons import Daemon, free_port
from cognomen.cli.admin import connect
from cognomen.process.privatefile import write_private
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.selector import Selector
from cognomen.wire.node import entry_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["House", "copy_of_interpreter", "cpu_seconds", "environment_of_copy", "rss_mb"]

_TRUST_DOMAIN = TrustDomain("example.org")
_TICKS = os.sysconf("SC_CLK_TCK")
_STEP_SECONDS = 120.0


class House:
    """An issuer, with these options more, and an attestor in a directory, which do not run yet; both end with the block."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.admin_socket = directory / "admin" / "issuer.sock"
        self.socket = directory / "run" / "api.sock"
        self.directory = directory
        self.issuer = Daemon(
            [
                *("issuer", "run", "--trust-domain", str(_TRUST_DOMAIN.name), "--state", str(directory / "issuer")),
                *("--admin-socket", str(self.admin_socket)),
                *("--node-address", f"127.0.0.1:{free_port()}", "--join-address", f"127.0.0.1:{free_port()}"),
                *options,
            ],
            log=directory / "issuer.log",
            ready="COGNOMEN_ADMIN_SOCKET=",
        )
        attestor = ["attestor", "run", "--state", str(directory / "attestor"), "--workload-socket", str(self.socket)]
        self.joining = Daemon(
            [*attestor, "--invite", str(directory / "invite")], log=directory / "attestor.log", ready="SPIFFE_"
        )
        self.attestor = Daemon(attestor, log=directory / "attestor.log", ready="SPIFFE_")
        self.node = SpiffeID.from_segments(_TRUST_DOMAIN, "group")

    @classmethod
    @contextmanager
    def running(cls, directory: Path, *options: str) -> Iterator["House"]:
        """A house whose issuer runs."""
        directory.mkdir()
        house = cls(directory, *options)
        try:
            house.issuer.start()
            yield house
        finally:
            for daemon in (house.joining, house.attestor, house.issuer):
                daemon.kill()

    @classmethod
    @contextmanager
    def serving(cls, directory: Path, *options: str) -> Iterator["House"]:
        """A house whose attestor has also joined; its entries belong to that node."""
        with cls.running(directory, *options) as house:
            house.invite()
            house.joining.start()
            yield house

    def invite(self, **labels: str) -> str:
        """An invite, kept in the file `invite`; entries made from now on belong to its node."""
        with connect(self.admin_socket) as admin:
            made = admin.create_invite(pb.CreateInviteRequest(labels=labels))
        self.node = SpiffeID.parse(made.node_spiffe_id)
        (self.directory / "invite").touch(mode=0o600)
        write_private(self.directory / "invite", made.invite.encode())
        return made.invite

    def entry(self, name: str, *selectors: str) -> RegistrationEntry:
        """An entry for workloads of this node with these selectors of the type unix; without selectors: for our uid."""
        return RegistrationEntry(
            spiffe_id=SpiffeID.from_segments(_TRUST_DOMAIN, "bench", name),
            parent_id=self.node,
            selectors=frozenset(Selector("unix", value) for value in selectors or [f"uid:{os.getuid()}"]),
        )

    def entries(self, count: int) -> Sequence[RegistrationEntry]:
        """That many entries, each for a uid that nobody has."""
        return [self.entry(f"n{number}", f"uid:{1_000_000 + number}") for number in range(count)]

    def create(self, *entries: RegistrationEntry) -> Sequence[EntryID]:
        """Apply entries in one batch, and return their ids once they are committed."""
        with connect(self.admin_socket) as admin:
            made = admin.create_entries(pb.EntriesRequest(entries=[entry_to_pb(entry) for entry in entries]))
        return [EntryID(entry.id) for entry in made.entries]

    def delete(self, ids: Iterable[EntryID]) -> None:
        """Delete entries in one batch."""
        with connect(self.admin_socket) as admin:
            admin.delete_entries(pb.DeleteEntriesRequest(ids=ids))

    def wait_for_issued(self, count: int) -> None:
        """Return when the ledger has that many X509-SVIDs of workloads.

        Raises:
            TimeoutError: it does not get that many.
        """
        until = time.perf_counter() + _STEP_SECONDS
        uri = f"file:{self.directory}/issuer/issuer.db?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            while time.perf_counter() < until:
                query = "SELECT count(*) FROM credential WHERE kind = 'x509' AND state = 'issued'"
                if database.execute(query).fetchone()[0] >= count:
                    return
                time.sleep(0.1)
        raise TimeoutError(f"ledger: expected {count} X509-SVIDs")


def copy_of_interpreter(directory: Path) -> Path:
    """The same program under another path, for an entry that selects it."""
    return Path(shutil.copy2(Path(sys.executable).resolve(), directory / "python"))


def environment_of_copy() -> dict[str, str]:
    """The environment in which that program finds the same modules as this one."""
    return {
        **os.environ,
        "PYTHONHOME": sys.base_prefix,
        "PYTHONPATH": os.pathsep.join(path for path in [str(Path.cwd()), *sys.path] if path),
        "LD_LIBRARY_PATH": f"{sys.base_prefix}/lib",
    }


def cpu_seconds(pid: int) -> float:
    """The CPU time of that process so far, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_mb(pid: int) -> float:
    """The resident memory of that process now."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
