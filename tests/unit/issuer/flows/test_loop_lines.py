"""What the issuer's loops write to the log while their store is away: a line a minute of each, and one when it is over."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from cognomen.daemon.troubles import Troubles
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.flows.prune import Prune
from issuer.flows.publish_crl import PublishCRLs
from issuer.flows.rotate_authority import RotateAuthority
from issuer.flows.supersede import EndSuperseded
from issuer.flows.watch_store import WatchStore
from issuer.flows.write_checkpoints import WriteCheckpoints
from issuer.keepers.authority_outlook import AuthorityOutlook, RotationPolicy
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.refusal_record import RefusalRecord
from issuer.keymanager.memory import MemoryKeyManager
from issuer.metrics import Metrics
from tests.doubles.clock import FakeClock
from tests.doubles.issuances import issuance
from tests.doubles.issuer_values import NOW, TRUST_DOMAIN
from tests.doubles.issuersurroundings import around
from tests.doubles.refusingstore import RefusingStore
from tests.doubles.until import pass_until

MINUTES = 3
FAULTS = {
    "authorities not brought forward": "authorities brought forward again",
    "not pruned": "pruned again",
    "crl not signed": "crls signed again",
    "superseded credentials not ended": "superseded credentials ended again",
    "files of the datastore not checked": "files of the datastore checked again",
    "no checkpoint": "checkpoints signed again",
}


@dataclass
class House:
    """The loops of an issuer, on a store that can be away."""

    store: RefusingStore
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))

    def __post_init__(self) -> None:
        self.troubles, self.metrics = Troubles(self.clock), Metrics()

    def runs(self) -> list[Callable[[], Awaitable[None]]]:
        store, keys = self.store, MemoryKeyManager()
        parts = around(self.clock, troubles=self.troubles, metrics=self.metrics)
        guard = ClockGuard(datastore=store, around=parts)
        watch = EnforcementWatch(around=parts)
        signing = issuance(store, self.clock, keys)
        outlook = AuthorityOutlook(
            datastore=store,
            around=parts,
            guard=guard,
            policy=RotationPolicy(lifetime=timedelta(days=14), spread=timedelta(minutes=10)),
            watch=watch,
        )
        rotate = RotateAuthority(
            datastore=store, issuance=signing, keys=keys, around=parts, trust_domain=TRUST_DOMAIN, outlook=outlook
        )
        refusals = RefusalRecord(datastore=store, around=parts)
        prune = Prune(datastore=store, around=parts, guard=guard, refusals=refusals, uses_kept=timedelta(days=90))
        publish = PublishCRLs(datastore=store, issuance=signing, around=parts, watch=watch)
        supersede = EndSuperseded(datastore=store, around=parts, watch=watch)
        files = WatchStore(datastore=store, around=parts, stop=lambda: None)
        checkpoints = WriteCheckpoints(
            datastore=store,
            keys=keys,
            sinks=(),
            around=parts,
            trust_domain=TRUST_DOMAIN,
            every=timedelta(minutes=1),
        )
        return [flow.run for flow in (rotate, prune, publish, supersede, files, checkpoints)]

    async def pass_time(self, by: timedelta) -> None:
        end = self.clock.monotonic() + by.total_seconds()
        await pass_until(self.clock, lambda: self.clock.monotonic() >= end)

    def set_away(self, *, away: bool) -> None:
        self.store.refuses = self.store.unreadable = away


@pytest.fixture
async def house() -> AsyncIterator[House]:
    opened = await SQLiteDatastore.open(None)
    yield House(RefusingStore(opened))
    await opened.close()


async def run(loop: Callable[[], Awaitable[None]]) -> None:
    await loop()


async def test_a_store_that_is_away_is_a_line_a_minute_of_each_loop_and_one_when_it_is_over(house: House) -> None:
    house.set_away(away=True)
    with capture_logs() as lines:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(loop)) for loop in house.runs()]
            await house.pass_time(timedelta(minutes=MINUTES))
            during = Counter(line["event"] for line in lines)
            failing = {one.what for one in house.troubles.all()}
            house.set_away(away=False)
            await pass_until(house.clock, lambda: not house.troubles.all())
            for task in tasks:
                task.cancel()
    assert len(failing) == len(FAULTS)
    for event, over in FAULTS.items():
        assert 1 <= during[event] <= MINUTES + 1, event
        assert sum(line["event"] == over for line in lines) == 1, over
