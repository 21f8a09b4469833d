"""Backups of a store that is written meanwhile, and what is no backup that could be believed."""

import asyncio
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cognomen.protocol.auditlog import AuditRow, broken_link
from cognomen.protocol.errors import Kind, Refused
from issuer.backup import DATABASE, KEYS, back_up, restore
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.audit import AuditEvent
from issuer.keymanager.disk import DiskKeyManager
from svid.keys import KeyID, KeyKind
from tests.doubles.hints import typed
from tests.doubles.issuer_values import NOW, x509_authority

EVENTS = [AuditEvent(at=NOW, actor="uid:0", action="entry created", subject="x" * 2000)] * 50


@pytest.fixture
async def state(tmp_path: Path) -> Path:
    """The directory of an issuer that was stopped: one active authority and its key, and some decisions."""
    directory = tmp_path / "state"
    store = await SQLiteDatastore.open(directory / DATABASE)
    authority = (await x509_authority()).authority

    def work(tx: Transaction) -> None:
        tx.authorities.put(authority)
        tx.audit.append(EVENTS)

    await store.write(work)
    await store.close()
    await DiskKeyManager(directory / KEYS).generate(authority.key_id, KeyKind.EC_P256)
    return directory


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def rows_in(directory: Path) -> list[AuditRow]:
    store = await SQLiteDatastore.open(directory / DATABASE)
    try:
        return list(await store.read(lambda tx: tx.audit.rows(after=0, limit=100_000)))
    finally:
        await store.close()


async def test_a_backup_is_of_one_moment_though_decisions_go_on(state: Path, tmp_path: Path) -> None:
    store = await SQLiteDatastore.open(state / DATABASE)
    stop = asyncio.Event()

    async def decide() -> None:
        while not stop.is_set():
            await store.write(lambda tx: tx.audit.append(EVENTS))

    task = asyncio.create_task(decide())
    for number in range(3):
        await asyncio.to_thread(back_up, state, tmp_path / f"backup{number}")
    stop.set()
    await task
    await store.close()
    whole = await rows_in(state)
    for number in range(3):
        await asyncio.to_thread(restore, tmp_path / f"backup{number}", tmp_path / f"new{number}", actor="uid:0")
        rows = await rows_in(tmp_path / f"new{number}")
        assert broken_link(rows) is None
        assert rows[:-1] == whole[: len(rows) - 1]
        assert (len(rows) - 1) % len(EVENTS) == 0
    assert names_in(tmp_path) == [
        "backup0", "backup1", "backup2", "new0", "new1", "new2", "state"
    ]  # fmt: skip


async def test_the_progress_ends_with_every_page(state: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    await asyncio.to_thread(back_up, state, tmp_path / "backup", progress=lambda done, of: told.append((done, of)))
    assert told
    assert told[-1][0] == told[-1][1] > 0


async def test_keys_and_database_come_back_private(state: Path, tmp_path: Path) -> None:
    made = back_up(state, tmp_path / "backup")
    assert made.keys == 1
    await asyncio.to_thread(restore, tmp_path / "backup", tmp_path / "new", actor="uid:0")
    for path in (DATABASE, f"{KEYS}/x509-1.key"):
        assert (tmp_path / "new" / path).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new" / KEYS / "x509-1.key").read_bytes() == (state / KEYS / "x509-1.key").read_bytes()


async def test_without_the_key_of_the_authority_that_signs_there_is_no_backup(state: Path, tmp_path: Path) -> None:
    await DiskKeyManager(state / KEYS).delete(KeyID("x509-1"))
    with pytest.raises(Refused, match="key x509-1: the key of the authority that signs is missing"):
        back_up(state, tmp_path / "backup")
    assert names_in(tmp_path) == ["state"]


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b"x"), lambda path: path.symlink_to("nowhere")])
async def test_what_is_there_is_never_overwritten(state: Path, tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "backup")
    with pytest.raises(Refused) as refused:
        back_up(state, tmp_path / "backup")
    assert refused.value.kind is Kind.EXISTS


async def test_a_name_that_is_taken_while_the_backup_is_made_is_not_overwritten(state: Path, tmp_path: Path) -> None:
    def take(_done: int, _of: int) -> None:
        (tmp_path / "backup").write_bytes(b"x")

    with pytest.raises(Refused) as refused:
        back_up(state, tmp_path / "backup", progress=take)
    assert refused.value.kind is Kind.EXISTS
    assert (tmp_path / "backup").read_bytes() == b"x"


@pytest.mark.parametrize("left", [DATABASE, f"{DATABASE}-wal", f"{KEYS}/audit-0.key"])
async def test_a_state_directory_with_anything_of_another_store_is_refused(
    state: Path, tmp_path: Path, left: str
) -> None:
    back_up(state, tmp_path / "backup")
    path = tmp_path / "new" / left
    (tmp_path / "new").mkdir(mode=0o700)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(b"")
    with pytest.raises(Refused, match="expected one without a database and keys") as refused:
        restore(tmp_path / "backup", tmp_path / "new", actor="uid:0")
    assert "move" in refused.value.hint


@pytest.mark.parametrize("mode", [0o660, 0o606])
async def test_a_backup_that_others_may_write_is_not_believed(state: Path, tmp_path: Path, mode: int) -> None:
    back_up(state, tmp_path / "backup")
    (tmp_path / "backup").chmod(mode)
    with pytest.raises(Refused, match="may write"):
        restore(tmp_path / "backup", tmp_path / "new", actor="uid:0")


async def test_a_file_that_is_not_there_is_told_as_that_and_can_be_named_again(state: Path, tmp_path: Path) -> None:
    back_up(state, tmp_path / "backup")
    with pytest.raises(Refused) as refused:
        restore(tmp_path / "nope", tmp_path / "new", actor="uid:0")
    assert (refused.value.kind, refused.value.detail) == (
        Kind.NOT_FOUND,
        f"backup {tmp_path}/nope: no such file or directory",
    )
    assert "cognomen issuer backup" in refused.value.hint
    await asyncio.to_thread(restore, tmp_path / "backup", tmp_path / "new", actor="uid:0")


async def test_a_directory_is_no_backup(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r": is a directory$") as refused:
        restore(tmp_path, tmp_path / "new", actor="uid:0")
    assert refused.value.kind is Kind.INVALID


async def test_a_pipe_is_no_backup(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "backup")
    with pytest.raises(Refused, match="expected a regular file"):
        restore(tmp_path / "backup", tmp_path / "new", actor="uid:0")


def repacked(
    source: Path, target: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]
) -> None:
    with tarfile.open(source) as before, tarfile.open(target, "w") as after:
        for member in before:
            content = before.extractfile(member)
            assert content is not None
            bent, data = change(member, content.read())
            bent.size = len(data) if bent.type == tarfile.REGTYPE else 0
            after.addfile(bent, io.BytesIO(data))
    target.chmod(0o600)


def of(
    name: str, change: Callable[[tarfile.TarInfo], None]
) -> Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]:
    def bend(member: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
        if member.name == name:
            change(member)
        return member, data

    return bend


def renamed(to: str) -> Callable[[tarfile.TarInfo], None]:
    return lambda member: setattr(member, "name", to)


def a_link(member: tarfile.TarInfo) -> None:
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"


def bent_key(member: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return member, data[:-1] + bytes([data[-1] ^ 1]) if member.name.endswith(".key") else data


def bent_manifest(member: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return member, json.dumps(json.loads(data) | {"version": 2}).encode() if member.name == "manifest.json" else data


def deep_manifest(member: tarfile.TarInfo, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return member, b"[" * 100_000 if member.name == "manifest.json" else data


@pytest.mark.parametrize(
    "change",
    [
        of("keys/x509-1.key", renamed("keys/../../x.key")),
        of("keys/x509-1.key", renamed("/keys/x.key")),
        of("keys/x509-1.key", renamed("keys/x509-2.key")),
        of("keys/x509-1.key", a_link),
        of(DATABASE, renamed("other.db")),
        bent_key,
        bent_manifest,
        deep_manifest,
    ],
)
async def test_a_backup_with_another_member_than_its_manifest_names_is_refused(
    state: Path, tmp_path: Path, change: Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes]]
) -> None:
    back_up(state, tmp_path / "backup")
    repacked(tmp_path / "backup", tmp_path / "bent", change)
    with pytest.raises(Refused, match="damaged or incomplete") as refused:
        restore(tmp_path / "bent", tmp_path / "new", actor="uid:0")
    assert refused.value.kind is Kind.INVALID
    assert names_in(tmp_path / "new") == ["lock"]


def test_a_backup_is_neither_written_nor_believed_below_a_directory_that_others_write(
    state: Path, tmp_path: Path
) -> None:
    place = tmp_path / "open"
    place.mkdir()
    back_up(state, place / "backup")
    place.chmod(0o777)
    for work in (
        lambda: back_up(state, place / "another"),
        lambda: restore(place / "backup", tmp_path / "new", actor="uid:0"),
    ):
        with pytest.raises(Refused, match="found mode 0777") as refused:
            work()
        assert refused.value.kind is Kind.INVALID
    assert names_in(place) == ["backup"]
    typed(refused.value.hint)
    restore(place / "backup", tmp_path / "new", actor="uid:0")
