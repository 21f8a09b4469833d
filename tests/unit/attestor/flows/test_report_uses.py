"""How the issuer is told of uses: twice a minute, again after a failure, and at the end."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from attestor.parts import Flows
from cognomen.gate.caller import Caller, Process
from cognomen.protocol.errors import Kind, Reason, Refused
from tests.doubles.attestorflows import joined_flows, running_flows
from tests.doubles.clock import FakeClock
from tests.doubles.issuerclient import IssuerInMemory
from tests.doubles.until import until
from tests.doubles.workloadside import TRUST_DOMAIN, entry

PROGRAM = os.path.realpath(sys.executable)
WEB = entry("web", f"unix:uid:{os.getuid()}")


class World:
    """An issuer in memory, an attestor of it, and this process as its workload."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.issuer = IssuerInMemory(self.clock, TRUST_DOMAIN)
        self.caller = Caller(
            pid=os.getpid(),
            uid=os.getuid(),
            gid=os.getgid(),
            groups=frozenset(),
            process=Process(os.pidfd_open(os.getpid())),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Flows]:
        async with running_flows(self.issuer, self.clock) as flows:
            yield flows

    def use(self, flows: Flows) -> None:
        flows.uses.note(self.caller, [WEB], x509=True)

    async def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1)
            for _ in range(20):
                await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.caller.process.close()


async def test_the_first_use_is_reported_within_seconds_with_its_program(world: World) -> None:
    async with world.running() as flows:
        world.use(flows)
        await until(lambda: not flows.uses.is_new.is_set())
        assert world.issuer.uses == []
        await world.pass_time(2)
        ((use,),) = world.issuer.uses
        assert (use.pid, use.executable) == (os.getpid(), PROGRAM)
        assert use.started > 0
        await world.pass_time(60)
        assert len(world.issuer.uses) == 1  # nothing is new


@pytest.mark.parametrize("seconds", [16, 20, 25, 31, 40])
async def test_after_a_quiet_quarter_of_a_minute_a_new_process_is_reported_within_seconds(
    world: World, seconds: int
) -> None:
    async with world.running() as flows:
        await world.pass_time(seconds)
        world.use(flows)
        await until(lambda: not flows.uses.is_new.is_set())
        await world.pass_time(2)
        assert len(world.issuer.uses) == 1


async def test_further_uses_are_reported_together_within_half_a_minute(world: World) -> None:
    async with world.running() as flows:
        world.use(flows)
        await world.pass_time(2)
        flows.uses.note(world.caller, [WEB, entry("db", "unix:uid:1")], jwt=True)
        await world.pass_time(10)
        flows.uses.note(world.caller, [WEB], jwt=True)
        assert [len(report) for report in world.issuer.uses] == [1]
        await world.pass_time(8)
        assert [len(report) for report in world.issuer.uses] == [1, 2]
        flows.uses.note(world.caller, [WEB], jwt=True)
        await world.pass_time(31)
        assert [len(report) for report in world.issuer.uses] == [1, 2, 1]


async def test_while_the_issuer_is_away_uses_wait_and_it_is_a_trouble(world: World) -> None:
    async with world.running() as flows:
        world.issuer.set_reachable(reachable=False)
        world.use(flows)
        await world.pass_time(40)
        assert "uses of identities" in {one.what for one in flows.around.troubles.all()}
        world.issuer.set_reachable(reachable=True)
        await world.pass_time(31)
        assert len(world.issuer.uses) == 1
        assert "uses of identities" not in {one.what for one in flows.around.troubles.all()}


async def test_an_issuer_that_came_back_from_a_backup_is_told_again(world: World) -> None:
    async with world.running() as flows:
        await until(lambda: flows.cache.synchronised)
        world.use(flows)
        await world.pass_time(2)
        world.issuer.restore()
        await until(lambda: flows.cache.cursor is not None and flows.cache.cursor.incarnation == "2")
        await world.pass_time(31)
        assert [len(report) for report in world.issuer.uses] == [1, 1]


async def test_an_issuer_of_an_earlier_release_is_named_once_and_asked_again_later(world: World) -> None:
    world.issuer.takes_uses = False
    with capture_logs() as lines:
        async with world.running() as flows:
            world.use(flows)
            await world.pass_time(100)
            assert [line["event"] for line in lines if "uses" in line["event"]] == ["uses not taken"]
            assert flows.around.troubles.all() == []
            world.issuer.takes_uses = True
            await world.pass_time(31)
            assert len(world.issuer.uses) == 1


async def test_the_last_uses_are_reported_at_the_end_without_waiting(world: World) -> None:
    flows = await joined_flows(world.issuer, world.clock)
    world.use(flows)
    await flows.reports.finish()
    ((use,),) = world.issuer.uses
    assert use.executable == PROGRAM


async def test_an_end_without_an_issuer_is_not_delayed(world: World) -> None:
    flows = await joined_flows(world.issuer, world.clock)
    world.use(flows)
    world.issuer.set_reachable(reachable=False)
    with capture_logs() as lines:
        await flows.reports.finish()
    assert [(line["event"], line["count"]) for line in lines] == [("last uses not reported", 1)]


async def test_a_last_report_that_the_issuer_refuses_is_logged_with_its_reason(world: World) -> None:
    flows = await joined_flows(world.issuer, world.clock)
    world.use(flows)
    world.issuer.refused_node = Refused(Kind.DENIED, "node: banned").because(Reason.BANNED)
    with capture_logs() as lines:
        await flows.reports.finish()
    assert [(line["event"], line["reason"]) for line in lines] == [("last uses not reported", "node: banned")]


async def test_rows_that_are_lost_are_logged(world: World) -> None:
    flows = await joined_flows(world.issuer, world.clock)
    flows.uses.lost = 3
    with capture_logs() as lines:
        await flows.reports()
        await flows.reports()
    assert [(line["event"], line["count"]) for line in lines] == [("uses lost", 3)]


def ages(world: World) -> tuple[float, float]:
    """How many seconds before it was told the time began and ended of which the issuer has every use."""
    assert world.issuer.reported is not None
    return world.issuer.reported.since.total_seconds(), world.issuer.reported.until.total_seconds()


async def test_a_node_that_uses_nothing_says_so_with_its_acknowledgements(world: World) -> None:
    async with world.running():
        await world.pass_time(100)
        since, until_ = ages(world)
        assert since > 80
        assert until_ < 46
        assert world.issuer.uses == []


async def test_what_the_issuer_could_not_store_is_not_reported(world: World) -> None:
    async with world.running() as flows:
        await world.pass_time(40)
        world.issuer.refuses_uses = True
        world.use(flows)
        await world.pass_time(300)
        assert ages(world)[1] > 290
        assert world.issuer.uses == []
        world.issuer.refuses_uses = False
        await world.pass_time(50)
        assert ages(world)[0] > 350
        assert ages(world)[1] < 46
        assert len(world.issuer.uses) == 1


async def test_an_issuer_that_takes_no_reports_is_not_told_that_it_has_them(world: World) -> None:
    world.issuer.takes_uses = False
    async with world.running() as flows:
        world.use(flows)
        await world.pass_time(300)
        assert ages(world)[1] > 280


async def test_the_last_report_says_that_it_is_the_last(world: World) -> None:
    flows = await joined_flows(world.issuer, world.clock)
    world.clock.advance(70)
    await flows.reports.finish()
    assert world.issuer.last is not None
    assert (world.issuer.last.since.total_seconds(), world.issuer.last.until.total_seconds()) == (70, 0)
    assert world.issuer.uses == []
