"""A disk that is really full: what the daemons still do, what they refuse, and that they go on by themselves afterwards.

On a file system of its own, a few megabytes in memory, that a test fills to its last byte.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from cognomen.protocol.auditlog import broken_link
from cognomen.wire.pb import admin_pb2, node_pb2
from issuer.datastore.sqlite import SQLiteDatastore
from tests.doubles.until import until
from tests.flow.issuer_harness import Issuer, Node, entry, join, new_key, public_der, running
from tests.flow.test_issuer_join import refusal
from tests.flow.test_keep_denials import Node as DenialNode

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system of a few megabytes needs root")
MIB = 2**20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system; the whole mount goes away with the test."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    made = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=16m,mode=0755", "tmpfs", mounted], check=False)
    if made.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        yield mounted
    finally:
        subprocess.run(["/bin/umount", "-l", mounted], check=True)


def free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path) -> Path:
    """Take every byte that is left."""
    path = disk / "somebody-elses"
    with path.open("ab", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    assert free(disk) == 0
    return path


async def entries(issuer: Issuer, node: Node, count: int) -> list[str]:
    made = await issuer.create(*(entry(f"/w{number}", node.spiffe_id, f"unix:uid:{number}") for number in range(count)))
    return [one.id for one in made.entries]


async def mint(node: Node, entry_id: str) -> grpc.StatusCode:
    try:
        await node.mint((entry_id, public_der(new_key())))
    except grpc.aio.AioRpcError as refused:
        return refused.code()
    return grpc.StatusCode.OK


async def status(issuer: Issuer) -> admin_pb2.IssuerStatus:
    found = await issuer.admin("GetStatus", admin_pb2.GetStatusRequest(), admin_pb2.IssuerStatus)
    assert isinstance(found, admin_pb2.IssuerStatus)
    return found


async def audit(disk: Path) -> list[str]:
    store = await SQLiteDatastore.open(disk / "state" / "issuer.db")
    rows = await store.read(lambda tx: tx.audit.rows(after=0, limit=100_000))
    await store.close()
    assert broken_link(rows) is None
    return [json.loads(row.body)["action"] for row in rows]


async def test_with_no_byte_left_entries_are_deleted_nodes_are_sent_away_and_nothing_is_issued(disk: Path) -> None:
    async with running(disk, disk_reserve_mib=2) as issuer:
        node, banned = await issuer.join(), await issuer.join()
        ids = await entries(issuer, node, 400)
        assert await mint(node, ids[0]) is grpc.StatusCode.OK
        invite = await issuer.invite()
        filler = fill(disk)
        for attempt in (join(invite), node.renew(), issuer.invite()):
            assert (await refusal(attempt)).code() is grpc.StatusCode.UNAVAILABLE
        assert await mint(node, ids[0]) is grpc.StatusCode.UNAVAILABLE
        assert (await refusal(issuer.invite())).code() is grpc.StatusCode.UNAVAILABLE
        assert (
            await refusal(issuer.create(entry("/late", node.spiffe_id, "unix:uid:1")))
        ).code() is grpc.StatusCode.UNAVAILABLE
        changed = entry("/w1", node.spiffe_id, "unix:uid:9")
        changed.id = ids[1]
        assert (await refusal(issuer.update(changed))).code() is grpc.StatusCode.UNAVAILABLE
        assert "not on record" in ((await refusal(issuer.delete("none"))).details() or "")
        for entry_id in ids[1:]:
            await issuer.delete(entry_id)
        await issuer.admin("BanNode", admin_pb2.GetNodeRequest(id=banned.id), admin_pb2.Node)
        assert (await refusal(banned.acknowledge(node_pb2.Cursor()))).code() is grpc.StatusCode.PERMISSION_DENIED
        told = await status(issuer)
        assert [one.what for one in told.troubles if one.what.startswith("room")] == ["room of the datastore"]
        filler.unlink()
        assert await mint(node, ids[0]) is grpc.StatusCode.OK
        assert not [one.what for one in (await status(issuer)).troubles if one.what.startswith("room")]
        assert (disk / "state" / "reserve").stat().st_blocks * 512 == 2 * MIB
        for each in (node, banned):
            await each.close()
    actions = await audit(disk)
    assert actions.count("entry deleted") == 399
    assert "node banned" in actions
    assert "node call" in actions  # the alarm about the banned node


async def test_a_disk_smaller_than_the_reserve_is_told_at_the_start_and_names_the_setting(
    disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(disk, disk_reserve_mib=16) as issuer:
        assert "disk_reserve_mib is 16" in "".join(capfd.readouterr())
        assert "disk_reserve_mib" in ((await refusal(issuer.invite())).details() or "")
        troubles = (await status(issuer)).troubles  # more than one once a write was put off, too
        assert any("MiB free, expected 20.0 MiB (disk_reserve_mib is 16)" in one.reason for one in troubles)


async def test_mints_that_fill_the_disk_leave_the_reserve_to_operators(disk: Path) -> None:
    async with running(disk, disk_reserve_mib=2) as issuer:
        node = await issuer.join()
        ids = await entries(issuer, node, 300)
        with pytest.raises(grpc.aio.AioRpcError) as refused:  # noqa: PT012 - it must refuse sometime
            while True:
                await node.mint_jwt(*((ids[0], [f"a{n}" + "x" * 1000, "y" * 1000]) for n in range(200)))
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "the disk is full" in (refused.value.details() or "")
        for entry_id in ids:
            await issuer.delete(entry_id)
        await node.close()


async def test_an_issuer_that_starts_on_a_full_disk_still_lets_operators_remove(disk: Path) -> None:
    async with running(disk, disk_reserve_mib=2) as issuer:
        node = await issuer.join()
        ids = await entries(issuer, node, 3)
        await node.close()
    fill(disk)
    async with running(disk, disk_reserve_mib=2) as issuer:
        await issuer.delete(*ids)
    assert (await audit(disk)).count("entry deleted") == 3


async def test_what_comes_to_a_node_without_room_is_denied_told_as_a_trouble_and_kept_once_there_is_room(
    disk: Path,
) -> None:
    node = DenialNode(disk / "state")
    async with node.running() as flow:
        node.deny([1])
        await node.at_rest(flow)
        filler = fill(disk)
        node.deny(range(2, 1000))
        await node.at_rest(flow)
        assert 999 in node.log
        (trouble,) = node.troubles.all()
        assert trouble.what == "denials on disk"
        assert "no space left on device" in trouble.reason
        assert node.kept()[:1] == [1], "what was there is still there"
        filler.unlink()
        node.own.advance(10)
        await until(lambda: not node.troubles.all())
        assert node.kept() == [*range(1, 1000)]
