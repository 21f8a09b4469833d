"""What was acknowledged survives kill -9 at any instant; the writer runs in a process of its own."""

import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from cognomen.protocol.auditlog import broken_link
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.filters import EntryFilter
from tests.doubles.project import ROOT

WRITER = """
import asyncio, sys
from pathlib import Path
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from tests.doubles.issuer_values import NOW, an_entry

def work(tx):
    number = tx.changes.append([Change(kind=ChangeKind.BUNDLE)])
    tx.entries.insert([an_entry(f"/w/{number}", entry_id=f"e{number}")])
    tx.audit.append([AuditEvent(at=NOW, actor="uid:0", action="entry created", subject=f"e{number}")])
    return number

async def main():
    store = await SQLiteDatastore.open(Path(sys.argv[1]))
    async def write():
        while True:
            print(await store.write(work), flush=True)
    await asyncio.gather(*(write() for _ in range(4)))

asyncio.run(main())
"""


async def write_then_kill(path: Path, lines: int) -> int:
    """Let a process write until it has acknowledged so many works, and kill it; the highest number that it acknowledged."""
    process = await create_subprocess_exec(sys.executable, "-c", WRITER, str(path), stdout=PIPE, cwd=ROOT)
    assert process.stdout is not None
    acknowledged = [int(await process.stdout.readline()) for _ in range(lines)]
    process.kill()
    rest, _ = await process.communicate()
    return max(acknowledged + [int(line) for line in rest.split(b"\n")[:-1]])


@pytest.mark.parametrize("lines", [1, 7, 60])
async def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, lines: int) -> None:
    path = tmp_path / "state" / "issuer.db"
    for _ in range(2):
        acknowledged = await write_then_kill(path, lines)
        store = await SQLiteDatastore.open(path)
        head = (await store.read(lambda tx: tx.changes.head())).number
        rows = await store.read(lambda tx: tx.audit.rows(after=0, limit=100_000))
        entries = await store.read(lambda tx: tx.entries.find(EntryFilter(), after="", limit=100_000))
        await store.close()
        assert head >= acknowledged
        assert len(rows) == len(entries) == head  # whole works only
        assert broken_link(rows) is None
