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
from cognomen.protocol.names import NodeID
from cognomen.protocol.questions import ANSWER_WITHIN, MOST_ENTRIES, Answer
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import NodeState
from issuer.decisions.entrysteps import Step
from issuer.decisions.questions import Asking, Concern, PlannedChanges, in_parts
from issuer.keepers.open_questions import OpenQuestion, OpenQuestions
from issuer.keepers.recent_plans import RecentPlans
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
class _Concerned:
    """A node to ask, and which of the questions is its own."""

    node_id: NodeID
    name: str
    concern: Concern


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
    recent: RecentPlans
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
            concerned, asked = await self._read(steps)
            # 2. Ask those that answer.
            ids = {concern: secrets.token_hex(16) for concern in asked}
            outcomes = {one.node_id: self._outcome(one, asked[one.concern]) for one in concerned}
            question = OpenQuestion(
                asked={
                    one.node_id: (ids[one.concern], asked[one.concern])
                    for one in concerned
                    if outcomes[one.node_id] is Outcome.SILENT
                }
            )
            if question.asked:
                wanted = {question_id for question_id, _ in question.asked.values()}
                parts = {ids[one]: tuple(in_parts(ids[one], asked[one])) for one in asked if ids[one] in wanted}
                # 3. Wait for them, but not for long.
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

    async def _read(self, steps: Sequence[Step]) -> tuple[Sequence[_Concerned], Mapping[Concern, Asking]]:
        connected, now = tuple(self.questions.connected), self.around.clock.now()
        trust_domain = self.trust_domain

        def work(tx: Transaction) -> tuple[Sequence[_Concerned], Mapping[Concern, Asking]]:
            changes = PlannedChanges(steps, groups_in(tx, trust_domain), blocks=blocks_in(tx), now=now)
            concerned, asked = [], dict[Concern, Asking]()
            for node in map(tx.nodes.get, connected):
                if node is None or node.state is not NodeState.ACTIVE:
                    continue
                concern = changes.concern(node)
                if concern not in asked:
                    asked[concern] = changes.asking(concern, tx.entries.below(concern.regrouped))
                if asked[concern]:
                    concerned.append(_Concerned(node_id=node.id, name=node.name, concern=concern))
            return concerned, asked

        return await self.datastore.read(work)

    def _outcome(self, one: _Concerned, asking: Asking) -> Outcome:
        """What becomes of it if it does not answer."""
        if not self.questions.connected.get(one.node_id, True):
            return Outcome.OLDER
        return Outcome.TOO_MANY if len(asking) > self.most_entries else Outcome.SILENT
