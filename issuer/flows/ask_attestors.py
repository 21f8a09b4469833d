"""Ask the connected attestors which programs would gain or lose which identity by a plan; nothing is changed.

Only nodes whose entries the plan changes are asked, each about its own. What a node answers is its word alone: it cannot name an
identity that it was not asked about. issuer/decisions/questions decides who is asked what.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.feed import QuestionIs
from cognomen.protocol.names import NodeID
from cognomen.protocol.questions import ANSWER_WITHIN, MOST_ENTRIES, Answer
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import NodeState
from issuer.decisions.entrysteps import Step
from issuer.decisions.questions import Asking, Concern, PlannedChanges, in_parts
from issuer.keepers.open_questions import OpenQuestion, OpenQuestions
from issuer.keepers.recent import Recent
from issuer.surroundings import Surroundings
from issuer.works.reads import blocks_in, groups_in
from issuer.works.rulebookplans import RulebookPlan
from svid.spiffeid import TrustDomain

__all__ = ["AskAttestors", "AskedNode", "Outcome"]


class Plan(Protocol):
    """Finds what applying these files would do."""

    async def __call__(self, files: Mapping[str, str], *, let_expire: bool = False, actor: str) -> RulebookPlan:
        """Raise Refused if they are no rulebook that can be applied."""


class Outcome(StrEnum):
    """What became of a question to a node."""

    ANSWERED = "answered"
    SILENT = "silent"
    OLDER = "older"  # its attestor is of an earlier release, and was not asked
    TOO_MANY = "too_many"  # so many of its entries change that it was not asked


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedNode:
    """A connected node whose entries the plan changes."""

    node_id: NodeID
    name: str
    outcome: Outcome
    answer: Answer = field(default_factory=Answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What all nodes that the plan concerns in the same way are asked."""

    id: str
    asking: Asking
    parts: Sequence[QuestionIs]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Concerned:
    """A node, and the question that it is asked."""

    node_id: NodeID
    name: str
    question: _Question


@dataclass(frozen=True, slots=True, kw_only=True)
class AskAttestors:
    """Asks on behalf of an operator.

    Args:
        plan: makes a plan again that is kept no longer.
        within: how long it waits for the answers.
        most_entries: of a question; a node where more of them change is not asked.
    """

    datastore: Datastore
    around: Surroundings
    trust_domain: TrustDomain
    plan: Plan
    recent: Recent[Sequence[Step]]
    questions: OpenQuestions
    within: timedelta = ANSWER_WITHIN
    most_entries: int = MOST_ENTRIES

    async def __call__(
        self, files: Mapping[str, str], digest: str, *, let_expire: bool = False, actor: str
    ) -> Sequence[AskedNode]:
        """Ask about the plan of these files that has this digest.

        Returns:
            The connected nodes whose entries it changes, by name.

        Raises:
            Refused: as `plan`; CONFLICT when the plan is another one by now; EXHAUSTED when too many ask at once.
        """
        with self.questions.taking_part():
            # 1. Which nodes it concerns, and what to ask each of them.
            steps = await self._steps(files, digest, let_expire=let_expire, actor=actor)
            if not steps:
                return ()
            concerned = await self._concerned(steps)
            outcomes = {one.node_id: self._outcome(one) for one in concerned}
            # 2. Ask those that answer.
            asked = [one for one in concerned if outcomes[one.node_id] is Outcome.SILENT]
            question = OpenQuestion(
                asked={one.node_id: (one.question.id, one.question.asking) for one in asked},
            )
            if asked:
                # 3. Wait for them, but not for long.
                parts = {one.question.id: one.question.parts for one in asked}
                with self.questions.asking(question, parts), contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.within.total_seconds()):
                        await question.done.wait()
        # 4. What came of it.
        found = [
            AskedNode(
                node_id=one.node_id,
                name=one.name,
                outcome=Outcome.ANSWERED if one.node_id in question.answers else outcomes[one.node_id],
                answer=question.answers.get(one.node_id, Answer()),
            )
            for one in concerned
        ]
        return sorted(found, key=lambda one: (one.name, one.node_id))

    async def _steps(self, files: Mapping[str, str], digest: str, *, let_expire: bool, actor: str) -> Sequence[Step]:
        """The steps of that plan: as it was just made, if it was."""
        if (kept := self.recent.take(digest)) is not None:
            return kept
        found = await self.plan(files, let_expire=let_expire, actor=actor)
        if found.digest != digest:
            raise Refused(
                Kind.CONFLICT,
                "plan: expected the plan of what is in force now, found another one",
                hint="the rulebook or its entries were changed since it was made: plan again",
            )
        self.recent.take(digest)
        return () if found.plan is None else found.plan.steps

    async def _concerned(self, steps: Sequence[Step]) -> Sequence[_Concerned]:
        """The connected nodes that the plan concerns."""
        connected, now = tuple(self.questions.connected), self.around.clock.now()

        def work(tx: Transaction) -> Sequence[_Concerned]:
            changes = PlannedChanges(steps, groups_in(tx, self.trust_domain), blocks=blocks_in(tx), now=now)
            questions: dict[Concern, _Question] = {}
            concerned = []
            for node in map(tx.nodes.get, connected):
                if node is None or node.state is not NodeState.ACTIVE:
                    continue
                concern = changes.concern(node)
                if concern not in questions:
                    asking = changes.asking(concern, tx.entries.below(concern.regrouped))
                    question_id = secrets.token_hex(16)
                    parts = tuple(in_parts(question_id, asking))
                    questions[concern] = _Question(id=question_id, asking=asking, parts=parts)
                if questions[concern].asking:
                    concerned.append(_Concerned(node_id=node.id, name=node.name, question=questions[concern]))
            return concerned

        return await self.datastore.read(work)

    def _outcome(self, one: _Concerned) -> Outcome:
        """What becomes of it if it does not answer."""
        if not self.questions.connected.get(one.node_id, True):
            return Outcome.OLDER
        return Outcome.TOO_MANY if len(one.question.asking) > self.most_entries else Outcome.SILENT
