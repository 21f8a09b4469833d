"""A loop that tries again: what is told of a failure, how long it rests, and what wakes it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import structlog
from prometheus_client import CollectorRegistry, Counter
from structlog.testing import capture_logs

from cognomen.daemon.attempts import Attempts, Failure
from cognomen.daemon.pulse import Pulse
from cognomen.daemon.troubles import Troubles
from cognomen.daemon.waiting import LONGEST_SECONDS
from cognomen.protocol.errors import Kind, Refused
from svid.backoff import Backoff
from tests.doubles.clock import FakeClock
from tests.doubles.until import until

MINUTE = timedelta(minutes=1)
GROWING = Backoff(initial=timedelta(seconds=1), maximum=timedelta(seconds=4))
PATIENT = Backoff(initial=timedelta(seconds=8), maximum=timedelta(seconds=8))
DOWN = Refused(Kind.UNAVAILABLE, "store: down", hint="start it")


@dataclass
class Loop:
    """A loop whose attempts the test makes."""

    failure: Failure | Callable[[Refused], Failure] = field(
        default_factory=lambda: Failure(event="not pruned", again=GROWING)
    )
    is_woken_early: bool = False
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.pulse, self.troubles = Pulse(), Troubles(self.clock)
        self.failures = Counter("failures", "Failures.", registry=CollectorRegistry())
        self.woken = asyncio.Event()
        self.attempts = Attempts(
            structlog.get_logger(),
            self.clock,
            pulse=self.pulse,
            troubles=self.troubles,
            trouble="pruning",
            over="pruned again",
            failure=self.failure,
            failures=self.failures,
            is_woken_early=self.is_woken_early,
        )

    def fail(self, refused: Refused = DOWN) -> None:
        with self.attempts.trying(rows=1):
            raise refused

    def succeed(self) -> None:
        with self.attempts.trying():
            pass

    async def rests(self) -> float:
        """Rest once; how many seconds."""
        began, resting = self.clock.monotonic(), asyncio.create_task(self.rest())
        await self.settle()
        while not resting.done():
            self.clock.advance(0.5)
            await self.settle()
        return self.clock.monotonic() - began

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def rest(self) -> None:
        await self.attempts.rest(self.woken.wait, after=MINUTE)


def test_a_failure_is_a_trouble_until_an_attempt_goes_well() -> None:
    loop = Loop()
    loop.fail()
    assert [(one.what, one.reason) for one in loop.troubles.all()] == [("pruning", "store: down")]
    loop.succeed()
    assert not loop.troubles.all()


def test_a_loop_fails_until_an_attempt_goes_well() -> None:
    loop, found = Loop(), []
    for attempt in (loop.fail, loop.succeed, loop.fail, loop.attempts.unneeded):
        attempt()
        found.append(loop.attempts.is_failing)
    assert found == [True, False, True, False]


def test_failures_are_counted() -> None:
    loop = Loop()
    loop.fail()
    loop.succeed()
    loop.fail()
    (found,) = loop.failures.collect()
    assert found.samples[0].value == 2.0


def test_a_loop_that_counts_nothing_only_tells() -> None:
    clock = FakeClock()
    troubles = Troubles(clock)
    attempts = Attempts(
        structlog.get_logger(),
        clock,
        pulse=Pulse(),
        troubles=troubles,
        trouble="pruning",
        over="pruned again",
        failure=Failure(event="not pruned", again=MINUTE),
    )
    attempts.failed(DOWN)
    assert [one.what for one in troubles.all()] == ["pruning"]


def test_a_reason_is_logged_at_once_and_then_once_a_minute_with_a_count_until_it_is_over() -> None:
    loop = Loop()
    with capture_logs() as logs:
        for _ in range(3):
            loop.fail()
        loop.clock.advance(60)
        loop.fail()
        loop.succeed()
        loop.succeed()
    line = {"event": "not pruned", "log_level": "warning", "reason": "store: down", "hint": "start it", "rows": 1}
    assert logs == [
        {**line, "left_out": 0, "delay_seconds": 1.0},
        {**line, "left_out": 2, "delay_seconds": 4.0},
        {"event": "pruned again", "log_level": "info", "failures": 4},
    ]


def test_another_exception_is_nothing_to_try_again() -> None:
    loop = Loop()
    with pytest.raises(KeyError), loop.attempts.trying():
        raise KeyError
    assert not loop.troubles.all()


async def test_delays_grow_and_begin_anew_after_a_success() -> None:
    loop, found = Loop(), []
    for _ in range(4):
        loop.fail()
        found.append(await loop.rests())
    loop.succeed()
    found.append(await loop.rests())
    loop.fail()
    found.append(await loop.rests())
    assert found == [1, 2, 4, 4, 60, 1]


async def test_a_delay_may_be_always_the_same() -> None:
    loop = Loop(Failure(event="not pruned", again=timedelta(seconds=5)))
    for _ in range(2):
        loop.fail()
        assert await loop.rests() == 5


async def test_a_delay_is_no_longer_than_a_loop_can_wait() -> None:
    loop = Loop(Failure(event="not pruned", again=PATIENT, at_most=timedelta(seconds=3)))
    loop.fail()
    assert await loop.rests() == 3


async def test_each_refusal_is_taken_as_the_loop_says_and_has_delays_of_its_own() -> None:
    def taken(refused: Refused) -> Failure:
        if refused.kind is Kind.DENIED:
            return Failure(event="sent away", again=PATIENT, is_error=True, hint="invite it")
        return Failure(event="not pruned", again=GROWING, hint=refused.hint)

    loop, found = Loop(taken), []
    with capture_logs() as logs:
        for refused in (DOWN, Refused(Kind.DENIED, "node: gone"), DOWN):
            loop.fail(refused)
            found.append(await loop.rests())
    assert found == [1, 8, 2]
    assert [(one["event"], one["log_level"], one["hint"]) for one in logs] == [
        ("not pruned", "warning", "start it"),
        ("sent away", "error", "invite it"),
    ]
    assert [one.reason for one in loop.troubles.all()] == ["store: down: start it"]


async def test_a_rest_ends_when_the_loop_is_woken_but_a_delay_does_not() -> None:
    loop = Loop()
    loop.woken.set()
    loop.succeed()
    assert await loop.rests() == 0
    loop.fail()
    assert await loop.rests() == 1


async def test_what_wakes_a_loop_ends_a_delay_where_the_loop_says_so() -> None:
    loop = Loop(is_woken_early=True)
    loop.woken.set()
    loop.fail()
    assert await loop.rests() == 0


async def test_the_pulse_works_until_the_loop_rests() -> None:
    loop = Loop()
    with loop.attempts.trying():
        assert loop.pulse.turn is not None
    assert loop.pulse.turn is not None
    await loop.attempts.rest()
    assert loop.pulse.turn is None


async def test_what_somebody_else_has_told_of_is_only_put_off() -> None:
    loop, found = Loop(), []
    for _ in range(2):
        loop.attempts.put_off(GROWING)
        found.append(await loop.rests())
    assert found == [1, 2]
    assert not loop.troubles.all()


async def test_what_works_but_may_not_last_lets_delays_grow_on() -> None:
    loop, found = Loop(), []
    for _ in range(2):
        loop.fail()
        loop.attempts.well()
        loop.attempts.put_off(GROWING)
        found.append(await loop.rests())
    loop.attempts.begin_anew()
    loop.attempts.put_off(GROWING)
    found.append(await loop.rests())
    assert found == [2, 4, 1]


def test_what_is_not_wanted_any_more_is_no_trouble_and_no_success() -> None:
    loop = Loop()
    with capture_logs() as logs:
        loop.fail()
        loop.attempts.unneeded()
    assert not loop.troubles.all()
    assert [one["event"] for one in logs] == ["not pruned"]


async def test_a_loop_looks_again_within_30_s_after_the_machine_slept() -> None:
    loop = Loop()
    loop.succeed()
    resting = asyncio.create_task(loop.attempts.rest(after=timedelta(days=1)))
    await until(lambda: loop.clock.sleepers == 1)
    loop.clock.suspend(timedelta(days=1))
    loop.clock.advance(LONGEST_SECONDS)
    await asyncio.wait_for(resting, 1)


async def test_a_loop_looks_again_within_30_s_after_the_wall_clock_was_set() -> None:
    loop = Loop()
    loop.succeed()
    resting = asyncio.create_task(loop.attempts.rest(after=timedelta(days=1)))
    for by in (timedelta(seconds=1), timedelta(seconds=-2)):
        await until(lambda: loop.clock.sleepers == 1)
        assert not resting.done()
        loop.clock.jump(by)
        loop.clock.advance(LONGEST_SECONDS)
        await asyncio.sleep(0)
    await asyncio.wait_for(resting, 1)
