"""The room that is kept on the disk: on a disk whose free space the test tells."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite.connection import connect
from issuer.datastore.sqlite.files import open_private
from issuer.datastore.sqlite.migrations import migrate
from issuer.datastore.sqlite.reserve import Reserve
from issuer.datastore.sqlite.worker import Writer
from issuer.decisions.audit import AuditEvent
from tests.doubles.issuer_values import NOW

MIB = 2**20
SIZE = 8 * 65536


class Disk:
    """A disk of a size of its own: what it has left follows from what the reserve holds."""

    def __init__(self, path: Path, free: int) -> None:
        self.path = path
        self.left = free
        self.descriptor = open_private(path)

    def free(self) -> int:
        return self.left - self.kept

    @property
    def kept(self) -> int:
        return os.fstat(self.descriptor).st_blocks * 512

    def reserve(self) -> Reserve:
        return Reserve(self.descriptor, SIZE, self.free)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    (tmp_path / "state").mkdir(mode=0o700)
    made = Disk(tmp_path / "state" / "reserve", free=100 * MIB)
    yield made
    os.close(made.descriptor)


def test_room_is_kept_and_given_back_in_parts_until_nothing_is_left(disk: Disk) -> None:
    reserve = disk.reserve()
    assert reserve.has_room()
    assert disk.kept == SIZE
    kept = []
    while reserve.give_back():
        kept.append(disk.kept)
    assert kept == [SIZE - SIZE // 8 * number for number in range(1, 9)]


def test_what_was_given_back_is_kept_again_only_when_the_disk_has_it_and_a_margin(disk: Disk) -> None:
    reserve = disk.reserve()
    assert reserve.has_room()
    assert reserve.give_back()
    disk.left = SIZE + SIZE // 4 - 1
    assert not reserve.has_room()
    assert disk.kept == SIZE - SIZE // 8
    disk.left += 1
    assert reserve.has_room()
    assert disk.kept == SIZE


def test_a_disk_that_is_nearly_full_has_no_room_to_spare_though_the_reserve_is_whole(disk: Disk) -> None:
    reserve = disk.reserve()
    assert reserve.has_room()
    disk.left = SIZE + SIZE // 4 - 1
    assert reserve.is_disk_full()
    assert not reserve.has_room()
    assert disk.kept == SIZE
    disk.left += 1
    assert not reserve.is_disk_full()
    assert reserve.has_room()


def test_a_disk_smaller_than_the_reserve_says_what_is_free_and_what_is_needed(disk: Disk) -> None:
    disk.left = SIZE // 2
    lacking = Reserve(disk.descriptor, SIZE, disk.free).lacking()
    assert lacking == "found 0.2 MiB free, expected 0.6 MiB (disk_reserve_mib is 0.5); 0.0 MiB of the reserve are left"
    disk.left = -1  # what the log still takes of it is more than there is
    assert Reserve(disk.descriptor, SIZE, disk.free).lacking().startswith("found 0.0 MiB free,")
    disk.left = 2 * SIZE
    assert not Reserve(disk.descriptor, SIZE, disk.free).lacking()


def test_after_a_restart_what_was_kept_is_known_and_a_smaller_size_gives_back(disk: Disk) -> None:
    assert disk.reserve().has_room()
    disk.left = SIZE + SIZE // 4
    assert disk.reserve().has_room()
    smaller = Reserve(disk.descriptor, SIZE // 2, disk.free)
    assert smaller.has_room()
    assert disk.kept == SIZE // 2


def test_a_hole_is_no_room(disk: Disk) -> None:
    os.ftruncate(disk.descriptor, SIZE)
    disk.left = SIZE
    assert not disk.reserve().has_room()
    disk.left = 2 * SIZE
    assert disk.reserve().has_room()
    assert disk.kept == SIZE


def test_a_reserve_that_others_can_read_is_refused(disk: Disk) -> None:
    disk.path.chmod(0o644)
    with pytest.raises(Refused, match="mode 0600"):
        Reserve.open(disk.path, SIZE, log=disk.path.with_name("db-wal"))


def test_the_real_disk_is_asked(disk: Disk) -> None:
    reserve = Reserve.open(disk.path, SIZE, log=disk.path.with_name("db-wal"))
    assert reserve.has_room()
    assert disk.path.stat().st_blocks * 512 == SIZE
    reserve.close()


def add_rows(tx: Transaction) -> None:
    tx.audit.append([AuditEvent(at=NOW, actor="uid:0", action="filling", facts={"a": "x" * 4000}) for _ in range(50)])


def add_one(tx: Transaction) -> None:
    tx.audit.append([AuditEvent(at=NOW, actor="uid:0", action="removing")])


@pytest.fixture
def writer(disk: Disk, tmp_path: Path) -> Iterator[Writer]:
    os.close(open_private(tmp_path / "state" / "db"))
    database = connect(tmp_path / "state" / "db", max_pages=70)
    migrate(database)
    reserve = disk.reserve()
    assert reserve.has_room()
    writer = Writer(database, grew=lambda _: None, reserve=reserve)
    yield writer
    writer.close()


def test_without_room_expendable_works_are_refused_and_the_others_done(disk: Disk, writer: Writer) -> None:
    writer.submit(add_one, expendable=True).result()
    disk.left = 0
    refused = writer.submit(add_one, expendable=True).exception()
    assert isinstance(refused, Refused)
    assert (refused.kind, refused.detail) == (
        Kind.UNAVAILABLE, "datastore: the disk is full",
    )  # fmt: skip
    assert "free some space" in refused.hint
    assert "disk_reserve_mib" in refused.hint
    writer.submit(add_one, expendable=False).result()
    disk.left = 100 * MIB
    writer.submit(add_one, expendable=True).result()


def test_a_work_that_fits_no_disk_gets_all_that_is_kept_and_then_its_error(disk: Disk, writer: Writer) -> None:
    refused = writer.submit(add_rows, expendable=True).exception()
    assert isinstance(refused, Refused)
    assert (refused.detail, disk.kept) == ("datastore: full", SIZE)
    refused = writer.submit(add_rows, expendable=False).exception()
    assert isinstance(refused, Refused)
    assert (refused.detail, disk.kept) == ("datastore: full", 0)
    writer.submit(add_one, expendable=False).result()


def test_a_fault_of_ours_gives_nothing_back(disk: Disk, writer: Writer) -> None:
    def fails(tx: Transaction) -> None:
        del tx
        raise ValueError("ours")

    assert isinstance(writer.submit(fails, expendable=False).exception(), ValueError)
    assert disk.kept == SIZE


def test_what_folding_the_log_did_not_take_is_kept_again_as_far_as_the_disk_has_it(disk: Disk) -> None:
    reserve = Reserve.open(disk.path, SIZE, log=disk.path.with_name("db-wal"))
    assert reserve.has_room()
    assert reserve.give_back()
    assert reserve.held == SIZE - SIZE // 8
    reserve.keep(SIZE)
    assert (reserve.held, disk.kept) == (SIZE, SIZE)
    reserve.keep(SIZE // 2)
    assert reserve.held == SIZE, "keeping never gives back"
    reserve.close()
