"""Plan a rulebook, and apply it: one transaction, whatever its size.

What is planned is what is applied: a plan has a digest, and applying refuses if the entries or the rulebook in force have changed since.
cognomen/rulebook reads and proves the rules; works/rulebookplans compares them with the entries.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import islice
from types import MappingProxyType

from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.findingplaces import FindingPlaces
from cognomen.rulebook.limits import limited
from cognomen.rulebook.proving import prove
from cognomen.rulebook.rules import Agent, Rulebook
from cognomen.rulebook.whole import read_whole
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.agentlife import released, reviewed
from issuer.decisions.audit import AuditEvent
from issuer.decisions.entrysteps import Step
from issuer.decisions.lostholds import LostHold, heirs_of
from issuer.decisions.operator import Operator, comment_of
from issuer.decisions.providers import both_lives, declared_lives
from issuer.decisions.rulebooks import AppliedRulebook, HeldAgent, newly_retired, rules_digest
from issuer.keepers.committed_entries import tell_committed
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.issuance_limits import IssuanceLimits
from issuer.keepers.lives_in_force import LivesInForce
from issuer.keepers.past_agents import PastAgents
from issuer.keepers.recent import Recent
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings
from issuer.works.agentends import new_entry_id
from issuer.works.entryadvice import advice_in
from issuer.works.entrychanges import Changed, carry_out_in
from issuer.works.entryplans import Asked
from issuer.works.planreach import reach_in
from issuer.works.rulebookplans import RulebookPlan, plan_rulebook_in
from issuer.works.supersessions import Taken
from issuer.works.unshown import unshown_in
from svid.spiffeid import TrustDomain

__all__ = ["Applied", "ApplyRulebook", "RulebookPlan"]

_MOST_NAMED = 3
_SUBJECT = "rulebook"
_NO_LIVES: Mapping[str, timedelta] = MappingProxyType({})
_line = ThreadPoolExecutor(1, thread_name_prefix="rulebooks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The result of applying.

    Args:
        revision: the new one; if nothing was new, that in force.
        changed: what became of the entries.
    """

    revision: int
    changed: Changed


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyRulebook:
    """Plans and applies rulebooks on behalf of an operator.

    Args:
        recent: keeps the steps of what was planned last, for whoever asks what it means on the nodes.
        rulebooks: keeps what was read last, by the digest of its files.
        past: finds what is suspended and no longer in the rulebook.
    """

    datastore: Datastore
    around: Surroundings
    trust_domain: TrustDomain
    node_attestors: Collection[str]
    watch: EnforcementWatch
    limits: IssuanceLimits
    recent: Recent[Sequence[Step]] = field(default_factory=Recent)
    rulebooks: Recent[Rulebook] = field(default_factory=Recent)
    lives: LivesInForce = field(default_factory=LivesInForce)
    past: PastAgents = field(default_factory=PastAgents)

    async def plan(
        self,
        files: Mapping[str, str],
        *,
        let_expire: bool = False,
        actor: str,
        longest_lives: Mapping[str, timedelta] = _NO_LIVES,
    ) -> RulebookPlan:
        """Find what applying these files would do, and do nothing.

        Args:
            longest_lives: by audience, how long the tokens of declared providers live; those that the files declare count too.

        Raises:
            Refused: INVALID for a rulebook with a fault or a finding; CONFLICT for a name that is retired.
        """
        rulebook = await self._rulebook(files)
        asked = self._asked(actor, revision=1, let_expire=let_expire)
        lives = both_lives(longest_lives, declared_lives(rulebook))

        def work(tx: Transaction) -> RulebookPlan:
            found = plan_rulebook_in(tx, rulebook, files, asked, new_entry_id)
            if found.plan is None:
                return found
            reach = reach_in(tx, found.plan, longest_lives=lives, now=asked.at)
            warnings = (*unshown_in(tx, found.plan), *advice_in(tx, found.plan, self.trust_domain))
            plan = replace(found.plan, warnings=warnings)
            return replace(found, plan=plan, reach=reach)

        found = await self._with_heirs(rulebook, await self.datastore.read(work))
        self.recent.keep(found.digest, () if found.plan is None else found.plan.steps)
        return found

    async def __call__(self, files: Mapping[str, str], digest: str, *, let_expire: bool = False, actor: str) -> Applied:
        """Apply these files, exactly as planned. A rulebook that changes neither the files nor the entries leaves no trace.

        Args:
            digest: of the plan.

        Raises:
            Refused: as plan; CONFLICT when the plan is not what would be done now. It is recorded first.
        """
        async with refusals_on_record(
            self.datastore, self.around.clock, Action.RULEBOOK_APPLIED, actor=actor, subject=_SUBJECT
        ):
            rulebook = await self._rulebook(files)

            def work(tx: Transaction) -> Applied:
                asked = self._asked(actor, revision=tx.rulebooks.revision() + 1, let_expire=let_expire)
                found = plan_rulebook_in(tx, rulebook, files, asked, new_entry_id)
                if found.digest != digest:
                    raise Refused(
                        Kind.CONFLICT,
                        "plan: expected the plan of what is in force now, found another one",
                        hint="the rulebook or its entries were changed since it was made: plan again",
                    )
                return _apply_in(tx, rulebook, files, found, asked)

            applied = await self.datastore.write(work, expendable=True)
        self.limits.load(applied.revision, limited(rulebook))
        self.recent.take(digest)
        tell_committed(applied.changed, watch=self.watch, metrics=self.around.metrics)
        return applied

    async def _with_heirs(self, rulebook: Rulebook, found: RulebookPlan) -> RulebookPlan:
        """Add which components have the selectors of what is suspended by a name that the rulebook lacks."""
        if not found.lost:
            return found
        held = await self.datastore.read(lambda tx: tx.agents.held())
        lost: list[LostHold] = []
        for one in found.lost:
            was = await self.past.last(self.datastore, one.held.name)
            heirs = () if was is None else heirs_of(one.held.name, was, rulebook, held)
            lost.append(replace(one, heirs=tuple(sorted(heirs))))
        return replace(found, lost=tuple(lost))

    async def newest(self, limit: int) -> Sequence[AppliedRulebook]:
        """The rulebooks that were applied, the newest first, without their files."""
        return await self.datastore.read(lambda tx: tx.rulebooks.newest(limit))

    async def longest_lives(self) -> Mapping[str, timedelta]:
        """By audience, how long the tokens live that the providers of the rulebook in force give for JWT-SVIDs."""
        return await self.lives.get(self.datastore)

    async def get(self, revision: int) -> AppliedRulebook:
        """The rulebook of that revision; 0: the one in force.

        Raises:
            Refused: NOT_FOUND
        """

        def work(tx: Transaction) -> AppliedRulebook | None:
            in_force = tx.rulebooks.revision()
            return tx.rulebooks.get(revision or in_force) if revision <= in_force else None

        found = await self.datastore.read(work)
        if found is None:
            if not revision:
                hint = "apply one: cognomen apply RULES"
                raise Refused(Kind.NOT_FOUND, "rulebook: none was applied yet", hint=hint)
            detail = f"revision: no rulebook has the revision {revision}"
            raise Refused(Kind.NOT_FOUND, detail, hint="list them: cognomen rulebook history")
        return found

    async def _rulebook(self, files: Mapping[str, str]) -> Rulebook:
        """The rulebook of these files, read and proved: again, unless it is the one of the last half a minute."""
        digest = rules_digest(files)
        rulebook = self.rulebooks.get(digest)
        if rulebook is None:
            rulebook = await _in_line(_read, files)
            self.rulebooks.keep(digest, rulebook)
        return rulebook

    def _asked(self, actor: str, *, revision: int, let_expire: bool) -> Asked:
        return Asked(
            actor=actor,
            at=self.around.clock.now(),
            trust_domain=self.trust_domain,
            node_attestors=self.node_attestors,
            let_expire=let_expire,
            rulebook=revision,
        )


async def _in_line(work: Callable[[Mapping[str, str]], Rulebook], files: Mapping[str, str]) -> Rulebook:
    """Read one rulebook at a time, in a thread that nothing else needs: a large one may take long."""
    return await asyncio.wrap_future(_line.submit(work, files))


def _read(files: Mapping[str, str]) -> Rulebook:
    """Read and prove a rulebook; the command has told every fault already, so that a few suffice here.

    Raises:
        Refused: INVALID
    """
    rulebook, faults = read_whole({name: text.encode() for name, text in files.items()})
    if faults:
        told = "; ".join(map(str, faults[:_MOST_NAMED]))
        raise Refused(Kind.INVALID, f"rulebook: {told}", hint="see all faults: cognomen prove RULES")
    found = list(islice(prove(rulebook), _MOST_NAMED))
    if found:
        places = FindingPlaces(files.items())
        told = "; ".join(f"{one.components[0].name}: {one.problem} ({one.guard}, {places.place(one)})" for one in found)
        raise Refused(Kind.INVALID, f"rulebook: {told}", hint="see all findings: cognomen prove RULES")
    return rulebook


def _apply_in(
    tx: Transaction, rulebook: Rulebook, files: Mapping[str, str], found: RulebookPlan, asked: Asked
) -> Applied:
    # 1. The entries.
    changed = Changed(entries=(), taken=Taken()) if found.plan is None else carry_out_in(tx, found.plan, asked)
    digest = rules_digest(files)
    if not found.is_new:
        return Applied(revision=found.in_force, changed=changed)
    # 2. The rulebook itself, its limits, the names that it retires, and the suspensions for reviews that it ends.
    applied = AppliedRulebook(
        revision=asked.rulebook,
        files=files,
        digest=digest,
        components=sum(1 for _ in rulebook.active()),
        actor=str(asked.actor),
        login=asked.actor.login if isinstance(asked.actor, Operator) else "",
        comment=comment_of(asked.actor),
        at=asked.at,
    )
    tx.rulebooks.add(applied)
    tx.limits.replace(applied.revision, list(limited(rulebook)))
    retired = newly_retired(rulebook, tx.rulebooks.retired(), applied)
    tx.rulebooks.retire(retired)
    held, today = tx.agents.held(), asked.at.date()
    for one in reviewed(rulebook, held, today):
        tx.agents.hold(replace(one, review_by=None))
    resumed = released(rulebook, held, today)
    for one in resumed:
        tx.agents.release(one.name)
    # 3. The record.
    facts = {
        "revision": str(applied.revision),
        "digest": digest,
        "agents": str(len(rulebook.agents)),
        "components": str(applied.components),
        **({"retired": " ".join(one.name for one in retired)} if retired else {}),
    }
    tx.audit.append(
        [
            AuditEvent(at=asked.at, actor=asked.actor, action=Action.RULEBOOK_APPLIED, subject=_SUBJECT, facts=facts),
            *(_resumed(rulebook.agents[one.name], one, asked) for one in resumed),
        ]
    )
    return Applied(revision=applied.revision, changed=changed)


def _resumed(agent: Agent, held: HeldAgent, asked: Asked) -> AuditEvent:
    """The row of an agent that was suspended for a review, and has a later one now."""
    facts = {"rulebook": str(asked.rulebook), "was_due": str(held.review_by), "review_by": str(agent.review_by)}
    return AuditEvent(at=asked.at, actor=asked.actor, action=Action.AGENT_RESUMED, subject=agent.name, facts=facts)
