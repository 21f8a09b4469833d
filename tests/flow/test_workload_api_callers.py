"""Who a caller is while it listens: looked at first and before each later message, by all attestors, or not at all."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from grpclib.const import Status
from structlog.testing import capture_logs

from attestor.decisions.update import X509Message
from attestor.flows.serve_workload import ServeWorkload
from cognomen.gate.caller import Caller, Process
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.selector import Selector
from svid.wire.pb import workload_pb2 as pb
from tests.doubles.clock import FakeClock
from tests.doubles.until import until
from tests.doubles.workloadattestor import WorkloadAttestorDouble
from tests.doubles.workloadside import WorkloadSide, entry, open_stream, serving

PROGRAM = os.path.realpath(sys.executable)
A, B = "spiffe://example.org/w/a", "spiffe://example.org/w/b"


@pytest.fixture
def side() -> WorkloadSide:
    side = WorkloadSide()
    side.synchronise(entry("a", "test:program:a"), entry("b", "test:program:b"))
    return side


@pytest.fixture
def attestor() -> WorkloadAttestorDouble:
    return WorkloadAttestorDouble("test:program:a")


@pytest.fixture
def caller() -> Iterator[Caller]:
    process = Process(os.pidfd_open(os.getpid()))
    yield Caller(pid=os.getpid(), uid=os.getuid(), gid=os.getgid(), groups=frozenset(), process=process)
    process.close()


@dataclass
class Watcher:
    """What a watching caller got so far, and how it ended."""

    messages: list[list[str]] = field(default_factory=list)
    refused: Refused | None = None
    reads: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, message: X509Message) -> None:
        await self.reads.wait()
        self.messages.append([str(svid.spiffe_id) for svid in message.svids])

    async def follow(
        self, watch: Callable[[Caller, Callable[[X509Message], Awaitable[None]]], Awaitable[None]], caller: Caller
    ) -> None:
        try:
            await watch(caller, self.take)
        except Refused as err:
            self.refused = err


@asynccontextmanager
async def watching(flow: ServeWorkload, caller: Caller, *, reads: bool = True) -> AsyncIterator[Watcher]:
    watcher = Watcher()
    if reads:
        watcher.reads.set()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watcher.follow(flow.watch_x509, caller))
        yield watcher
        task.cancel()


async def refusal(flow: ServeWorkload, caller: Caller) -> Refused:
    with pytest.raises(Refused) as caught:
        await flow.watch_x509(caller, Watcher().take)
    return caught.value


async def test_a_caller_that_runs_another_program_by_now_gets_that_ones_identity_with_the_next_message(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    async with watching(side.flow(attestor), caller) as watcher:
        await until(lambda: watcher.messages == [[A]])
        attestor.selectors = ("test:program:b",)
        side.mint(entry("a", "test:program:a"))
        await until(lambda: watcher.messages == [[A], [B]])


async def test_such_a_caller_is_woken_by_changes_of_its_new_identity(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    async with watching(side.flow(attestor), caller) as watcher:
        await until(lambda: watcher.messages == [[A]])
        attestor.selectors = ("test:program:b",)
        side.mint(entry("a", "test:program:a"))
        await until(lambda: watcher.messages == [[A], [B]])
        side.mint(entry("b", "test:program:b"))
        await until(lambda: watcher.messages == [[A], [B], [B]])


async def test_a_caller_that_runs_a_program_without_identity_by_now_is_denied(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    async with watching(side.flow(attestor), caller) as watcher:
        await until(lambda: watcher.messages == [[A]])
        attestor.selectors = ("test:program:c",)
        side.mint(entry("a", "test:program:a"))
        await until(lambda: watcher.refused is not None)
        assert watcher.refused is not None
        assert watcher.refused.kind is Kind.DENIED
        assert watcher.messages == [[A]]


async def test_a_caller_that_its_attestor_does_not_recognise_any_more_gets_nothing_more(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    async with watching(side.flow(attestor), caller) as watcher:
        await until(lambda: watcher.messages == [[A]])
        attestor.refuses = Refused(Kind.UNAUTHENTICATED, "caller: expected the process that connected")
        side.mint(entry("a", "test:program:a"))
        await until(lambda: watcher.refused is attestor.refuses)
        assert watcher.messages == [[A]]


async def test_a_change_that_concerns_somebody_else_looks_at_nobody(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    async with watching(side.flow(attestor), caller) as watcher:
        await until(lambda: watcher.messages == [[A]])
        looks = attestor.looks
        side.mint(entry("b", "test:program:b"))
        for _ in range(10):
            await asyncio.sleep(0)
        assert attestor.looks == looks


async def test_a_slow_reader_gets_the_latest_state_and_not_each_one_in_between(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    async with watching(side.flow(attestor), caller, reads=False) as watcher:
        await until(lambda: attestor.looks == 1)
        names = [f"c{number}" for number in range(20)]
        for name in names:
            side.put(entry(name, "test:program:a"))
        watcher.reads.set()
        await until(lambda: len(watcher.messages) == 2)
        assert watcher.messages[0] == [A]
        assert len(watcher.messages[1]) == 21


async def test_what_all_attestors_vouch_for_counts_together(side: WorkloadSide, caller: Caller) -> None:
    side.put(entry("both", "test:program:a", "test:pod:p"))
    flow = side.flow(WorkloadAttestorDouble("test:program:a"), WorkloadAttestorDouble("test:pod:p"))
    async with watching(flow, caller) as watcher:
        await until(lambda: watcher.messages == [[A, "spiffe://example.org/w/both"]])


@pytest.mark.parametrize("others", [0, 1])
async def test_an_attestor_that_does_not_answer_makes_the_api_unavailable_and_takes_no_identity_away(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller, others: int
) -> None:
    attestor.answers.clear()
    attestors = [attestor, *(WorkloadAttestorDouble("test:pod:p") for _ in range(others))]
    err = await refusal(side.flow(*attestors, attest_seconds=0.01), caller)
    assert (err.kind, err.detail) == (Kind.UNAVAILABLE, "workload attestor test: no answer in time")


async def test_an_attestor_vouches_for_selectors_of_its_own_type_alone(side: WorkloadSide, caller: Caller) -> None:
    side.put(entry("forged", "unix:uid:99999"))
    err = await refusal(side.flow(WorkloadAttestorDouble("unix:uid:99999")), caller)
    assert (err.kind, err.detail) == (Kind.INTERNAL, "workload attestor test: selectors of another type")


async def test_one_attestor_that_refuses_is_enough(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    refusing = WorkloadAttestorDouble("test:pod:p")
    refusing.refuses = Refused(Kind.UNAUTHENTICATED, "gone")
    assert await refusal(side.flow(attestor, refusing), caller) is refusing.refuses


async def test_a_caller_that_ended_while_it_was_looked_at_is_refused(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    ended = Process(os.pidfd_open(os.getpid()))
    ended.close()
    err = await refusal(side.flow(attestor), replace(caller, process=ended))
    assert err.kind is Kind.UNAUTHENTICATED


async def test_an_entry_that_needs_another_fact_while_a_caller_is_looked_at_has_it_looked_at_again(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    attestor.answers.clear()
    async with watching(side.flow(attestor), caller) as watcher:
        await until(lambda: attestor.looks == 1)
        side.put(entry("c", "test:digest:d"))
        attestor.selectors = ("test:digest:d",)
        attestor.answers.set()
        await until(lambda: watcher.messages == [["spiffe://example.org/w/c"]])
        assert attestor.looks == 2


async def test_a_fault_of_ours_is_no_reason_for_a_client_to_give_up_and_tells_it_nothing(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, tmp_path: Path
) -> None:
    attestor.refuses = ValueError("secret")
    async with (
        serving(side.flow(attestor), tmp_path / "api.sock") as channel,
        open_stream(channel, "FetchX509SVID", pb.X509SVIDRequest(), pb.X509SVIDResponse) as answers,
    ):
        err = await answers.refusal()
    assert (err.status, err.message) == (Status.INTERNAL, "internal error")


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("raised", [KeyError("secret"), SystemExit(1), KeyboardInterrupt()])
async def test_whatever_an_attestor_raises_ends_neither_the_daemon_nor_the_next_call(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller, others: int, raised: BaseException
) -> None:
    flow = side.flow(attestor, *(WorkloadAttestorDouble("test:pod:p") for _ in range(others)))
    attestor.refuses = raised
    err = await refusal(flow, caller)
    assert (err.kind, err.detail) == (Kind.INTERNAL, f"workload attestor test failed: {type(raised).__name__}")
    attestor.refuses = None
    async with watching(flow, caller) as watcher:
        await until(lambda: watcher.messages == [[A]])


NO_IDENTITY = "; see the log; until it answers, nobody gets an identity"


@pytest.mark.parametrize(
    ("raised", "why"),
    [
        (RuntimeError("secret"), "failed: RuntimeError"),
        (Refused(Kind.INTERNAL, "no such\ndatabase"), "no such\\ndatabase"),
        (None, "selectors of another type"),
    ],
)
async def test_an_attestor_that_fails_is_a_trouble_until_it_answers_again(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller, raised: BaseException | None, why: str
) -> None:
    flow = side.flow(attestor)
    attestor.refuses, attestor.selectors = raised, ("unix:uid:1",)
    for _ in range(2):
        await refusal(flow, caller)
    assert flow.failing() == [f"workload attestor test: {why}"]
    (trouble,) = side.troubles.all()
    assert (trouble.what, trouble.reason, trouble.times) == ("workload attestor test", f"{why}{NO_IDENTITY}", 2)
    attestor.refuses, attestor.selectors = None, ("test:program:a",)
    with capture_logs() as logs:
        await flow.attest(caller)
    assert (flow.failing(), side.troubles.all()) == ([], [])
    assert [(line["event"], line["attestor"]) for line in logs] == [("workload attestor answers again", "test")]


async def test_an_attestor_that_does_not_answer_is_a_trouble(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    flow = side.flow(attestor, attest_seconds=0.01)
    attestor.answers.clear()
    await refusal(flow, caller)
    assert flow.failing() == ["workload attestor test: no answer in time"]
    assert [trouble.what for trouble in side.troubles.all()] == ["workload attestor test"]


async def test_a_caller_that_cannot_be_examined_is_a_trouble_of_its_own_and_the_attestor_is_ready(
    attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    clock = FakeClock()
    side = WorkloadSide(clock)
    side.synchronise()
    flow = side.flow(attestor)
    attestor.refuses = Refused(Kind.UNAVAILABLE, "no socket")
    await refusal(flow, caller)
    assert flow.failing() == []
    (trouble,) = side.troubles.all()
    assert (trouble.what, trouble.reason) == (f"workload attestor test of uid {caller.account}", "no socket")
    clock.advance(timedelta(minutes=5))
    assert side.troubles.all() == []


async def test_a_caller_whose_process_ended_is_no_trouble(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    attestor.refuses = Refused(Kind.UNAUTHENTICATED, "gone")
    await refusal(side.flow(attestor), caller)
    assert side.troubles.all() == []


async def test_an_attestor_that_cannot_say_what_it_does_not_see_is_named(
    side: WorkloadSide, attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    attestor.unseen_raises = SystemExit(1)
    with pytest.raises(Refused, match="workload attestor test failed: SystemExit"):
        await side.flow(attestor).unseen(caller)


class GrowingFacts(WorkloadAttestorDouble):
    """During each look at a caller, an entry comes that needs a fact which nobody needed before: so many of them."""

    def __init__(self, side: WorkloadSide, *, most: int) -> None:
        super().__init__("test:program:a")
        self.side, self.most = side, most
        self.asked: list[frozenset[str]] = []

    async def attest(self, caller: Caller, *, needed: Collection[str]) -> frozenset[Selector]:
        self.asked.append(frozenset(needed))
        if self.looks < self.most:
            self.side.put(entry(f"more{self.looks}", f"test:fact{self.looks}:x"))
        return await super().attest(caller, needed=needed)


async def test_a_caller_is_looked_at_again_for_the_facts_of_entries_that_came_meanwhile(
    side: WorkloadSide, caller: Caller
) -> None:
    attestor = GrowingFacts(side, most=3)
    async with watching(side.flow(attestor), caller) as watcher:
        await until(lambda: watcher.messages == [[A]])
    assert [len(facts) for facts in attestor.asked] == [1, 2, 3, 4]


async def test_a_caller_is_not_looked_at_without_end_while_entries_come_that_need_other_facts(
    side: WorkloadSide, caller: Caller
) -> None:
    attestor = GrowingFacts(side, most=10_000)
    refused = await refusal(side.flow(attestor), caller)
    assert (refused.kind, attestor.looks) == (Kind.UNAVAILABLE, 5)


async def test_the_log_says_once_a_minute_who_has_no_identity_and_how_to_see_why(
    attestor: WorkloadAttestorDouble, caller: Caller
) -> None:
    clock = FakeClock()
    side = WorkloadSide(clock)
    side.synchronise(entry("a", "test:program:a"))
    attestor.selectors = ("test:program:b",)
    flow = side.flow(attestor)
    with capture_logs() as logs:
        for _ in range(3):
            assert (await refusal(flow, caller)).detail == "no identity issued"
        clock.advance(timedelta(minutes=1))
        await refusal(flow, caller)
    lines = [line for line in logs if line["event"] == "no identity issued"]
    assert [(line["uid"], line["pid"], line["left_out"]) for line in lines] == [
        (caller.uid, caller.pid, 0),
        (caller.uid, caller.pid, 2),
    ]
    assert lines[0]["hint"] == f"cognomen why --pid {caller.pid}"
    assert lines[0]["program"] == PROGRAM
