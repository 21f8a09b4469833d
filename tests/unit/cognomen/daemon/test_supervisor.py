import asyncio
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pytest
import structlog
from structlog.testing import capture_logs

from cognomen.daemon import supervisor
from cognomen.daemon.metrics import Family
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.supervisor import Supervisor, Task, stop_on_signals
from cognomen.daemon.troubles import Troubles
from tests.doubles.clock import FakeClock
from tests.doubles.until import pass_until, until


class Daemon:
    """A supervisor and what it tells."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.troubles = Troubles(self.clock)
        family = Family("test")
        self._registry = family.registry
        restarts = family.counter("task_restarts", "Restarts.", task=())
        self.supervisor = Supervisor(clock=self.clock, troubles=self.troubles, restarts=restarts)

    def restarts(self, task: str) -> float | None:
        return self._registry.get_sample_value("cognomen_test_task_restarts_total", {"task": task})

    def told(self) -> list[tuple[str, str]]:
        return [(one.what, one.reason) for one in self.troubles.all()]

    @asynccontextmanager
    async def running(self, *tasks: Task) -> AsyncIterator[None]:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.supervisor.run(tasks, stop=stop))
            try:
                yield
            finally:
                stop.set()

    async def pass_until(self, condition: Callable[[], bool], *, step: float = 1.0) -> None:
        await pass_until(self.clock, condition, step=step)

    async def pass_seconds(self, seconds: float) -> None:
        end = self.clock.monotonic() + seconds
        await self.pass_until(lambda: self.clock.monotonic() >= end)


@dataclass
class Fails:
    """A task that ends in that way, the first times; then it goes on."""

    end: Callable[[], Awaitable[None]]
    times: int = 1
    starts: int = 0
    pulse: Pulse = field(default_factory=Pulse)

    async def run(self) -> None:
        self.starts += 1
        if self.starts <= self.times:
            await self.end()
            return
        await asyncio.Event().wait()

    def task(self) -> Task:
        return Task(name="one", run=self.run, pulse=self.pulse)


async def returns() -> None:
    pass


async def raises() -> None:
    raise ZeroDivisionError


async def is_cancelled_by_what_it_waits_for() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def never_ends() -> None:
    await asyncio.Event().wait()


ENDS = [
    (returns, "ended unexpectedly"),
    (raises, "internal error: ZeroDivisionError"),
    (is_cancelled_by_what_it_waits_for, "internal error: CancelledByAnotherError"),
]


@pytest.mark.parametrize(("end", "why"), ENDS)
async def test_a_task_that_ends_in_any_way_is_told_and_starts_again(
    end: Callable[[], Awaitable[None]], why: str
) -> None:
    daemon, fails = Daemon(), Fails(end)
    with structlog.testing.capture_logs() as logs:
        async with daemon.running(fails.task()):
            await until(lambda: daemon.told() == [("task one", why)])
            assert fails.starts == 1, "it waits before it starts again"
            assert daemon.supervisor.failing() == [f"task one: {why}"]
            assert daemon.restarts("one") == 1
            await daemon.pass_until(lambda: fails.starts == 2, step=0.1)
    assert [(one["log_level"], one["task"], one["reason"]) for one in logs if "delay_seconds" in one] == [
        ("error", "one", why)
    ]


async def test_a_task_that_ran_well_for_a_minute_is_no_trouble_any_more() -> None:
    daemon, fails = Daemon(), Fails(raises)
    async with daemon.running(fails.task()):
        await daemon.pass_until(lambda: fails.starts == 2)
        await daemon.pass_seconds(50)
        assert daemon.told()
        await daemon.pass_seconds(20)
        assert not daemon.told()
        assert not daemon.supervisor.failing()
    assert daemon.restarts("one") == 1


async def test_a_task_that_keeps_failing_is_tried_at_least_every_half_minute() -> None:
    daemon, fails = Daemon(), Fails(raises, times=1000)
    async with daemon.running(fails.task()):
        await daemon.pass_seconds(300)
        before = fails.starts
        await daemon.pass_seconds(300)
        assert 10 <= fails.starts - before <= 60


async def test_a_task_that_does_not_get_on_with_its_work_is_started_again() -> None:
    daemon, stuck = Daemon(), Fails(never_ends)
    async with daemon.running(stuck.task()):
        await until(lambda: stuck.starts == 1)
        stuck.pulse.work()
        await daemon.pass_seconds(115)
        assert not daemon.told(), "every deadline in it has its time"
        await daemon.pass_until(lambda: stuck.starts == 2)
        assert daemon.told() == [("task one", "stuck for 120 s")]
        assert daemon.restarts("one") == 1
        await daemon.pass_seconds(300)
        assert stuck.starts == 2, "the turn of the run before is not this one's"


async def test_a_task_that_is_always_at_work_and_gets_on_is_left_alone() -> None:
    daemon, busy = Daemon(), Fails(never_ends)
    async with daemon.running(busy.task()):
        for _ in range(20):
            busy.pulse.work()
            await daemon.pass_seconds(30)
        assert (busy.starts, daemon.told()) == (1, [])


async def test_a_task_that_comes_late_because_all_of_us_slept_is_left_alone() -> None:
    daemon, task = Daemon(), Fails(never_ends)
    async with daemon.running(task.task()):
        await until(lambda: task.starts == 1)
        task.pulse.work()
        for _ in range(3):
            daemon.clock.advance(3600)
            for _ in range(20):
                await asyncio.sleep(0)
        assert (task.starts, daemon.told()) == (1, [])


async def test_a_task_at_rest_is_left_alone() -> None:
    daemon, task = Daemon(), Fails(never_ends)
    async with daemon.running(task.task()):
        await daemon.pass_seconds(600)
        assert (task.starts, daemon.told()) == (1, [])


async def test_all_tasks_end_when_asked_to_stop_whatever_they_say_to_it() -> None:
    ended: list[str] = []

    async def ends_well() -> None:
        try:
            await never_ends()
        finally:
            ended.append("well")

    async def ends_badly() -> None:
        try:
            await never_ends()
        finally:
            ended.append("badly")
            raise LookupError

    daemon = Daemon()
    async with daemon.running(Task(name="a", run=ends_well), Task(name="b", run=ends_badly)):
        await until(lambda: daemon.clock.sleepers == 2)
    assert sorted(ended) == ["badly", "well"]


async def test_one_task_that_fails_leaves_the_others_alone() -> None:
    daemon, fails, other = Daemon(), Fails(raises, times=1000), Fails(never_ends)
    async with daemon.running(fails.task(), Task(name="other", run=other.run)):
        await daemon.pass_seconds(300)
    assert other.starts == 1
    assert daemon.restarts("other") == 0


def test_a_pulse_is_woken_only_from_its_rest() -> None:
    pulse = Pulse()
    turns = [pulse.turn]
    for step in (pulse.wake, pulse.wake, pulse.work, pulse.rest):
        step()
        turns.append(pulse.turn)
    assert turns == [None, 1, 1, 2, None]


@contextmanager
def handled_by(handler: Callable[[int, object], None] | signal.Handlers, number: int) -> Iterator[None]:
    """Have this handler in this process for a while, whatever it was started with: nohup ignores SIGHUP, for example."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_asks_to_stop(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "has_terminal", lambda: True)
    stop = asyncio.Event()
    with handled_by(signal.SIG_DFL, number), capture_logs() as logs, stop_on_signals(stop):
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 5)
    assert [(line["event"], line["signal"]) for line in logs] == [("asked to stop", number.name)]


DIES = (
    "import asyncio, os, signal, sys\n"
    "from cognomen.daemon.supervisor import stop_on_signals\n"
    "async def main():\n"
    "    stop = asyncio.Event()\n"
    "    with stop_on_signals(stop):\n"
    "        os.kill(os.getpid(), int(sys.argv[1]))\n"
    "        await stop.wait()\n"
    "    print('not reached')\n"
    "asyncio.run(main())"
)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        *((one, one.name) for one in (signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM, signal.SIGXCPU, signal.SIGPROF)),
        *((one, one.name) for one in (signal.SIGUSR2, signal.SIGVTALRM, signal.SIGIO, signal.SIGPWR, signal.SIGRTMIN)),
        (signal.SIGRTMIN + 3, "SIGRTMIN+3"),
        (signal.SIGRTMAX, "SIGRTMAX"),
    ],
)
def test_any_other_signal_that_kills_is_told_before_it_does(number: int, name: str) -> None:
    command = [
        "env",
        "--default-signal",
        sys.executable,
        "-c",
        DIES,
        str(int(number)),
    ]  # a shell's background ignores some
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == -number
    assert ("killed by a signal" in done.stdout, name in done.stdout, "not reached" in done.stdout) == (
        True,
        True,
        False,
    )


async def test_a_signal_that_something_else_handles_stays_with_it() -> None:
    heard: list[int] = []
    with handled_by(lambda number, _: heard.append(number), signal.SIGUSR1), stop_on_signals(stop := asyncio.Event()):
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: bool(heard))
        assert not stop.is_set()


async def test_a_daemon_without_a_terminal_goes_on_at_sighup_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "has_terminal", lambda: False)
    stop = asyncio.Event()
    with handled_by(signal.SIG_DFL, signal.SIGHUP), capture_logs() as logs, stop_on_signals(stop):
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: bool(logs))
    assert not stop.is_set()
    assert (logs[0]["event"], "restart it" in logs[0]["hint"]) == ("SIGHUP ignored", True)


def test_a_terminal_is_one_that_controls_the_process() -> None:
    program = (
        "import os, sys\n"
        "from cognomen.daemon.supervisor import has_terminal\n"
        "before = has_terminal()\n"
        "os.open(sys.argv[1], os.O_RDWR)\n"  # the first that the leader of a session opens
        "print(before, has_terminal())"
    )
    master, slave = pty.openpty()
    try:
        command = [sys.executable, "-c", program, os.ttyname(slave)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, start_new_session=True)
    finally:
        os.close(master)
        os.close(slave)
    assert done.stdout == "False True\n"


async def test_whoever_was_told_to_outlive_its_terminal_does() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stop_on_signals(stop := asyncio.Event()):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0)
            assert not stop.is_set()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
