"""The files of a store: one issuer at a time, whatever was removed; and nothing is acknowledged that no restart would find."""

import shutil
import sqlite3
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from tests.doubles.issuer_values import a_node
from tests.doubles.project import ROOT

HOLDER = """
import asyncio, os, sys
from pathlib import Path
from issuer.datastore.sqlite import SQLiteDatastore
from tests.doubles.issuer_values import a_node

async def main(path):
    store = await SQLiteDatastore.open(path)
    await store.write(lambda tx: tx.nodes.put(a_node()))
    os.close(os.open(path, os.O_RDWR))  # drops whatever lock belongs to a process
    print("held", flush=True)
    sys.stdin.read()

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "issuer.db"


@asynccontextmanager
async def held_elsewhere(path: Path) -> AsyncIterator[None]:
    """Another process has the store open; it is killed at the end."""
    process = await create_subprocess_exec(sys.executable, "-c", HOLDER, str(path), stdin=PIPE, stdout=PIPE, cwd=ROOT)
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"held\n"
        yield
    finally:
        process.kill()
        await process.communicate()


def names_in(directory: Path) -> list[str]:
    return sorted(found.name for found in directory.iterdir())


def remove_beside(path: Path) -> None:
    for beside in path.parent.iterdir():
        if beside != path:
            beside.unlink()


def put(tx: Transaction) -> None:
    tx.nodes.put(a_node())


async def test_a_second_process_is_refused_whatever_it_removes_first_and_let_in_after_kill_9(path: Path) -> None:
    async with held_elsewhere(path):
        remove_beside(path)
        with pytest.raises(Refused, match="expected one that no issuer uses, found one running in") as refused:
            await SQLiteDatastore.open(path)
        assert refused.value.kind is Kind.EXISTS
    store = await SQLiteDatastore.open(path)
    await store.close()


async def test_a_store_that_is_open_in_this_process_is_refused_and_its_locks_stay(path: Path) -> None:
    store = await SQLiteDatastore.open(path)
    await store.write(put)
    with pytest.raises(Refused, match="expected one that no issuer uses"):
        await SQLiteDatastore.open(path)
    reader = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(c.execute('SELECT id FROM node').fetchone()); c.close()"
    process = await create_subprocess_exec(sys.executable, "-c", reader, str(path), stdout=PIPE)
    assert (await process.communicate())[0] == b"('n1',)\n"
    assert "issuer.db-wal" in names_in(path.parent), "the last to close removes the log: the reader was not the last"
    await store.write(put)
    await store.close()


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    if path.is_dir():
        shutil.copytree(path, copy)
        shutil.rmtree(path)
    else:
        shutil.copy(path, copy)
    copy.rename(path)


def move_all(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


@pytest.mark.parametrize("name", ["issuer.db", "issuer.db-wal", "issuer.db-shm", "keys"])
@pytest.mark.parametrize(
    ("change", "told"), [(remove, "was removed"), (replace, "was replaced"), (move_all, "was removed")]
)
async def test_a_write_into_files_that_no_restart_would_find_is_not_acknowledged(
    path: Path, name: str, change: Callable[[Path], None], told: str
) -> None:
    keys = path.parent / "keys"
    keys.mkdir(parents=True)
    path.parent.chmod(0o700)
    store = await SQLiteDatastore.open(path, beside=[keys])
    await store.write(put)
    assert await store.missing() == ""
    change(path.with_name(name))
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await store.write(put)
        assert refused.value.kind is Kind.UNAVAILABLE
        gone = "issuer.db" if change is move_all else name
        assert refused.value.detail == f"datastore: {path.with_name(gone)} {told} under the running issuer"
    assert await store.missing() == f"{path.with_name(gone)} {told}"
    await store.close()


async def test_a_file_that_is_removed_while_it_is_opened_is_not_made_anew_by_sqlite(path: Path) -> None:
    store = await SQLiteDatastore.open(path)
    remove(path)
    with pytest.raises(Refused, match="cannot be opened"):
        await store.check()
    assert "issuer.db" not in names_in(path.parent)
    await store.close()


async def test_the_names_of_state_directories_are_no_options_of_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory&x=%41#b" / "issuer.db"
    store = await SQLiteDatastore.open(path)
    await store.write(put)
    await store.close()
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM node").fetchone() == (1,)
    assert names_in(tmp_path) == ["a?mode=memory&x=%41#b"]
