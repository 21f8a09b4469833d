"""A store whose files were taken away stops the issuer; one that is damaged is told: on a store that says what the test wants."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from cognomen.daemon.troubles import Troubles
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.flows.watch_store import CheckStore, WatchStore
from tests.doubles.clock import FakeClock
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore
from tests.doubles.until import pass_until, until


@dataclass(kw_only=True)
class House:
    store: RefusingStore
    watch: WatchStore
    check: CheckStore
    clock: FakeClock
    troubles: Troubles
    stops: list[bool] = field(default_factory=list)

    def told(self) -> list[tuple[str, str]]:
        return [(one.what, one.reason) for one in self.troubles.all()]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    opened, clock = await SQLiteDatastore.open(None), FakeClock()
    store, troubles, stops = RefusingStore(opened), Troubles(clock), list[bool]()
    watch = WatchStore(datastore=store, around=around(clock, troubles=troubles), stop=lambda: stops.append(True))
    check = CheckStore(datastore=store, around=around(clock, troubles=troubles))
    yield House(store=store, watch=watch, check=check, clock=clock, troubles=troubles, stops=stops)
    await opened.close()


async def test_files_that_are_gone_stop_the_issuer_once_within_a_second_and_are_its_last_word(house: House) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(house.watch.run())
        await pass_until(house.clock, lambda: house.clock.monotonic() > 5)
        house.watch.check()
        assert house.stops == []
        house.store.gone = "/state/issuer.db was removed"
        await pass_until(house.clock, lambda: bool(house.stops))
        await pass_until(house.clock, lambda: house.clock.monotonic() > 10)
        task.cancel()
    assert house.stops == [True]
    with pytest.raises(Refused, match=r"datastore: /state/issuer.db was removed under the running issuer") as refused:
        house.watch.check()
    assert refused.value.kind is Kind.UNAVAILABLE
    assert "cognomen issuer restore" in refused.value.hint


async def test_files_that_nobody_can_look_at_are_a_trouble_until_somebody_can(house: House) -> None:
    house.store.unreadable = True
    async with asyncio.TaskGroup() as group:
        task = group.create_task(house.watch.run())
        await until(lambda: house.told() == [("files of the datastore", "store: full")])
        house.store.unreadable = False
        await pass_until(house.clock, lambda: not house.told())
        task.cancel()
    assert house.stops == []


async def test_damage_is_a_trouble_until_a_later_check_finds_none(house: House) -> None:
    house.store.damage = "row 1 missing from index x"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(house.check.run())
        await until(lambda: house.told() == [("soundness of the datastore", "damaged: row 1 missing from index x")])
        assert house.check.damage == "row 1 missing from index x"
        house.store.damage = ""
        await pass_until(house.clock, lambda: not house.told(), step=3600)
        task.cancel()
    assert house.check.damage == ""


async def test_a_check_that_fails_says_nothing_of_damage_and_is_done_again(house: House) -> None:
    house.store.unreadable = True
    async with asyncio.TaskGroup() as group:
        task = group.create_task(house.check.run())
        await until(lambda: house.told() == [("soundness of the datastore", "not checked: store: full")])
        assert house.check.damage == ""
        house.store.unreadable = False
        await pass_until(house.clock, lambda: not house.told())
        task.cancel()
