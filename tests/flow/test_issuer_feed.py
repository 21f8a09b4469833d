"""The feed: what an attestor is told at once, what it is told later, and when the stream ends."""

import asyncio
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from cognomen.protocol.entry import EntryID
from cognomen.protocol.feed import EntryGone, Update
from cognomen.wire.pb import admin_pb2, node_pb2
from svid.bundle import Bundle
from svid.clock import SystemClock
from tests.doubles.feed import bundle_told, entries_gone, entries_put, updates_of
from tests.flow.issuer_harness import TRUST_DOMAIN, Node, entry, running
from tests.flow.test_issuer_join import refusal

ISSUER = "spiffe://example.org/cognomen/issuer"
TRAVEL = "spiffe://example.org/group/travel"


class Feed:
    """An open feed."""

    def __init__(self, node: Node, cursor: node_pb2.Cursor | None = None) -> None:
        self._call = node.follow(cursor)

    async def next(self) -> node_pb2.Change:
        """The next message; not one that brings the first checkpoint alone, which comes when it does."""
        while True:
            async with asyncio.timeout(10):
                message = await self._call.read()
            assert isinstance(message, node_pb2.Change)
            kinds = [update.WhichOneof("update") for update in message.updates]
            if message.snapshot or kinds != ["checkpoint"]:
                return message

    def cancel(self) -> None:
        self._call.cancel()


def names(change: node_pb2.Change) -> list[str]:
    return sorted(each.spiffe_id.path for each in entries_put(told(change)))


def told(change: node_pb2.Change) -> tuple[Update, ...]:
    return updates_of(change, TRUST_DOMAIN)


def told_bundle(change: node_pb2.Change) -> Bundle | None:
    return bundle_told(told(change))


async def test_the_first_message_is_a_snapshot_with_the_bundle(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node, other = await issuer.join(), await issuer.join()
        await issuer.create(entry("/a", node.spiffe_id, "unix:uid:1"), entry("/b", other.spiffe_id, "unix:uid:1"))
        first = await Feed(node).next()
        assert first.snapshot
        assert names(first) == ["/a"]
        bundle = told_bundle(first)
        assert bundle is not None
        assert len(bundle.x509_authorities) == 2
        await node.close()


async def test_updates_and_deletions_follow(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        feed = Feed(node)
        await feed.next()
        made = await issuer.create(entry("/a", node.spiffe_id, "unix:uid:1"))
        assert names(await feed.next()) == ["/a"]
        changed = node_pb2.Entry()
        changed.CopyFrom(made.entries[0])
        changed.hint = "other"
        await issuer.update(changed)
        (entry_now,) = entries_put(told(await feed.next()))
        assert (entry_now.hint, entry_now.revision) == ("other", 2)
        await issuer.delete(made.entries[0].id)
        gone = await feed.next()
        assert told(gone) == (EntryGone(entry_id=EntryID(made.entries[0].id)),)
        assert not gone.snapshot
        await node.close()


async def test_an_entry_that_moves_to_another_node_is_gone_here(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node, other = await issuer.join(), await issuer.join()
        here, there = Feed(node), Feed(other)
        await here.next()
        await there.next()
        made = await issuer.create(entry("/a", node.spiffe_id, "unix:uid:1"))
        await here.next()
        moved = node_pb2.Entry()
        moved.CopyFrom(made.entries[0])
        moved.parent_id = other.spiffe_id
        await issuer.update(moved)
        assert entries_gone(told(await here.next())) == (moved.id,)
        assert names(await there.next()) == ["/a"]
        await node.close()
        await other.close()


async def test_other_nodes_entries_are_not_told(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node, other = await issuer.join(), await issuer.join()
        feed = Feed(node)
        await feed.next()
        await issuer.create(entry("/theirs", other.spiffe_id, "unix:uid:1"))
        await issuer.create(entry("/mine", node.spiffe_id, "unix:uid:1"))
        assert names(await feed.next()) == ["/mine"]
        await node.close()


async def test_a_known_cursor_gets_only_what_came_since(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        await issuer.create(entry("/a", node.spiffe_id, "unix:uid:1"))
        cursor = (await Feed(node).next()).cursor
        await issuer.create(entry("/b", node.spiffe_id, "unix:uid:1"))
        since = await Feed(node, cursor).next()
        assert not since.snapshot
        assert names(since) == ["/b"]
        assert told_bundle(since)
        await node.close()


async def test_an_up_to_date_cursor_gets_an_empty_first_message_at_once(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        cursor = (await Feed(node).next()).cursor
        first = await Feed(node, cursor).next()
        assert not first.snapshot
        assert not names(first)
        assert first.cursor == cursor
        await node.close()


@pytest.mark.parametrize("fault", ["incarnation", "number"])
async def test_a_cursor_that_is_not_ours_gets_a_snapshot(tmp_path: Path, fault: str) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        cursor = (await Feed(node).next()).cursor
        if fault == "number":
            cursor.number += 1000
        else:
            cursor.incarnation = "another store"
        assert (await Feed(node, cursor).next()).snapshot
        await node.close()


async def test_far_behind_gets_a_snapshot_in_several_messages(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        cursor = (await Feed(node).next()).cursor
        await issuer.create(*(entry(f"/{n}", node.spiffe_id, f"unix:uid:{n}") for n in range(2500)))
        feed = Feed(node, cursor)
        steps = [await feed.next()]
        while steps[-1].more:
            steps.append(await feed.next())
        assert all(step.snapshot for step in steps)
        assert all(len(step.updates) <= 1000 for step in steps)
        assert len({each.id for step in steps for each in entries_put(told(step))}) == 2500
        assert [told_bundle(step) is not None for step in steps] == [True, *[False] * (len(steps) - 1)]
        await node.close()


async def test_a_group_that_comes_and_goes_is_a_snapshot_each_time(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join({"team": "travel"})
        await issuer.create(entry("/a", TRAVEL, "unix:uid:1"))
        feed = Feed(node)
        first = await feed.next()
        assert not names(first)
        group = await issuer.create(entry("/group/travel", ISSUER, "join_token:label:team:travel"))
        came = await feed.next()
        assert came.snapshot
        assert names(came) == ["/a"]
        await issuer.delete(group.entries[0].id)
        left = await feed.next()
        assert left.snapshot
        assert not names(left)
        feed.cancel()
        await node.close()


async def test_a_group_that_came_while_nobody_followed_is_a_snapshot(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join({"team": "travel"})
        cursor = (await Feed(node).next()).cursor
        await issuer.create(entry("/a", TRAVEL, "unix:uid:1"))
        await issuer.create(entry("/group/travel", ISSUER, "join_token:label:team:travel"))
        first = await Feed(node, cursor).next()
        assert first.snapshot
        assert names(first) == ["/a"]
        await node.close()


async def test_a_group_that_ends_by_itself_is_a_snapshot_for_who_follows_and_who_returns(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join({"team": "travel"})
        group = entry("/group/travel", ISSUER, "join_token:label:team:travel")
        group.expires_at.FromDatetime(SystemClock().now() + timedelta(seconds=2))
        await issuer.create(group, entry("/a", TRAVEL, "unix:uid:1"))
        feed = Feed(node)
        first = await feed.next()
        assert names(first) == ["/a"]
        left = await feed.next()
        assert left.snapshot
        assert not names(left)
        assert (await Feed(node, first.cursor).next()).snapshot
        await node.close()


async def test_acknowledged_numbers_are_kept_and_never_go_back(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        cursor = (await Feed(node).next()).cursor
        await node.acknowledge(cursor)
        async with asyncio.timeout(10):
            while (await issuer.node_row(node.id)).acknowledged != cursor.number:
                pass
        await node.acknowledge(node_pb2.Cursor(incarnation=cursor.incarnation, number=cursor.number + 1000))
        await node.acknowledge(node_pb2.Cursor(incarnation="another store", number=cursor.number))
        await node.acknowledge(node_pb2.Cursor(incarnation=cursor.incarnation, number=0))
        await node.close()
    async with running(tmp_path) as issuer:
        assert (await issuer.node_row(node.id)).acknowledged == cursor.number


async def test_what_an_attestor_says_of_its_enforcement_points_is_bounded_at_the_door(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        cursor = (await Feed(node).next()).cursor
        one = node_pb2.PointBehind(uid=1000, pid=7, point="web \x1b[2J", number=0)
        for said, reason in (
            (node_pb2.Enforcement(points=30, behind=[one] * 21), "behind: expected at most 20, found 21"),
            (node_pb2.Enforcement(points=2**32 - 1), "points: expected at most 1000000, found 4294967295"),
            (node_pb2.Enforcement(points=1, behind=[node_pb2.PointBehind(point="a" * 257)]), "expected 1 to 256 bytes"),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match=reason) as refused:
                await node.acknowledge(cursor, said)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await node.acknowledge(cursor, node_pb2.Enforcement(points=2, reached=1, behind=[one]))
        target = admin_pb2.RevocationTarget(kind="selector", selector=node_pb2.Selector(type="unix", value="uid:1"))
        await issuer.admin("Revoke", admin_pb2.RevokeRequest(target=target), admin_pb2.RevokeResponse)
        request = admin_pb2.AwaitRevocationRequest(number=1)
        found = await issuer.admin("AwaitRevocation", request, admin_pb2.RevocationStatus)
        assert isinstance(found, admin_pb2.RevocationStatus)
        assert (found.attestors, found.enforcing, found.points, found.points_enforcing) == (1, 0, 2, 0)
        assert [silent.point for silent in found.silent] == ["web \\x1b[2J", ""]
        await node.close()


async def test_a_node_is_connected_while_it_follows(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        assert not (await issuer.node_row(node.id)).connected
        feed = Feed(node)
        await feed.next()
        assert (await issuer.node_row(node.id)).connected
        feed.cancel()
        async with asyncio.timeout(10):
            while (await issuer.node_row(node.id)).connected:
                pass
        await node.close()


async def _read_on(feed: Feed) -> None:
    while True:
        await feed.next()


async def test_a_fifth_feed_of_one_node_is_served_and_ends_the_oldest(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        feeds = []
        for _ in range(5):
            feeds.append(Feed(node))
            await feeds[-1].next()
        refused = await refusal(_read_on(feeds[0]))
        assert (refused.code(), refused.details()) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "feed: ended by a newer one of this node",
        )
        await node.close()


async def test_an_open_feed_does_not_keep_the_issuer_from_stopping(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        feed = Feed(node)
        await feed.next()
        before = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - before < 3
    assert (await refusal(feed.next())).code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    await node.close()
