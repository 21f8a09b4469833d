"""The files of a real issuer are removed, replaced, moved or damaged: it stops and says so, and begins nothing anew unasked."""

import asyncio
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bench.rig.daemons import COGNOMEN, STOP_SECONDS, free_port
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.audit import AuditEvent
from svid.clock import SystemClock
from tests.flow.twodaemons import World

PAGE = 4096


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def ended(world: World, harm: Callable[[Path], object]) -> tuple[int, str]:
    """Start an issuer, do harm to its state, and wait for its end: exit code, last words."""
    with subprocess.Popen(
        [*COGNOMEN, *world.issuer_arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as issuer:
        try:
            assert issuer.stdout is not None
            assert issuer.stdout.readline()
            harm(world.directory / "issuer")
            _, told = issuer.communicate(timeout=STOP_SECONDS)
        finally:
            issuer.kill()
    return issuer.returncode, told


def refused_start(world: World, *options: str) -> str:
    """What an issuer says that does not start."""
    done = subprocess.run(
        [*COGNOMEN, *world.issuer_arguments, *options], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda state: (state / "issuer.db").unlink(), "issuer.db was removed"),
        (lambda state: (state / "keys").rename(state / "k"), "keys was removed"),
    ],
)
def test_an_idle_issuer_whose_files_are_taken_away_stops_and_says_which(
    world: World, harm: Callable[[Path], object], told: str
) -> None:
    code, words = ended(world, harm)
    assert code == 3, words
    assert f"{told} under the running issuer, which stopped" in words


def test_an_issuer_whose_files_come_back_goes_on_with_what_it_acknowledged(world: World) -> None:
    state = world.directory / "issuer"
    with world.issuer:
        world.entry("/web", "/nodes", "unix:uid:1")
    assert ended(world, lambda state: state.rename(state.with_name("elsewhere")))[0] == 3
    state.with_name("elsewhere").rename(state)
    with world.issuer:
        assert [one["spiffe_id"] for one in world.listed("entry", "entries")] == ["spiffe://example.org/web"]


def test_keys_without_their_database_begin_nothing_anew(world: World) -> None:
    state = world.directory / "issuer"
    with world.issuer:
        pass
    keys = sorted(path.name for path in (state / "keys").iterdir())
    (state / "issuer.db").write_bytes(b"")
    assert f"the database for what is in {state} is missing or blank" in refused_start(world)
    assert sorted(path.name for path in (state / "keys").iterdir()) == keys


def test_a_second_issuer_is_refused_though_the_lock_was_removed(world: World) -> None:
    with world.issuer:
        (world.directory / "issuer" / "lock").unlink()
        elsewhere = [f"--{door}-address=127.0.0.1:{free_port()}" for door in ("node", "join")]
        elsewhere.append(f"--admin-socket={world.directory}/other/s")
        assert "is already in use by a running issuer" in refused_start(world, *elsewhere)
        done = world.run("issuer", "forget-authorities", f"--state={world.directory}/issuer")
        assert "in use by a running issuer" in done.stderr
        world.entry("/web", "/nodes", "unix:uid:1")


async def damaged(path: Path) -> None:
    """Make a store with a page of the audit that nothing reads when an issuer starts, and zero that page."""
    store = await SQLiteDatastore.open(path)
    events = [AuditEvent(at=SystemClock().now(), actor="uid:0", action="entry created", subject="x" * 2000)] * 20
    await store.write(lambda tx: tx.audit.append(events))
    await store.close()
    with closing(sqlite3.connect(path)) as database:
        (page,) = database.execute(
            "SELECT pageno FROM dbstat WHERE name = 'audit' AND pagetype = 'leaf' ORDER BY path LIMIT 1"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(bytes(PAGE))


def test_a_damaged_page_is_told_by_status_ready_metric_log_and_backup(tmp_path: Path) -> None:
    port = free_port()
    world = World(tmp_path, f"--health-address=127.0.0.1:{port}")
    asyncio.run(damaged(tmp_path / "issuer" / "issuer.db"))
    with world.issuer:
        told = world.until_told("soundness of the datastore")
        assert told.startswith("damaged: ")
        assert world.page(port, "/ready").startswith("store: damaged: ")
        assert "cognomen_issuer_store_is_sound 0.0" in world.page(port, "/metrics")
        assert "datastore damaged" in world.issuer.log()
        done = world.run("issuer", "backup", str(tmp_path / "backup"), f"--state={tmp_path}/issuer")
        assert (done.returncode, "database damaged: " in done.stderr) == (1, True)
    assert not (tmp_path / "backup").exists()
