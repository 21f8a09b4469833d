"""issuer/flows/watch_breakers: what breakers do is on record, within bounds, and a burst suspends where the rulebook says so."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.limits import LimitedScope
from cognomen.rulebook.tables import LimitsMode, OnBurst
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.decisions.breaker import CLOSED, tripped
from issuer.decisions.limits import BreakerStep, Limit
from issuer.flows.watch_breakers import WatchBreakers
from issuer.keepers.issuance_limits import IssuanceLimits
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore


class Steps(IssuanceLimits):
    """Limits whose breakers did what the test says."""

    given: list[BreakerStep]

    def take_steps(self) -> list[BreakerStep]:
        steps, self.given = self.given, []
        return steps


@dataclass(kw_only=True)
class Agents:
    """What suspends agents, or refuses to."""

    suspended: list[str] = field(default_factory=list)
    refuses: Refused | None = None

    async def suspend(self, name: str, /, *, actor: str) -> None:
        assert actor == "issuer"
        if self.refuses is not None:
            raise self.refuses
        self.suspended.append(name)


@dataclass(frozen=True, kw_only=True)
class House:
    clock: FakeClock
    store: RefusingStore
    limits: Steps
    watch: WatchBreakers
    agents: Agents

    def trip(self, agent: str = "concierge", *, mode: LimitsMode = LimitsMode.ENFORCE) -> None:
        scope = LimitedScope(
            path=f"/agent/{agent}/crm", most={"jwt_per_minute": 10}, mode=mode, on_burst=OnBurst.SUSPEND
        )
        step = BreakerStep(
            scope=scope, limit=Limit.JWT_PER_MINUTE, breaker=tripped(CLOSED, first=30, now=0), at=self.clock.now()
        )
        self.limits.given.append(step)

    async def rows(self) -> list[str]:
        return [row.body.decode() for row in await self.store.read(lambda tx: tx.audit.rows(after=0, limit=10_000))]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    clock = FakeClock(NOW)
    own, store = around(clock), RefusingStore(await SQLiteDatastore.open(None))
    limits = Steps(around=own, breaker_open=timedelta(seconds=30), grace=timedelta(days=5))
    limits.given = []

    agents = Agents()
    watch = WatchBreakers(datastore=store, around=own, limits=limits, suspend=agents.suspend, trust_domain=TRUST_DOMAIN)
    yield House(clock=clock, store=store, limits=limits, watch=watch, agents=agents)
    await store.close()


async def test_only_so_many_rows_are_written_and_the_next_says_how_many_were_left_out(house: House) -> None:
    for number in range(1000):
        house.trip(f"a{number}", mode=LimitsMode.COUNT)
    await house.watch()
    assert len(await house.rows()) == 100
    house.clock.advance(1)
    house.trip(mode=LimitsMode.COUNT)
    await house.watch()
    *_, last = await house.rows()
    assert '"unrecorded before":"900"' in last


async def test_what_the_store_does_not_take_is_written_later_and_once(house: House) -> None:
    house.trip(mode=LimitsMode.COUNT)
    house.store.is_full = True
    with pytest.raises(Refused):
        await house.watch()
    house.store.is_full = False
    await house.watch()
    await house.watch()
    assert len(await house.rows()) == 1


async def test_an_agent_that_could_not_be_suspended_is_suspended_later(house: House) -> None:
    house.trip()
    house.agents.refuses = Refused(Kind.UNAVAILABLE, "store: full")
    with pytest.raises(Refused):
        await house.watch()
    house.agents.refuses = None
    await house.watch()
    await house.watch()
    assert house.agents.suspended == ["concierge"]


async def test_an_agent_that_is_gone_by_then_holds_up_nothing(house: House) -> None:
    house.trip()
    house.agents.refuses = Refused(Kind.NOT_FOUND, "agent: none of the rulebook in force is called 'concierge'")
    await house.watch()
    assert len(await house.rows()) == 1
    house.agents.refuses = None
    await house.watch()
    assert house.agents.suspended == []


async def test_bursts_of_several_components_suspend_their_agent_once_and_counting_suspends_nobody(house: House) -> None:
    for mode in (LimitsMode.COUNT, LimitsMode.ENFORCE, LimitsMode.ENFORCE):
        house.trip("counted" if mode is LimitsMode.COUNT else "concierge", mode=mode)
    await house.watch()
    assert house.agents.suspended == ["concierge"]
