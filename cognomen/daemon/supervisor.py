"""The tasks of a daemon: they start and end together; a task that ends unexpectedly or is stuck is restarted and reported.

A task handles the failures that it expects. Every exception is caught only here, in the doors' status.py, and where a thread must outlive
it (the store's writer, a source's follower). If the event loop is stuck, systemd notices it (systemd.run_watchdog). We do not restart the
whole daemon for one task, because that would lose what the others hold in memory.
"""

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import structlog
from prometheus_client import Counter

from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from cognomen.process.exceptions import telling_cancellations_apart
from svid.backoff import Backoff
from svid.clock import Clock

__all__ = ["Supervisor", "Task", "has_terminal", "stop_on_signals"]

log = structlog.get_logger(__name__)

_BACKOFF = Backoff(initial=timedelta(milliseconds=200), maximum=timedelta(seconds=30))
_HEALTHY_SECONDS = 60.0  # a task that ran that long, and makes progress, has recovered
_LOOK_SECONDS = 30.0
_FIRST = 1
_LEFT_ALONE = frozenset(
    {
        *(signal.SIGKILL, signal.SIGSTOP),  # nobody can handle them
        *(
            signal.SIGTSTP,
            signal.SIGTTIN,
            signal.SIGTTOU,
            signal.SIGCONT,
        ),  # they stop it and let it go on, as a shell does
        *(signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH),  # they end nothing
        *(
            signal.SIGABRT,
            signal.SIGBUS,
            signal.SIGFPE,
            signal.SIGILL,
            signal.SIGSEGV,
            signal.SIGSYS,
            signal.SIGTRAP,
        ),  # a crash
    }
)
_MOST_LOOKS = 4  # at the same step of its work; together longer than every deadline in a task


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing that a daemon does for as long as it runs.

    Args:
        pulse: where it reports that it is at work.
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
        """The tasks that have failed and not recovered, and why they failed."""
        return [f"task {name}: {why}" for name, why in self._failing.items()]

    async def run(self, tasks: Sequence[Task], *, stop: asyncio.Event) -> None:
        """Run the tasks until `stop` is set, then cancel all of them and wait for their end."""
        async with asyncio.TaskGroup() as group:
            kept = [group.create_task(self._keep(task), name=task.name) for task in tasks]
            await stop.wait()
            for one in kept:
                one.cancel()

    async def _keep(self, task: Task) -> None:
        """Run it; whenever it ends, run it again."""
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
            log.error("task ended, restarting", task=task.name, reason=why, delay_seconds=round(delay, 3))
            await self._clock.sleep(delay)

    async def _run(self, task: Task) -> str:
        """Run it until it ends or is stuck; returns the reason."""
        task.pulse.rest()  # the last run may have been at work
        async with asyncio.TaskGroup() as group:
            running = group.create_task(_outcome(task))
            watching = group.create_task(self._until_stuck(task))
            await asyncio.wait([running, watching], return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
            watching.cancel()
        return watching.result() if running.cancelled() else running.result()

    async def _until_stuck(self, task: Task) -> str:
        """Check it now and then, until it is at the same step of its work for too long.

        We count checks rather than time, so that a task gets its full time after the process was stopped or the machine slept.
        """
        began, turn, looks = self._clock.monotonic(), task.pulse.turn, 0
        while looks < _MOST_LOOKS:
            await self._clock.sleep(_LOOK_SECONDS)
            before, turn = turn, task.pulse.turn
            looks = looks + 1 if turn is not None and turn == before else 0
            if not looks and self._clock.monotonic() - began >= _HEALTHY_SECONDS:
                self._failing.pop(task.name, None)
                self._troubles.over(_named(task))
        return f"stuck for {looks * _LOOK_SECONDS:.0f} s"


async def _outcome(task: Task) -> str:
    """Run it until it ends; returns how it ended."""
    try:
        with telling_cancellations_apart():
            await task.run()
    except Exception as e:
        log.exception("task failed", task=task.name)
        return f"internal error: {type(e).__name__}"
    return "ended unexpectedly"


def _named(task: Task) -> str:
    return f"task {task.name}"


def _fresh_delays() -> Iterator[timedelta]:
    return _BACKOFF.delays(secrets.SystemRandom().random)


@contextlib.contextmanager
def stop_on_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at SIGTERM and SIGINT instead of being killed.

    So does any other signal that would kill us, such as SIGQUIT, SIGUSR1 or SIGXCPU; after the block it does kill us, so that our parent
    sees the cause. Left alone are those of a crash, those that something else handles or ignores, and, in the first process of a container,
    those that the kernel ignores for it.

    SIGHUP stops a daemon only if it was started from a terminal, which then has gone away. Otherwise it is a request to read the
    configuration again, which we do not: it is logged and ignored. Where it is ignored already, as under nohup, it stays ignored.
    """
    loop = asyncio.get_running_loop()
    signals: dict[int, Callable[[], None]] = {
        signal.SIGTERM: partial(_stop, stop, signal.SIGTERM),
        signal.SIGINT: partial(_stop, stop, signal.SIGINT),
    }
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals[signal.SIGHUP] = partial(_stop, stop, signal.SIGHUP) if has_terminal() else _refuse_to_reload
    killed_by: list[int] = []
    handlers: dict[int, Callable[[], None]] = {
        **{number: partial(_stop_and_die, stop, number, killed_by) for number in _deadly()},
        **signals,
    }
    for number, handle in handlers.items():
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
    if killed_by:
        signal.raise_signal(killed_by[0])


def has_terminal() -> bool:
    """Whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _stop(stop: asyncio.Event, number: signal.Signals) -> None:
    log.info("asked to stop", signal=number.name)
    stop.set()


def _deadly() -> Iterator[int]:
    """The signals that would kill this process without a word."""
    for number in signal.valid_signals() - _LEFT_ALONE:
        # SIGQUIT ends the first process of a container: cognomen/cli/signals
        if number == signal.SIGQUIT:
            is_deadly = signal.getsignal(number) is not signal.SIG_IGN
        else:
            is_deadly = signal.getsignal(number) is signal.SIG_DFL and os.getpid() != _FIRST
        if is_deadly:
            yield number


def _stop_and_die(stop: asyncio.Event, number: int, killed_by: list[int]) -> None:
    log.error("killed by a signal, stopping in order first", signal=_name(number))
    killed_by.append(number)
    stop.set()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name of their own
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def _refuse_to_reload() -> None:
    log.warning(
        "SIGHUP ignored", hint="nothing is read again while a daemon runs: restart it to apply a changed configuration"
    )
