"""An attestor answers which of its programs would gain or lose an identity; the programs are real processes."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from attestor.flows.answer_questions import AnswerQuestions
from attestor.issuerclient.port import AnswerDoor
from attestor.workloadattestor.unix import UnixAttestor
from bench.rig.attestorsurroundings import surroundings
from bench.rig.child import Child
from cognomen.gate.caller import Caller, process_of
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import QuestionIs
from cognomen.protocol.questions import MOST_ENTRIES, Answer, ProgramChange
from cognomen.protocol.selector import Selector
from svid.clock import SystemClock
from tests.doubles.until import until
from tests.doubles.workloadattestor import WorkloadAttestorDouble
from tests.doubles.workloadside import WorkloadSide, entry

UID = Selector("unix", f"uid:{os.getuid()}")
WEB, DB = entry("web", str(UID)), entry("db", str(UID), f"unix:path:{os.path.realpath(sys.executable)}")
ELSE = entry("else", "unix:uid:4294967290")


class Door(AnswerDoor):
    """Takes answers."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.refuses: list[Refused] = []

    async def answer(self, question_id: str, answer: Answer) -> bool:
        if self.refuses:
            raise self.refuses.pop()
        self.answers[question_id] = answer
        return True


class Node:
    """An attestor's side of a question."""

    def __init__(self) -> None:
        self.side, self.door, self.clock = WorkloadSide(), Door(), SystemClock()
        self.flow = AnswerQuestions(self.side.cache, self.side.recent, door=self.door, around=surroundings(self.clock))
        self.side.synchronise(WEB)

    def called(self, caller: Caller) -> None:
        self.side.recent.note(caller, frozenset({UID}), frozenset({"unix:uid"}))

    async def asked(self, *put: RegistrationEntry, gone: tuple[str, ...] = ()) -> Answer:
        return await self.flow([QuestionIs(id="q", put=put, gone=tuple(map(EntryID, gone)))])


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def program() -> Iterator[Caller]:
    with Child[bytes]([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        caller = process_of(child.pid)
        yield caller
        caller.process.close()


@pytest.fixture
async def running(node: Node) -> AsyncIterator[None]:
    task = asyncio.ensure_future(node.flow.run())
    yield
    task.cancel()


def change_of(
    caller: Caller, *, gains: tuple[RegistrationEntry, ...] = (), loses: tuple[RegistrationEntry, ...] = ()
) -> ProgramChange:
    return ProgramChange(
        pid=caller.pid,
        uid=caller.uid,
        executable=os.path.realpath(sys.executable),
        gains=tuple(one.spiffe_id for one in gains),
        loses=tuple(one.spiffe_id for one in loses),
    )


async def test_a_program_that_called_lately_gains_what_it_would_match_and_loses_what_goes(
    node: Node, program: Caller
) -> None:
    node.called(program)
    new = entry("new", str(UID))
    found = await node.asked(new, ELSE, gone=("web",))
    assert found == Answer(programs=(change_of(program, gains=(new,), loses=(WEB,)),))
    assert await node.asked(ELSE) == Answer()
    assert set(node.side.cache.entries) == {"web"}, "nothing of it is kept"


async def test_a_program_with_an_open_stream_counts_as_the_gate_saw_it(node: Node, program: Caller) -> None:
    selectors = frozenset({UID, Selector("unix", "gid:7")})
    with node.side.cache.subscribe(selectors, who=(program.uid, program.pid)):
        assert await node.asked(gone=("web",)) == Answer(programs=(change_of(program, loses=(WEB,)),))
        new = entry("new", "unix:gid:7")
        node.side.synchronise(WEB, entry("needs", "unix:gid:8"))
        assert await node.asked(new) == Answer(programs=(change_of(program, gains=(new,)),))
    assert await node.asked(gone=("web",)) == Answer(), "it did not call, it only listened"


async def test_a_program_is_looked_at_again_for_a_fact_that_no_entry_needed(node: Node, program: Caller) -> None:
    node.called(program)
    assert await node.asked(DB) == Answer(unknown=1), "nobody looks yet"
    node.flow.examine_with(node.side.flow(UnixAttestor(node.clock)).attest)
    assert await node.asked(DB) == Answer(programs=(change_of(program, gains=(DB,)),))


async def test_a_program_that_cannot_be_looked_at_is_counted(node: Node, program: Caller) -> None:
    node.called(program)
    double = WorkloadAttestorDouble()
    double.refuses = Refused(Kind.UNAVAILABLE, "not now")
    node.flow.examine_with(node.side.flow(double).attest)
    assert await node.asked(DB, gone=("web",)) == Answer(unknown=1)


async def test_looking_again_takes_only_so_long(node: Node, program: Caller) -> None:
    node.called(program)

    async def never(caller: Caller, also: frozenset[str]) -> frozenset[Selector]:
        del caller, also
        await asyncio.Event().wait()
        raise AssertionError

    node.flow.examine_with(never)
    async with asyncio.timeout(30):
        assert await node.asked(DB) == Answer(unknown=1)


async def test_a_program_that_has_ended_and_one_that_has_its_pid_are_left_out(node: Node, program: Caller) -> None:
    with Child[bytes]([sys.executable, "-c", ""]) as ended:
        gone = process_of(ended.pid)
        node.called(gone)
        gone.process.close()
        ended.wait()
    other = Caller(pid=program.pid, uid=program.uid + 1, gid=0, groups=frozenset(), process=program.process)
    node.called(other)
    assert await node.asked(gone=("web",)) == Answer()
    assert await node.asked(DB) == Answer(), "nor are they looked at"


@pytest.mark.usefixtures("running")
async def test_a_question_in_parts_is_answered_once_the_last_has_come(node: Node, program: Caller) -> None:
    node.called(program)
    new = entry("new", str(UID))
    node.flow.take([QuestionIs(id="q", put=(new,), more=True)])
    node.flow.take([QuestionIs(id="r", gone=(EntryID("web"),))])
    await until(lambda: "r" in node.door.answers)
    assert set(node.door.answers) == {"r"}
    node.flow.take([QuestionIs(id="q", gone=(EntryID("web"),))])
    await until(lambda: "q" in node.door.answers)
    assert node.door.answers["q"].programs == (change_of(program, gains=(new,), loses=(WEB,)),)


@pytest.mark.usefixtures("running")
async def test_an_answer_that_is_not_taken_ends_nothing(node: Node) -> None:
    node.door.refuses.append(Refused(Kind.UNAVAILABLE, "issuer: cannot be reached"))
    node.flow.take([QuestionIs(id="q"), QuestionIs(id="r")])
    await until(lambda: "r" in node.door.answers)
    assert node.door.answers == {"r": Answer()}
    await until(lambda: node.flow.pulse.turn is None)


@pytest.mark.usefixtures("running")
async def test_parts_of_questions_do_not_pile_up(node: Node) -> None:
    for number in range(5):
        node.flow.take([QuestionIs(id=f"{number}", more=True)])
    node.flow.take([QuestionIs(id="4"), QuestionIs(id="1")])
    await until(lambda: len(node.door.answers) == 2)
    node.flow.take([QuestionIs(id="many", gone=(EntryID("a"),) * MOST_ENTRIES, more=True)])
    node.flow.take([QuestionIs(id="many", gone=(EntryID("a"),))])
    for number in range(6):
        node.flow.take([QuestionIs(id=f"whole{number}")])
    await until(lambda: "whole5" in node.door.answers)
    assert set(node.door.answers) == {"4", "1", "whole2", "whole3", "whole4", "whole5"}


async def test_many_programs_and_entries_leave_others_their_turns(node: Node, program: Caller) -> None:
    node.called(program)
    many = [entry(f"n{number}", f"unix:uid:{number + 5}") for number in range(1000)]
    answering = asyncio.ensure_future(node.asked(*many))
    turns = 0
    while not answering.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 1000 // 64
