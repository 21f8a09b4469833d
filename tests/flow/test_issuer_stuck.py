"""The issuer's tasks while its disk does not answer: told, and all is as before once it does."""

import asyncio
import threading
from datetime import timedelta
from functools import partial

from cognomen.daemon.supervisor import Supervisor, Task
from cognomen.daemon.troubles import Troubles
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Transaction
from issuer.datastore.sqlite import SQLiteDatastore
from issuer.flows.prune import Prune
from issuer.keepers.clock_guard import ClockGuard
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.keepers.refusal_record import RefusalRecord
from issuer.metrics import Metrics
from tests.doubles.clock import FakeClock
from tests.doubles.issuer_values import a_node
from tests.doubles.issuersurroundings import around
from tests.doubles.until import pass_until


async def test_a_store_that_does_not_answer_is_told_and_loses_no_write_that_waits() -> None:
    clock, metrics, answers = FakeClock(), Metrics(), threading.Event()
    store, troubles = await SQLiteDatastore.open(None), Troubles(clock)
    deferred = DeferredWrites(datastore=store, around=around(clock, troubles=troubles, metrics=metrics))
    guard = ClockGuard(datastore=store, around=around(clock))
    refusals = RefusalRecord(datastore=store, around=around(clock, metrics=metrics))
    prune = Prune(
        datastore=store,
        around=around(clock, troubles=troubles),
        guard=guard,
        refusals=refusals,
        uses_kept=timedelta(days=90),
    )
    tasks = [
        Task(name="deferred writes", run=deferred.run, pulse=deferred.pulse),
        Task(name="pruning", run=prune.run, pulse=prune.pulse),
    ]
    supervisor, stop = Supervisor(clock=clock, troubles=troubles, restarts=metrics.task_restarts), asyncio.Event()

    async def is_written() -> bool:
        return await store.read(lambda tx: tx.nodes.get(NodeID("n1"))) is not None

    async with asyncio.TaskGroup() as group:
        group.create_task(supervisor.run(tasks, stop=stop))
        stuck = group.create_task(store.write(partial(_wait, answers)))
        deferred.put(lambda tx: tx.nodes.put(a_node()))
        await pass_until(clock, lambda: len(supervisor.failing()) == 2)
        assert {one.what for one in troubles.all()} == {"task deferred writes", "task pruning"}
        answers.set()
        await stuck
        await pass_until(clock, lambda: not supervisor.failing())
        assert await is_written()
        stop.set()
    await store.close()


def _wait(answers: threading.Event, tx: Transaction) -> None:
    answers.wait(20)
    tx.changes.head()
