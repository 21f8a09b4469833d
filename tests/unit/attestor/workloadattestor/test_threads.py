"""Threads for what may wait: whose waits keep others waiting."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from attestor.workloadattestor.threads import DaemonThreads, Threads
from cognomen.gate.shares import Share
from cognomen.protocol.errors import Kind, Refused
from tests.doubles.clock import FakeClock
from tests.doubles.threads import ThreadsDouble
from tests.doubles.until import until

ENDS = """
import asyncio, threading
from attestor.workloadattestor.threads import DaemonThreads, Threads
from cognomen.gate.shares import Share
from svid.clock import SystemClock

async def main():
    asyncio.get_running_loop().call_later(0.01, asyncio.current_task().cancel)
    await Threads(Share.LOOKS, "name", SystemClock(), start=DaemonThreads()).run(1, threading.Event().wait)

try:
    asyncio.run(main())
except asyncio.CancelledError:
    print("ended")
"""


async def test_a_uid_whose_thread_waits_for_long_is_told_at_once_and_others_are_served() -> None:
    clock, go = FakeClock(), threading.Event()
    threads = Threads(Share.LOOKS, "name", clock, start=DaemonThreads())
    async with asyncio.TaskGroup() as group:
        first = group.create_task(threads.run(1, lambda: go.wait(10)))
        await asyncio.sleep(0)
        clock.advance(5)
        with pytest.raises(Refused) as refused:
            await threads.run(1, lambda: True)
        assert (refused.value.kind, refused.value.detail) == (Kind.UNAVAILABLE, "name of uid 1: no answer in time")
        assert await threads.run(2, lambda: "another's")
        go.set()
    assert first.result()
    assert await threads.run(1, lambda: "served again")


async def test_what_nobody_waits_for_any_more_still_takes_the_uids_turn_and_is_kept() -> None:
    start, kept = ThreadsDouble(hold="name"), list[str]()
    threads = Threads(Share.LOOKS, "name", FakeClock(), start=start)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await threads.run(1, lambda: "first", keep=kept.append)
    second = asyncio.ensure_future(threads.run(1, lambda: "second"))
    await asyncio.sleep(0)
    assert start.count["name"] == 1
    start.release()
    await until(lambda: start.count["name"] == 2)
    assert kept == ["first"]
    start.release()
    assert await second == "second"


async def test_what_is_known_meanwhile_is_not_done_again() -> None:
    start, kept = ThreadsDouble(), list[str]()
    threads = Threads(Share.LOOKS, "name", FakeClock(), start=start)

    async def ask() -> str:
        return await threads.run(1, lambda: "name", known=lambda: kept[0] if kept else None, keep=kept.append)

    assert list(await asyncio.gather(ask(), ask(), ask())) == ["name"] * 3
    assert start.count["name"] == 1


async def test_an_error_is_raised_where_the_result_is_waited_for_and_the_next_is_done() -> None:
    threads = Threads(Share.LOOKS, "name", FakeClock(), start=DaemonThreads())

    def fail() -> str:
        raise PermissionError("no")

    with pytest.raises(PermissionError):
        await threads.run(1, fail)
    assert await threads.run(1, lambda: "next")


async def test_a_system_without_threads_refuses_and_the_next_is_done() -> None:
    start = Exhausted()
    threads = Threads(Share.LOOKS, "name", FakeClock(), start=start)
    with pytest.raises(Refused, match="no answer in time"):
        await threads.run(1, lambda: "never")
    start.has_room = True
    assert await threads.run(1, lambda: "next")


class Exhausted(ThreadsDouble):
    """Has no thread until it has room."""

    has_room = False

    def __call__(self, name: str, work: Callable[[], None]) -> None:
        if not self.has_room:
            raise RuntimeError("can't start new thread")
        super().__call__(name, work)


async def test_no_more_threads_than_that_are_there_at_once_however_many_uids_wait() -> None:
    start = ThreadsDouble(hold="name")
    threads = Threads(Share.LOOKS, "name", FakeClock(), start=start)
    waiting = [asyncio.ensure_future(threads.run(uid, lambda: "name")) for uid in range(300)]
    await until(lambda: start.count["name"] == 256)
    waiting[299].cancel()
    await asyncio.wait([waiting[299]])
    start.release()
    await until(lambda: start.count["name"] == 299)
    start.release()
    assert list(await asyncio.gather(*waiting[:299])) == ["name"] * 299
    last = asyncio.ensure_future(threads.run(299, lambda: "name"))
    await until(lambda: bool(start.held))
    start.release()
    assert await last == "name"


async def test_threads_are_used_again_and_end_with_whoever_started_them() -> None:
    start, used = DaemonThreads(), list[threading.Thread]()
    threads = Threads(Share.LOOKS, "name", FakeClock(), start=start)
    for _ in range(20):
        await threads.run(1, lambda: used.append(threading.current_thread()))
    assert len(set(used)) < 20
    del start, threads
    gc.collect()
    await until(lambda: not any(one.is_alive() for one in used))


def test_a_thread_that_waits_for_ever_does_not_keep_the_process_from_ending() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")
