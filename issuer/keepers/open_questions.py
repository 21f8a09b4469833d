"""The questions that are being put to attestors, what waits to be sent of them on each feed, and who may answer.

In memory only: a question lasts two seconds. What is asked: issuer/decisions/questions. Who asks: issuer/flows/ask_attestors.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import QuestionIs
from cognomen.protocol.names import NodeID
from cognomen.protocol.questions import Answer
from issuer.decisions.questions import Asking
from svid.spiffeid import SpiffeID

__all__ = ["OpenQuestion", "OpenQuestions", "Post", "Receiving"]

_MOST_OPEN = 4  # for all operators: each may hold a plan, and what every node is asked
_MOST_PROGRAMS = 10_000  # in all answers together; the others are counted


@dataclass(slots=True, eq=False)
class OpenQuestion:
    """A question, with the nodes that are asked and their answers so far; it ends when nobody waits any more.

    Args:
        asked: what each node is asked, by the id that its question has.
    """

    asked: Mapping[NodeID, tuple[str, Asking]]
    answers: dict[NodeID, Answer] = field(default_factory=dict)
    programs: int = 0
    is_over: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, node_id: NodeID, answer: Answer) -> None:
        """Take a node's answer; what it names beyond the room for all of them is only counted."""
        named = answer.programs[: _MOST_PROGRAMS - self.programs]
        more = answer.programs_more + len(answer.programs) - len(named)
        answer = replace(answer, programs=named, programs_more=more)
        self.programs += len(named)
        self.answers[node_id] = answer
        if len(self.answers) == len(self.asked):
            self.done.set()


class Receiving(NamedTuple):
    """An answer that is being taken."""

    question: OpenQuestion
    node_id: NodeID

    @property
    def ids(self) -> Mapping[str, SpiffeID]:
        """The identities that it may name, by their texts."""
        return self.question.asked[self.node_id][1].ids

    def take(self, answer: Answer) -> None:
        """It was read, and is valid."""
        self.question.take(self.node_id, answer)


class Post:
    """What waits to be sent on one feed besides its news.

    Args:
        answers: whether the follower answers questions.
    """

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers
        self._parts: deque[tuple[OpenQuestion, QuestionIs]] = deque()
        self._wait: asyncio.Timeout | None = None

    def put(self, question: OpenQuestion, parts: Sequence[QuestionIs]) -> None:
        """Add a question, and end the feed's wait for news."""
        self._parts.extend((question, part) for part in parts)
        if self._wait is not None and not self._wait.expired():
            self._wait.reschedule(asyncio.get_running_loop().time())
            self._wait = None

    def __bool__(self) -> bool:
        while self._parts and self._parts[0][0].is_over:  # the rest of what nobody waits for is not sent
            self._parts.popleft()
        return bool(self._parts)

    def take(self) -> QuestionIs | None:
        """The next part; None: there is none."""
        return self._parts.popleft()[1] if self else None

    @contextmanager
    def ending(self, wait: asyncio.Timeout) -> Iterator[None]:
        """While the block runs, end this wait when something is put."""
        self._wait = wait
        try:
            yield
        finally:
            self._wait = None


class OpenQuestions:
    """Knows every feed's post, and every question that is open."""

    def __init__(self) -> None:
        self._posts: dict[NodeID, list[Post]] = {}
        self._open: dict[tuple[NodeID, str], OpenQuestion] = {}
        self._asking = 0

    @contextmanager
    def following(self, node_id: NodeID, *, answers: bool) -> Iterator[Post]:
        """The post of a feed, while the block runs; a node is asked on its newest feed."""
        post = Post(answers=answers)
        self._posts.setdefault(node_id, []).append(post)
        try:
            yield post
        finally:
            posts = self._posts[node_id]
            posts.remove(post)
            if not posts:
                del self._posts[node_id]

    @property
    def connected(self) -> Mapping[NodeID, bool]:
        """The nodes that have a feed, and whether their attestors answer questions."""
        return {node_id: posts[-1].answers for node_id, posts in self._posts.items()}

    @contextmanager
    def taking_part(self) -> Iterator[None]:
        """Take one of the few places of those that ask, while the block runs.

        Raises:
            Refused: EXHAUSTED when there is none.
        """
        if self._asking >= _MOST_OPEN:
            raise Refused(
                Kind.EXHAUSTED,
                f"attestors: expected at most {_MOST_OPEN} that ask them at once, found more; try again later",
            )
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1

    @contextmanager
    def asking(self, question: OpenQuestion, parts: Mapping[str, Sequence[QuestionIs]]) -> Iterator[None]:
        """Put a question to its nodes, and take their answers while the block runs.

        Args:
            parts: by the id of the question.
        """
        for node_id, (question_id, _) in question.asked.items():
            self._open[node_id, question_id] = question
            if posts := self._posts.get(node_id):  # otherwise it has left meanwhile
                posts[-1].put(question, parts[question_id])
        try:
            yield
        finally:
            question.is_over = True
            for node_id, (question_id, _) in question.asked.items():
                self._open.pop((node_id, question_id), None)

    def answering(self, node_id: NodeID, question_id: str) -> Receiving | None:
        """Begin to take a node's answer: it has no second one. None: it was not asked that, has answered, or is too late."""
        question = self._open.pop((node_id, question_id), None)
        return None if question is None else Receiving(question=question, node_id=node_id)
