"""The threads of a source outlive what their callbacks and calls do to them: one that ended in silence would leave all with what is old."""

import asyncio
import logging
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from svid.spiffeid import TrustDomain
from svid.wire.denials import Enforced, Epoch
from svid.workloadapi.bell import Bell
from svid.workloadapi.points import Points
from svid.workloadapi.silence import Silence
from svid.workloadapi.sources import X509Source
from tests.doubles.denialsapi import DenialsDouble
from tests.doubles.trustdomain import TrustDomainDouble
from tests.doubles.workloadapi import WorkloadAPIDouble

DOMAIN = TrustDomain("example.org")


def leave() -> None:
    sys.exit("I have seen enough")


def cancel() -> None:
    raise asyncio.CancelledError


def fail() -> None:
    raise ZeroDivisionError


ENDS = pytest.mark.parametrize("end", [leave, cancel, fail])


@pytest.fixture
def denials() -> DenialsDouble:
    return DenialsDouble()


@pytest.fixture
def api(tmp_path: Path, denials: DenialsDouble, domain: TrustDomainDouble) -> Iterator[WorkloadAPIDouble]:
    with WorkloadAPIDouble(tmp_path, denials=denials) as double:
        double.say("FetchX509SVID", domain.answer(domain.svid("/a")))
        yield double


@ENDS
def test_a_subscriber_that_ends_its_thread_ends_no_source(
    end: Callable[[], None], api: WorkloadAPIDouble, domain: TrustDomainDouble
) -> None:
    with X509Source(api.socket) as source:
        told: queue.SimpleQueue[None] = queue.SimpleQueue()
        source.subscribe(end)
        source.subscribe(lambda: told.put(None))
        for path in ("/b", "/c"):
            api.say("FetchX509SVID", domain.answer(domain.svid(path)))
            told.get(timeout=10)
            assert source.svid.spiffe_id.path == path


@ENDS
def test_an_enforcement_point_that_ends_its_thread_ends_no_other(
    end: Callable[[], None], api: WorkloadAPIDouble, denials: DenialsDouble
) -> None:
    with X509Source(api.socket) as source:
        told: queue.SimpleQueue[set[int]] = queue.SimpleQueue()
        source.on_denied(lambda _, __: end(), point="ends")
        source.on_denied(lambda _, numbers: told.put(set(numbers)), point="stays")
        for number in (7, 8):
            epoch = denials.deny(number)
            while number not in told.get(timeout=10):
                pass
            denials.wait_for_receipts(Enforced(epoch=epoch, point="stays"))
            assert Enforced(epoch=epoch, point="ends") not in denials.receipts


def test_a_receipt_that_fails_in_a_way_that_nobody_expects_is_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    sent: queue.SimpleQueue[Enforced] = queue.SimpleQueue()
    failures = [ZeroDivisionError()]

    def send(receipt: Enforced) -> None:
        if failures:
            sent.put(receipt)
            raise failures.pop()
        sent.put(receipt)

    points = Points(send, rest=lambda: 0.0)
    points.register(lambda _, __: None, "a")
    points.thread.start()
    epoch = Epoch(incarnation="1", number=1)
    points.reached(epoch)
    assert sent.get(timeout=10).epoch == epoch
    while not caplog.records:
        threading.Event().wait(0.01)
    points.reached(epoch)
    assert sent.get(timeout=10).epoch == epoch
    points.end()
    points.thread.join(10)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_silence_is_acted_upon_again_where_that_failed() -> None:
    acted: queue.SimpleQueue[None] = queue.SimpleQueue()

    def act() -> None:
        acted.put(None)
        raise ZeroDivisionError

    silence = Silence(timedelta(milliseconds=30), act)
    silence.heard()
    silence.thread.start()
    for _ in range(2):
        acted.get(timeout=10)
    silence.end()
    silence.thread.join(10)


# loops


def test_a_task_of_a_loop_that_was_closed_amidst_its_wait_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    bell = Bell()
    loop = asyncio.new_event_loop()
    rings = bell.rings()
    loop.run_until_complete(anext(rings))
    waiting = loop.create_task(anext(rings))
    loop.run_until_complete(asyncio.sleep(0))
    waiting.cancel()
    loop.close()
    for _ in range(2):
        bell.ring()
    assert caplog.records == []
    del waiting


async def test_a_wait_that_is_cancelled_or_over_leaves_no_callback() -> None:
    bell = Bell()
    waiting = asyncio.create_task(bell.until(lambda: False, timedelta(seconds=10)))
    await asyncio.sleep(0)
    assert bell.callbacks == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert bell.callbacks == 0
    await bell.until(lambda: True, timedelta(seconds=10))
    assert bell.callbacks == 0


def test_a_source_serves_two_loops_in_two_threads_at_once(api: WorkloadAPIDouble, domain: TrustDomainDouble) -> None:
    seen: queue.SimpleQueue[str] = queue.SimpleQueue()
    ready = threading.Barrier(3)

    async def follow(source: X509Source) -> None:
        async for context in source.changes():
            seen.put(context.svids[0].spiffe_id.path)
            if context.svids[0].spiffe_id.path == "/a":
                ready.wait(10)
            else:
                return

    with X509Source(api.socket) as source:
        threads = [threading.Thread(target=lambda: asyncio.run(follow(source))) for _ in range(2)]
        for thread in threads:
            thread.start()
        ready.wait(10)
        api.say("FetchX509SVID", domain.answer(domain.svid("/b")))
        assert sorted(seen.get(timeout=10) for _ in range(4)) == ["/a", "/a", "/b", "/b"]
        for thread in threads:
            thread.join(10)
