"""A backup into a directory where others can make files, as /tmp: what they put beside the copy changes nothing in it."""

import asyncio
import os
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from issuer.backup import DATABASE, back_up
from issuer.scratch import scratch_file, sweep_scratch
from tests.doubles.issuerstate import make_state

NOBODY = 65534


def forged_log(database: Path, away: Path) -> bytes:
    """A log of SQLite's that belongs to a database like that one, and says that its trust is somebody else's."""
    shutil.copy(database, away)
    with closing(sqlite3.connect(away, isolation_level=None)) as forging:
        forging.execute("PRAGMA wal_autocheckpoint = 0")
        forging.execute("UPDATE meta SET incarnation = 'forged'")
        return away.with_name(f"{away.name}-wal").read_bytes()


@pytest.mark.parametrize("companion", ["-wal", "-journal"])
async def test_a_log_that_somebody_puts_beside_the_copy_is_not_read(tmp_path: Path, companion: str) -> None:
    state = await make_state(tmp_path / "state")
    with closing(sqlite3.connect(state / DATABASE)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    log = forged_log(state / DATABASE, tmp_path / "forged")
    target = tmp_path / "shared"
    target.mkdir()
    target.chmod(0o1777)

    def put_beside(_done: int, _of: int) -> None:
        copy = next(target.glob(".cognomen-backup.*.db"))
        beside = copy.with_name(f"{copy.name}{companion}")
        beside.write_bytes(log)
        if os.geteuid() == 0:
            os.chown(beside, NOBODY, NOBODY)

    await asyncio.to_thread(back_up, state, target / "backup", progress=put_beside)
    with tarfile.open(target / "backup") as tar:
        member = tar.extractfile(DATABASE)
        assert member is not None
        (tmp_path / "out.db").write_bytes(member.read())
    with closing(sqlite3.connect(tmp_path / "out.db")) as found:
        ((incarnation,),) = found.execute("SELECT incarnation FROM meta")
    assert incarnation != "forged"
    assert {path.name for path in target.iterdir()} == {"backup"}


async def test_what_cannot_be_removed_beside_the_copy_fails_no_backup_and_leaves_no_copy(tmp_path: Path) -> None:
    state = await make_state(tmp_path / "state")
    target = tmp_path / "shared"
    target.mkdir()
    target.chmod(0o1777)

    def put_beside(_done: int, _of: int) -> None:
        copy = next(target.glob(".cognomen-backup.*.db"))
        copy.with_name(f"{copy.name}-wal").mkdir(exist_ok=True)

    for number in range(2):
        await asyncio.to_thread(back_up, state, target / f"backup{number}", progress=put_beside)
    assert {path.name for path in target.iterdir() if path.is_file()} == {"backup0", "backup1"}


def test_a_copy_that_its_maker_removes_meanwhile_is_swept_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scratch_file(tmp_path, "db") as used:
        monkeypatch.setattr(Path, "lstat", lambda path: path.unlink() or os.lstat(path))
        sweep_scratch(tmp_path)
    assert not used.path.exists()
