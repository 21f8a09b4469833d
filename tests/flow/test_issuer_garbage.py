"""The issuer's calls leave nothing of ours to the garbage collector: answered, refused, or refused in part."""

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import grpc

from cognomen.wire.pb import admin_pb2, node_pb2
from tests.doubles.garbage import garbage_of
from tests.flow.issuer_harness import entry, running

CALLS = 100
OF_GRPC = 5
"""Objects, for each call through an interceptor: the cycle of a Cython closure."""


async def left_by(call: Callable[[], Awaitable[object]]) -> Counter[str]:
    async def calls(count: int) -> None:
        for _ in range(count):
            with suppress(grpc.RpcError):
                await call()

    return await garbage_of(calls, CALLS)


async def test_mints_leave_no_garbage(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        node = await issuer.join()
        mine = (await issuer.create(entry("/web", node.spiffe_id, "unix:uid:1"))).entries[0].id
        answered = await left_by(lambda: node.mint_jwt((mine, ["a"])))
        refused_in_part = await left_by(lambda: node.mint_jwt(("other", ["a"]), ("", ["a"]), (mine, [])))
        refused = await left_by(lambda: node.mint_jwt(*[(mine, ["a"])] * 1001))
        await node.close()
    for left in (answered, refused_in_part, refused):
        assert left.total() < (OF_GRPC + 1) * CALLS, left


async def test_calls_of_an_operator_leave_no_garbage(tmp_path: Path) -> None:
    async with running(tmp_path) as issuer:
        request = admin_pb2.ListEntriesRequest()
        answered = await left_by(lambda: issuer.admin("ListEntries", request, admin_pb2.ListEntriesResponse))
        unknown = admin_pb2.GetEntryRequest(id="none")
        refused = await left_by(lambda: issuer.admin("GetEntry", unknown, node_pb2.Entry))
    for left in (answered, refused):
        assert left.total() < CALLS / 10, left
