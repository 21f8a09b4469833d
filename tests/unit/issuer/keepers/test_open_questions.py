"""Questions that are open: who may answer, once, and while somebody waits; and what waits to be sent on a feed."""

import asyncio
import contextlib

import pytest

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import QuestionIs
from cognomen.protocol.names import NodeID
from cognomen.protocol.questions import Answer, ProgramChange
from issuer.decisions.questions import Asking
from issuer.keepers.open_questions import OpenQuestion, OpenQuestions

N1, N2 = NodeID("n1"), NodeID("n2")
PARTS = [QuestionIs(id="q", more=True), QuestionIs(id="q")]


def put_to(*nodes: NodeID) -> OpenQuestion:
    return OpenQuestion(asked={one: ("q", Asking()) for one in nodes})


def programs(count: int) -> Answer:
    return Answer(programs=tuple(ProgramChange(pid=pid + 1, uid=0, executable="") for pid in range(count)))


async def test_a_node_answers_what_it_was_asked_once_and_only_while_somebody_waits() -> None:
    questions, question = OpenQuestions(), put_to(N1)
    with questions.asking(question, {"q": PARTS}):
        assert questions.answering(N2, "q") is None
        assert questions.answering(N1, "another") is None
        receiving = questions.answering(N1, "q")
        assert receiving is not None
        assert questions.answering(N1, "q") is None, "also while the first one is being read"
        receiving.take(programs(1))
    assert question.answers == {N1: programs(1)}
    assert question.done.is_set()
    late = put_to(N1)
    with questions.asking(late, {"q": PARTS}):
        pass
    assert questions.answering(N1, "q") is None


async def test_all_answers_together_name_only_so_many_programs_and_count_the_others() -> None:
    nodes = [NodeID(f"n{number}") for number in range(12)]
    question = put_to(*nodes)
    for node in nodes:
        assert not question.done.is_set()
        question.take(node, programs(1000))
    named = [len(question.answers[node].programs) for node in nodes]
    assert named == [1000] * 10 + [0, 0]
    assert [question.answers[node].programs_more for node in nodes] == [0] * 10 + [1000, 1000]


async def test_the_newest_feed_of_a_node_gets_the_parts_in_order_and_none_once_nobody_waits() -> None:
    questions, question = OpenQuestions(), put_to(N1, N2)
    with questions.following(N1, answers=False) as older, questions.following(N1, answers=True) as newer:
        assert questions.connected == {N1: True}
        with questions.asking(question, {"q": PARTS}):
            assert not older
            assert newer.take() == PARTS[0]
            assert newer
        assert not newer
        assert newer.take() is None
    assert questions.connected == {}


async def test_a_question_ends_the_wait_of_a_feed_for_news() -> None:
    questions = OpenQuestions()
    with questions.following(N1, answers=True) as post:

        async def wait() -> None:
            async with asyncio.timeout(60) as limit:
                with post.ending(limit):
                    await asyncio.Event().wait()

        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        with (
            questions.asking(put_to(N1), {"q": PARTS}),
            questions.asking(put_to(N1), {"q": PARTS}),
            pytest.raises(TimeoutError),
        ):
            await asyncio.wait_for(asyncio.shield(waiting), 10)
        with questions.asking(put_to(N1), {"q": PARTS}):  # nobody waits for news
            assert post


async def test_only_a_few_ask_at_once() -> None:
    questions = OpenQuestions()
    with contextlib.ExitStack() as asking:
        for _ in range(4):
            asking.enter_context(questions.taking_part())
        with pytest.raises(Refused, match="at most 4") as refused, questions.taking_part():
            pass
        assert refused.value.kind is Kind.EXHAUSTED
    with questions.taking_part():
        pass
