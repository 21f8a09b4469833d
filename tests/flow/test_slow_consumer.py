"""A caller that opens a stream and then never reads, beside a hundred that do."""

import asyncio
import os
from pathlib import Path
from typing import cast

from bench.rig.http2 import Call, Connection, framed
from tests.doubles.workloadside import WorkloadSide, entry, serving

READERS = 100
IDENTITIES = 40  # a message of about 50 kB, so that what the kernel keeps for a peer is full after a few
CHANGES = 16
MOST_KEPT = 8  # messages between the flow and a peer that does not read: in the socket's buffer and the transport's


class Sleeper(Connection):
    """A connection that can stop reading."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport = cast("asyncio.ReadTransport", transport)  # what a stream socket gets


async def hear(call: Call, text: bytes) -> int:
    """Read until a message holds this; how many came, that one included."""
    count = 1
    while text not in (await call.next())[1]:
        count += 1
    return count


async def test_a_caller_that_never_reads_slows_nobody_and_finds_the_latest_state(tmp_path: Path) -> None:
    side = WorkloadSide()
    entries = [entry(f"e{number}", f"unix:uid:{os.getuid()}") for number in range(IDENTITIES)]
    side.synchronise(*entries)
    path = tmp_path / "api.sock"
    async with serving(side.flow(), path):
        readers = [await Connection.open(path) for _ in range(READERS)]
        sleeper = await Sleeper.open(path)
        calls = [reader.call("FetchX509SVID", framed(b"")) for reader in [*readers, sleeper]]
        for call in calls:
            await call.next()
        sleeper.transport.pause_reading()
        for _ in range(CHANGES):
            side.mint(*entries)
            latest = side.cache.svids[entries[0].id].svid.chain_der()
            assert await asyncio.gather(*(hear(call, latest) for call in calls[:READERS])) == [1] * READERS
        sleeper.transport.resume_reading()
        assert await hear(calls[-1], latest) <= MOST_KEPT
        for connection in [*readers, sleeper]:
            connection.close()
