"""Denials on the node's disk: kept as they come, forgotten in time, written anew where something is wrong."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from attestor.deniallog import DenialLog
from attestor.flows.keep_denials import KeepDenials
from attestor.nodeclock import NodeClock
from attestor.state.denialfile import DenialFile
from bench.rig.attestorsurroundings import surroundings
from cognomen.daemon.troubles import Troubles
from cognomen.protocol.feed import Cursor
from svid.denials import KEPT_FOR, Denial
from tests.doubles.clock import FakeClock
from tests.doubles.until import until

HOUR = timedelta(hours=1)
EPOCH = Cursor(incarnation="i", number=1)


class Node:
    """A node's disk and clock, on which the flow is started and ended."""

    def __init__(self, directory: Path) -> None:
        self.own = FakeClock()
        self.clock = NodeClock(self.own)
        self.troubles = Troubles(self.clock)
        self.file = DenialFile(directory)
        self.log = DenialLog()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[KeepDenials]:
        """Start with what is on the disk."""
        self.log = DenialLog(self.file.load())
        flow = KeepDenials(self.log, store=self.file, around=surroundings(self.clock, self.troubles))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(flow.run())
            await self.at_rest(flow)
            yield flow
            task.cancel()

    async def at_rest(self, flow: KeepDenials) -> None:
        """Return when everything that came was seen to."""
        await flow.tried(self.log.place)
        await until(lambda: self.own.sleepers == 1)

    def deny(self, numbers: Iterable[int], *, life: timedelta = HOUR) -> None:
        self.log.put([Denial(number, self.clock.now() + life) for number in numbers], EPOCH)

    def kept(self) -> list[int]:
        return [denial.number for denial in self.file.load()]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "state")


async def test_what_was_denied_is_denied_after_a_restart_too(node: Node) -> None:
    async with node.running() as flow:
        node.deny([1, 2])
        node.deny([3])
        await node.at_rest(flow)
        assert node.kept() == [1, 2, 3]
    async with node.running() as flow:
        assert all(number in node.log for number in (1, 2, 3))
        await node.at_rest(flow)
        node.deny([1, 4])
        await node.at_rest(flow)
        assert node.kept() == [1, 2, 3, 4]


async def test_what_is_over_by_one_clock_alone_is_kept(node: Node) -> None:
    async with node.running() as flow:
        node.clock.hear(node.own.now(), asked_at=0)
        node.deny([1])
        await node.at_rest(flow)
        node.own.jump(3 * HOUR)
        node.own.advance(60)
        await node.at_rest(flow)
        assert 1 in node.log


async def test_what_is_over_is_forgotten_and_the_file_written_anew_once_that_is_most_of_it(node: Node) -> None:
    async with node.running() as flow:
        node.deny(range(10), life=HOUR)
        node.deny(range(100, 108), life=2 * HOUR)
        await node.at_rest(flow)
        size = node.file.path.stat().st_size
        node.own.advance(HOUR + KEPT_FOR + timedelta(seconds=1))
        await until(lambda: node.file.path.stat().st_size < size)
        assert node.kept() == [*range(100, 108)]
        assert len(node.log) == 8


async def test_as_long_as_most_of_it_holds_the_file_only_grows(node: Node) -> None:
    async with node.running() as flow:
        node.deny(range(5), life=HOUR)
        node.deny(range(100, 110), life=2 * HOUR)
        await node.at_rest(flow)
        before = node.file.path.read_bytes()
        node.own.advance(HOUR + KEPT_FOR + timedelta(seconds=1))
        await until(lambda: len(node.log) == 10)
        await node.at_rest(flow)
        assert node.file.path.read_bytes() == before


async def test_a_file_that_somebody_removed_is_there_again_with_all_of_it(node: Node) -> None:
    async with node.running() as flow:
        node.deny([1])
        await node.at_rest(flow)
        node.file.path.unlink()
        node.deny([2])
        await node.at_rest(flow)
        (trouble,) = node.troubles.all()
        assert trouble.what == "denials on disk"
        node.own.advance(10)
        await until(lambda: not node.troubles.all())
        assert node.kept() == [1, 2]


async def test_what_a_crash_left_half_written_is_healed_at_the_start(node: Node) -> None:
    async with node.running() as flow:
        node.deny([1])
        await node.at_rest(flow)
    with node.file.path.open("ab") as file:
        file.write(b"0123 abc")
    async with node.running():
        assert b"0123" not in node.file.path.read_bytes()
        assert node.kept() == [1]
