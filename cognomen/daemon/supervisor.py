"""The tasks of a daemon: started together, ended together; one that ends unasked, or does not get on, is started again and told.

What a task does about failures that it expects is its own business. Every exception is caught only here, in the doors' status.py, and where
a thread must outlive it (the store's writer, a source's follower). That the event loop itself stands still is systemd's to notice
(systemd.run_watchdog): to restart the whole daemon for one task would cost what the others hold in memory.
"""

import asyncio
import contextlib
import secrets
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from prometheus_client import Counter

from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.waiting import telling_cancellations_apart
from svid.backoff import Backoff
from svid.clock import Clock

__all__ = ["Supervisor", "Task", "stop_on_signals"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(initial=timedelta(milliseconds=200), maximum=timedelta(seconds=30))
_HEALTHY_SECONDS = 60.0  # a task that ran that long, and gets on, has recovered
_LOOK_SECONDS = 30.0
_MOST_LOOKS = 4  # at one turn of its work: longer than every deadline in a task


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing that a daemon does for as long as it runs.

    Args:
        pulse: where it says when it is at work.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    pulse: Pulse = field(default_factory=Pulse)


class Supervisor:
    """Keeps the tasks of one daemon running.

    Args:
        restarts: counts by `task`.
    """

    def __init__(self, *, clock: Clock, troubles: Troubles, restarts: Counter) -> None:
        self._clock = clock
        self._troubles = troubles
        self._restarts = restarts
        self._failing: dict[str, str] = {}

    def failing(self) -> Sequence[str]:
        """Say which tasks have failed and not recovered, and why they failed."""
        return [f"task {name}: {why}" for name, why in self._failing.items()]

    async def run(self, tasks: Sequence[Task], *, stop: asyncio.Event) -> None:
        """Run the tasks until `stop` is set, then cancel all of them and wait for their end."""
        async with asyncio.TaskGroup() as group:
            kept = [group.create_task(self._keep(task), name=task.name) for task in tasks]
            await stop.wait()
            for one in kept:
                one.cancel()

    async def _keep(self, task: Task) -> None:
        """Run it; whenever it ends, again."""
        restarts, delays = self._restarts.labels(task.name), _fresh_delays()
        while True:
            started = self._clock.monotonic()
            why = await self._run(task)
            if self._clock.monotonic() - started >= _HEALTHY_SECONDS:
                delays = _fresh_delays()
            delay = next(delays).total_seconds()
            restarts.inc()
            self._failing[task.name] = why
            self._troubles.note(_named(task), why)
            log.error("task ended, starts again", task=task.name, reason=why, delay_seconds=round(delay, 3))
            await self._clock.sleep(delay)

    async def _run(self, task: Task) -> str:
        """Run it until it ends or is stuck; why that is."""
        task.pulse.rest()  # the run before was at work, perhaps
        async with asyncio.TaskGroup() as group:
            running = group.create_task(_outcome(task))
            watching = group.create_task(self._until_stuck(task))
            await asyncio.wait([running, watching], return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
            watching.cancel()
        return watching.result() if running.cancelled() else running.result()

    async def _until_stuck(self, task: Task) -> str:
        """Look at it once in a while, until it is at the same turn of its work for too long.

        Looks are counted, and not time: after a stop of the whole process, or a sleep of the machine, it has its time before it is stuck.
        """
        began, turn, looks = self._clock.monotonic(), task.pulse.turn, 0
        while looks < _MOST_LOOKS:
            await self._clock.sleep(_LOOK_SECONDS)
            before, turn = turn, task.pulse.turn
            looks = looks + 1 if turn is not None and turn == before else 0
            if not looks and self._clock.monotonic() - began >= _HEALTHY_SECONDS:
                self._failing.pop(task.name, None)
                self._troubles.over(_named(task))
        return f"expected to get on, found stuck for {looks * _LOOK_SECONDS:.0f} s"


async def _outcome(task: Task) -> str:
    """Run it to its end; how it ended."""
    try:
        with telling_cancellations_apart():
            await task.run()
    except Exception as e:
        log.exception("task failed", task=task.name)
        return f"internal error: {type(e).__name__}"
    return "ended unasked"


def _named(task: Task) -> str:
    return f"task {task.name}"


def _fresh_delays() -> Iterator[timedelta]:
    return _BACKOFF.delays(secrets.SystemRandom().random)


@contextlib.contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at SIGTERM and SIGINT instead of being killed by them."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
