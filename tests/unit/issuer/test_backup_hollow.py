"""A backup that holds less than it says is no success, neither when it is made nor when it is restored; what a kill has left is swept."""

import asyncio
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cognomen.protocol.errors import Kind, Refused
from issuer.backup import DATABASE, KEYS, back_up, restore
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.scratch import scratch_file
from tests.doubles.issuer_values import an_entry
from tests.doubles.issuerstate import make_state

PAGE = 4096


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    return await make_state(tmp_path / "state")


def names_in(directory: Path) -> list[str]:
    return sorted(found.name for found in directory.iterdir())


def scratch_of(directory: Path) -> Path:
    return next(directory.glob(".cognomen-backup.*.db"))


def empty(directory: Path) -> None:
    scratch_of(directory).unlink()
    scratch_of_nothing = directory / ".cognomen-backup.0000000000000000.db"
    scratch_of_nothing.write_bytes(b"")


def remove(directory: Path) -> None:
    scratch_of(directory).unlink()


def replace(directory: Path) -> None:
    found = scratch_of(directory)
    shutil.copy(found, directory / "other")
    (directory / "other").rename(found)


def cut(directory: Path) -> None:
    os.truncate(scratch_of(directory), 0)


@pytest.mark.parametrize("harm", [empty, remove, replace, cut])
async def test_a_copy_that_is_removed_replaced_or_cut_while_it_is_made_is_no_backup(
    state: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(Refused) as refused:
        back_up(state, target / "backup", progress=lambda _done, _of: harm(target))
    assert refused.value.kind in {Kind.UNAVAILABLE, Kind.INVALID}, refused.value
    assert not (target / "backup").exists()


def test_what_took_the_name_of_the_packed_file_is_not_published(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()

    def put_another(_done: int, _of: int) -> None:
        packed = next(target.glob(".cognomen-backup.*.tar"))
        packed.unlink()
        packed.write_bytes(b"somebody else's")

    with pytest.raises(Refused, match="expected the backup to stay where it is") as refused:
        back_up(state, target / "backup", progress=put_another)
    assert "only this user may write" in refused.value.hint
    assert names_in(target) == []


def damage_leaf(path: Path, table: str) -> None:
    """Zero the last page of a table that holds rows, and nothing that is read when a store is opened."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = database.execute(
            "SELECT max(pageno) FROM dbstat WHERE name = ? AND pagetype = 'leaf'", [table]
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(bytes(PAGE))


async def test_a_damaged_page_is_no_backup_and_the_hint_keeps_what_is_there(state: Path, tmp_path: Path) -> None:
    damage_leaf(state / DATABASE, "audit")
    with pytest.raises(Refused, match="database damaged: ") as refused:
        back_up(state, tmp_path / "backup")
    assert refused.value.kind is Kind.INVALID
    assert f"cp -a {state} COPY" in refused.value.hint
    assert names_in(tmp_path) == ["state"]


def declare_index(path: Path, condition: str) -> None:
    """Say that an index holds other rows than it does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE INDEX entry_by_spiffe_id ON entry (spiffe_id, id)' || ?"
            " WHERE name = 'entry_by_spiffe_id'",
            [condition],
        )


async def test_an_index_that_lacks_a_row_is_no_backup(state: Path, tmp_path: Path) -> None:
    declare_index(state / DATABASE, " WHERE spiffe_id = ''")
    store = await SQLiteDatastore.open(state / DATABASE)
    await store.write(lambda tx: tx.entries.insert([an_entry()]))
    await store.close()
    declare_index(state / DATABASE, "")
    with pytest.raises(Refused, match="missing from index entry_by_spiffe_id"):
        back_up(state, tmp_path / "backup")


def with_database(source: Path, target: Path, database: bytes) -> None:
    """A backup with another database, and a manifest that has its digest."""
    with tarfile.open(source) as before, tarfile.open(target, "w") as after:
        for member in before:
            content = before.extractfile(member)
            assert content is not None
            data = content.read()
            if member.name == "manifest.json":
                manifest = json.loads(data)
                manifest["sha256"][DATABASE] = hashlib.sha256(database).hexdigest()
                data = json.dumps(manifest).encode()
            elif member.name == DATABASE:
                data = database
            member.size = len(data)
            after.addfile(member, io.BytesIO(data))
    target.chmod(0o600)


async def blank(tmp_path: Path) -> bytes:
    store = await SQLiteDatastore.open(tmp_path / "blank" / DATABASE)
    await store.close()
    return (tmp_path / "blank" / DATABASE).read_bytes()


async def nothing(_: Path) -> bytes:
    return b""


async def damaged(tmp_path: Path) -> bytes:
    other = await make_state(tmp_path / "damaged")
    damage_leaf(other / DATABASE, "audit")
    return (other / DATABASE).read_bytes()


async def test_a_blank_store_is_not_restored(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "backup")
    for make in (nothing, blank, damaged):
        with_database(tmp_path / "backup", tmp_path / "bent", await make(tmp_path))
        with pytest.raises(Refused, match="damaged or incomplete") as refused:
            await asyncio.to_thread(restore, tmp_path / "bent", tmp_path / "new", actor="uid:0")
        assert refused.value.kind is Kind.INVALID
        assert names_in(tmp_path / "new") == ["lock"]


async def test_a_backup_that_lacks_the_key_of_the_authority_that_signs_is_not_restored(
    state: Path, tmp_path: Path
) -> None:
    back_up(state, tmp_path / "backup")
    with closing(sqlite3.connect(state / DATABASE)) as database:
        database.execute("UPDATE authority SET key_id = 'x509-2'")
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with_database(tmp_path / "backup", tmp_path / "bent", (state / DATABASE).read_bytes())
    with pytest.raises(Refused, match="the key of the authority that signs is missing, x509-2"):
        await asyncio.to_thread(restore, tmp_path / "bent", tmp_path / "new", actor="uid:0")


async def test_the_next_backup_removes_what_a_kill_has_left_and_nothing_that_somebody_uses(
    state: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    for name in ("00112233445566ff.db", "00112233445566ff.db-wal", "ffeeddccbbaa9988.tar"):
        (target / f".cognomen-backup.{name}").write_bytes(b"key")
    (target / ".cognomen-backup.mine").write_bytes(b"")
    with scratch_file(target, "db") as used:
        back_up(state, target / "backup")
        assert names_in(target) == sorted([".cognomen-backup.mine", used.path.name, "backup"])


async def test_what_a_killed_restore_has_left_of_the_same_backup_is_no_obstacle(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "backup")
    new = tmp_path / "new"
    shutil.copytree(state / KEYS, new / KEYS)
    new.chmod(0o700)
    (new / ".issuer.db.0123456789abcdef").write_bytes(b"half")
    (new / KEYS / ".x509-1.key.0123456789abcdef").write_bytes(b"half")
    await asyncio.to_thread(restore, tmp_path / "backup", new, actor="uid:0")
    assert names_in(new) == ["issuer.db", "keys", "lock"]
    assert names_in(new / KEYS) == ["x509-1.key"]


async def test_keys_of_another_backup_are_an_obstacle(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "backup")
    other = await make_state(tmp_path / "other")
    (other / DATABASE).unlink()
    with pytest.raises(Refused, match=r"found .*x509-1\.key"):
        await asyncio.to_thread(restore, tmp_path / "backup", other, actor="uid:0")
    assert names_in(other) == ["keys", "lock"]
