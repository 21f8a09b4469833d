"""Whatever the code of another package raises names it, and ends neither the daemon nor what somebody wants to end."""

import asyncio

import pytest
from structlog.testing import capture_logs

from cognomen.daemon.plugincalls import PluginCalls
from cognomen.protocol.errors import Kind, Refused
from tests.doubles.clock import FakeClock


class OddError(BaseException):
    """As no package should raise."""


@pytest.mark.parametrize(
    "raised",
    [
        KeyError("secret"),
        SystemExit("secret"),
        KeyboardInterrupt(),
        OddError(),
        TimeoutError(),
        asyncio.CancelledError(),
        BaseExceptionGroup("several", [SystemExit(1)]),
    ],
)
async def test_what_a_plugin_raises_is_a_refusal_that_names_it_and_does_not_repeat_it(raised: BaseException) -> None:
    with capture_logs() as logs, pytest.raises(Refused) as refused, PluginCalls(FakeClock()).calling("kind of NAME"):
        raise raised
    assert refused.value.kind is Kind.UNAVAILABLE
    assert refused.value.detail.startswith("kind of NAME failed: ")
    assert "secret" not in refused.value.detail
    assert [(line["event"], line["plugin"]) for line in logs] == [("plugin failed", "kind of NAME")]
    assert logs[0]["exc_info"].__traceback__ is not None


async def test_its_own_refusal_passes_and_is_not_logged() -> None:
    own = Refused(Kind.UNAUTHENTICATED, "no")
    with capture_logs() as logs, pytest.raises(Refused) as refused, PluginCalls(FakeClock()).calling("it"):
        raise own
    assert refused.value is own
    assert not logs


async def test_its_traceback_is_logged_once_a_minute_however_often_it_fails() -> None:
    clock = FakeClock()
    calls = PluginCalls(clock)
    with capture_logs() as logs:
        for _ in range(3):
            for _ in range(100):
                with pytest.raises(Refused), calls.calling("it"):
                    raise KeyError
            clock.advance(60)
    assert [line["left_out"] for line in logs] == [0, 99, 99]


@pytest.mark.parametrize("answer", [None, KeyError(), SystemExit()])
async def test_a_task_that_is_cancelled_ends_whatever_the_plugin_makes_of_that(answer: BaseException | None) -> None:
    asked = asyncio.Event()

    async def ask() -> None:
        with PluginCalls(FakeClock()).calling("it"):
            try:
                asked.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise answer or asyncio.CancelledError from None

    task = asyncio.create_task(ask())
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_deadline_around_the_call_stays_a_deadline() -> None:
    async def ask() -> None:
        async with asyncio.timeout(0):
            with PluginCalls(FakeClock()).calling("it"):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError as e:
                    raise OSError from e

    with pytest.raises(TimeoutError):
        await ask()
