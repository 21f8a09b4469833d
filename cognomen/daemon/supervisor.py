"""The tasks of a daemon: started together, ended together, one that fails by surprise logged and started again, or the end of all.

What a task does about failures that it expects is its own business. Together with the doors' status.py this is the only place that catches
every exception.
"""

import asyncio
import contextlib
import secrets
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from svid.backoff import Backoff
from svid.clock import Clock

__all__ = ["Task", "stop_on_signals", "supervise"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(initial=timedelta(milliseconds=200), maximum=timedelta(seconds=30))
_HEALTHY_SECONDS = 60.0  # a task that ran that long starts again with the first delay


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing that a daemon does for as long as it runs; with `restart` it is started again when it fails, else the daemon ends."""

    name: str
    run: Callable[[], Awaitable[None]]
    restart: bool = False


async def supervise(tasks: Sequence[Task], *, stop: asyncio.Event, clock: Clock) -> None:
    """Run the tasks until `stop` is set or one without `restart` fails, then cancel all of them and wait for their end.

    Raises:
        Exception: the failure of the first task without `restart` that failed.
    """
    failures: list[Exception] = []

    async def attend(task: Task) -> None:
        try:
            await (_restarted(task, clock) if task.restart else task.run())
        except Exception as e:
            if failures:
                log.exception("task failed", task=task.name)
            failures.append(e)
            stopped.cancel()

    async with asyncio.TaskGroup() as group:
        stopped = group.create_task(stop.wait())
        running = [group.create_task(attend(task), name=task.name) for task in tasks]
        await asyncio.wait([stopped])
        for one in running:
            one.cancel()
    if failures:
        raise failures[0]


async def _restarted(task: Task, clock: Clock) -> None:
    delays = _BACKOFF.delays(secrets.SystemRandom().random)
    while True:
        started = clock.monotonic()
        try:
            return await task.run()
        except Exception:
            if clock.monotonic() - started >= _HEALTHY_SECONDS:
                delays = _BACKOFF.delays(secrets.SystemRandom().random)
            delay = next(delays).total_seconds()
            log.exception("task failed, starts again", task=task.name, delay_seconds=round(delay, 3))
        await clock.sleep(delay)


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
