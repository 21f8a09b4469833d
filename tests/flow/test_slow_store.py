"""The store answers slowly, then not: somebody else holds SQLite's one write lock, as a backup or a shell may."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from tests.flow.liveissuer import LiveIssuer
from tests.flow.test_attestor_end_to_end import LiveAttestor, entry


@contextmanager
def locked(issuer: LiveIssuer) -> Iterator[None]:
    """Nobody else writes while the block runs."""
    database = sqlite3.connect(issuer.config.state_dir / "issuer.db", isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")
    finally:
        database.close()


async def test_a_store_that_is_slow_delays_and_one_that_is_gone_refuses_and_workloads_notice_neither(
    tmp_path: Path,
) -> None:
    attestor = LiveAttestor(tmp_path)
    async with LiveIssuer(tmp_path).running() as issuer, attestor.running(await issuer.invite()) as node:
        await issuer.create(entry("/a", node))
        async with attestor.stream() as stream:
            (first,) = await stream.next()
            with locked(issuer):
                slow = asyncio.ensure_future(issuer.create(entry("/b", node)))
                async with attestor.stream() as other:
                    assert [svid.serial for svid in await other.next()] == [first.serial]
                assert not slow.done()
            await slow
            assert {svid.spiffe_id.path for svid in await stream.next()} == {"/a", "/b"}
            with locked(issuer):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await issuer.create(entry("/c", node))
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
                async with attestor.stream() as other:
                    assert first.serial in {svid.serial for svid in await other.next()}
            await issuer.create(entry("/c", node))
            assert {svid.spiffe_id.path for svid in await stream.next()} == {"/a", "/b", "/c"}
