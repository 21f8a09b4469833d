"""An issuer begins nothing anew where another has been, and says what to type; each hint is typed here."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from cognomen.protocol.errors import Kind, Refused
from issuer.backup import DATABASE, KEYS, back_up, restore
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.keymanager.disk import DiskKeyManager
from issuer.recovery import check_database, check_rows
from svid.keys import KeyID, KeyKind
from tests.doubles.issuerstate import make_state


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    return await make_state(tmp_path / "it's state")


def names_in(directory: Path) -> list[str]:
    return sorted(found.name for found in directory.iterdir())


def refused(state: Path) -> Refused:
    with pytest.raises(Refused) as found:
        check_database(state)
    assert found.value.kind is Kind.CONFLICT
    return found.value


def type_first(hint: str) -> None:
    """Type the first command of a hint, as it is, in a shell."""
    command = "mkdir" + hint.partition("mkdir")[2].partition("\n")[0]
    subprocess.run(["/bin/sh", "-euc", command], check=True)


def test_an_empty_directory_is_new_and_one_with_its_database_is_not(state: Path, tmp_path: Path) -> None:
    assert not check_database(state)
    (tmp_path / "empty").mkdir()
    assert check_database(tmp_path / "empty")


@pytest.mark.parametrize("is_empty_file_there", [False, True])
async def test_keys_without_a_database_are_refused_kept_and_restored_as_the_hint_says(
    state: Path,
    tmp_path: Path,
    is_empty_file_there: bool,  # noqa: FBT001 - a row of the table
) -> None:
    back_up(state, tmp_path / "backup")
    os.truncate(state / DATABASE, 0)
    if not is_empty_file_there:
        (state / DATABASE).unlink()
    told = refused(state)
    assert told.detail == f"state_dir: the database for what is in {state} is missing or blank"
    assert names_in(state / KEYS) == ["x509-1.key"]
    type_first(told.hint)
    assert names_in(state / "lost-1")[-1] == "keys"
    await asyncio.to_thread(restore, tmp_path / "backup", state, actor="uid:0")
    assert not check_database(state)


async def test_the_hint_works_twice(state: Path) -> None:
    for _ in range(2):
        (state / DATABASE).unlink(missing_ok=True)
        type_first(refused(state).hint)
        shutil.copytree(state / "lost-1" / KEYS, state / KEYS)
    assert {"lost-1", "lost-2"} < set(names_in(state))


def test_without_a_backup_the_first_hint_is_enough_to_begin_anew(state: Path) -> None:
    (state / DATABASE).unlink()
    type_first(refused(state).hint)
    assert check_database(state)


def test_a_log_without_its_database_is_refused(state: Path) -> None:
    (state / DATABASE).unlink()
    shutil.rmtree(state / KEYS)
    (state / f"{DATABASE}-wal").write_bytes(b"rows that were acknowledged")
    type_first(refused(state).hint)
    assert check_database(state)


async def test_a_database_without_authorities_beside_keys_is_refused(state: Path) -> None:
    with closing(sqlite3.connect(state / DATABASE)) as database:
        database.execute("DELETE FROM authority")
        database.commit()
    assert not check_database(state)
    store = await SQLiteDatastore.open(state / DATABASE)
    with pytest.raises(Refused, match="is missing or blank") as found:
        await check_rows(store, DiskKeyManager(state / KEYS), state)
    await store.close()
    type_first(found.value.hint)
    assert check_database(state)


async def test_an_unfinished_restore_is_refused_and_done_again(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "backup")
    (state / DATABASE).rename(state / f".{DATABASE}.0123456789abcdef")
    told = refused(state)
    assert f"found an unfinished restore in {state}" in told.detail
    assert told.hint.startswith("restore again: cognomen issuer restore FILE --state")
    await asyncio.to_thread(restore, tmp_path / "backup", state, actor="uid:0")
    assert not check_database(state)
    assert names_in(state) == [DATABASE, KEYS, "lock"]


def test_what_a_kill_has_left_beside_a_database_is_swept(state: Path) -> None:
    for name in ("0123456789abcdef", "0123456789abcdef-wal", "trial"):
        (state / f".{DATABASE}.{name}").write_bytes(b"")
    assert not check_database(state)
    assert names_in(state) == [DATABASE, KEYS]


async def test_no_key_is_made_in_the_place_of_a_directory_that_was_taken_away(state: Path) -> None:
    keys = DiskKeyManager(state / KEYS)
    await keys.list()
    (state / KEYS).rename(state / "elsewhere")
    for attempt in (keys.generate(KeyID("x509-2"), KeyKind.EC_P256), keys.list(), keys.get(KeyID("x509-1"))):
        with pytest.raises(Refused, match="the directory with the keys is gone"):
            await attempt
    assert KEYS not in names_in(state)
