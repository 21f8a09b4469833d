"""Suspend an agent, or one component of it, at once, whatever the rulebook says, resume it, or retire an agent for good.

What was signed for it ends with it. The rulebook in force stays as it is. A hold lasts through each rulebook that is applied later, until
somebody ends it; a retired name never comes back.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from cognomen.process.ownthreads import in_own_thread
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.reviews import is_past_grace
from cognomen.rulebook.suggesting import suggestion
from cognomen.rulebook.tables import AgentState
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.agentlife import ISSUER, held_for_review, to_suspend
from issuer.decisions.audit import AuditEvent
from issuer.decisions.operator import Operator, comment_of
from issuer.decisions.rulebooks import HeldAgent, RetiredAgent, retired_in_words
from issuer.keepers.committed_entries import tell_committed
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keepers.past_agents import PastAgents
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings
from issuer.works.agentends import NO_CHANGE, Rules, bring_back_in, end_agents_in, in_force_in, read_rules
from issuer.works.entrychanges import Changed
from issuer.works.entryplans import Asked
from issuer.works.plainentries import NOTHING_LEFT, LeftEntries, left_in
from svid.spiffeid import TrustDomain

__all__ = ["NOTHING_LEFT", "HoldAgents", "LeftEntries"]

_NAME = 160  # longest text that can be the name of an agent or a component
_ATTEMPTS = 5


class _Done(NamedTuple):
    """What was done, inside a transaction.

    Args:
        about: the agents that it is news of, and what the record says about each beside what is the same for all.
    """

    changed: Changed
    about: dict[str, dict[str, str]]


class _End(NamedTuple):
    """How an agent is to be retired.

    Args:
        last_owner: who answered for it, if it is suspended; empty: not known.
        at_once: also if it is active.
    """

    name: str
    last_owner: str
    at_once: bool


class _Command(NamedTuple):
    action: Action
    change_in: Callable[[Transaction, Rules, Asked], _Done]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldAgents:
    """Suspends, resumes and retires agents on behalf of an operator; and, on its own, suspends those whose review was due.

    A name is AGENT; what is suspended and resumed can also be AGENT/COMPONENT.
    """

    datastore: Datastore
    around: Surroundings
    trust_domain: TrustDomain
    node_attestors: Collection[str]
    watch: EnforcementWatch
    past: PastAgents = field(default_factory=PastAgents)

    async def suspend(self, name: str, *, actor: str) -> Changed:
        """Suspend an agent, and end everything that was signed for it, whatever let it live on.

        If an operator did that already, or the issuer after a burst, it leaves no trace. One that the issuer suspended for its review is
        suspended by both from then on, and a later review does not resume it. An agent that the rulebook in force has not can be suspended
        if it has been before.

        Raises:
            Refused: NOT_FOUND when the rulebook in force has no such agent; CONFLICT when others are applied all the time. It is recorded
                first.
        """
        return await self._on_record(_Command(Action.AGENT_SUSPENDED, partial(_suspend_in, name)), name, actor)

    async def resume(self, name: str, *, actor: str) -> Changed:
        """End a suspension, as `suspend` began it, or the issuer for a review; what the rulebook says counts again.

        Raises:
            Refused: NOT_FOUND when the agent is not held; INVALID when this release cannot read the rulebook; CONFLICT as suspend, or when
                it is retired.
        """
        return await self._on_record(_Command(Action.AGENT_RESUMED, partial(_resume_in, name)), name, actor)

    async def retire(self, name: str, *, at_once: bool = False, actor: str) -> Changed:
        """Retire an agent for good, and end everything that was signed for it, as `suspend` does; nobody has its name again.

        Args:
            at_once: also if it is active.

        Raises:
            Refused: NOT_FOUND as suspend; CONFLICT as suspend, or when it is active.
        """
        owner = await self._last_owner(name)
        command = _Command(Action.AGENT_RETIRED, partial(_retire_in, _End(name, owner, at_once)))
        return await self._on_record(command, name, actor)

    async def left(self, name: str) -> LeftEntries:
        """The plain entries that still give an identity to the programs of an agent or a component, which was suspended or retired."""
        try:
            agent = await self.past.last(self.datastore, name)
            if agent is None:
                return NOTHING_LEFT
            component = name.partition("/")[2]
            theirs = [one for key, one in agent.components.items() if not component or key == component]
            now = self.around.clock.now()
            return await self.datastore.read(lambda tx: left_in(tx, theirs, self.trust_domain, now))
        except Refused:  # what was done is done
            return LeftEntries(is_cut=True)

    async def suspend_overdue(self) -> Collection[str]:
        """Suspend, as the issuer, the agents whose review was due and whose rules ask for that; returns their names.

        Raises:
            Refused: CONFLICT when others are applied all the time; UNAVAILABLE, from the store.
        """
        done = await self._change(_Command(Action.AGENT_SUSPENDED, _suspend_overdue_in), ISSUER)
        return done.about

    async def held(self) -> Collection[HeldAgent]:
        """Those that are held, by name."""
        found = await self.datastore.read(lambda tx: tx.agents.held())
        return [found[name] for name in sorted(found)]

    async def retired(self) -> Collection[RetiredAgent]:
        """Those that are retired, by name."""
        found = await self.datastore.read(lambda tx: tx.rulebooks.retired())
        return [found[name] for name in sorted(found)]

    async def _last_owner(self, name: str) -> str:
        """Who answered for an agent that is suspended, and that the rulebook in force may not have any more; empty: not known."""
        if not await self.datastore.read(lambda tx: name in tx.agents.held()):
            return ""
        found = await self.past.last(self.datastore, name)
        return "" if found is None else found.owner

    async def _on_record(self, command: _Command, name: str, actor: str) -> Changed:
        async with refusals_on_record(
            self.datastore, self.around.clock, command.action, actor=actor, subject=name[:_NAME]
        ):
            return (await self._change(command, actor)).changed

    async def _change(self, command: _Command, actor: str) -> _Done:
        for _ in range(_ATTEMPTS):
            in_force = await self.datastore.read(in_force_in)
            rules = await in_own_thread(read_rules, in_force)
            asked = Asked(
                actor=actor,
                at=self.around.clock.now(),
                trust_domain=self.trust_domain,
                node_attestors=self.node_attestors,
                let_expire=command.action is not Action.AGENT_RESUMED,  # all of it ends anyway
                rulebook=in_force.revision,
            )
            done = await self.datastore.write(partial(_work, command, rules, asked))
            if done is not None:
                tell_committed(done.changed, watch=self.watch, metrics=self.around.metrics)
                return done
        raise Refused(Kind.CONFLICT, "rulebook: others are applied all the time", hint="give the command again")


def _work(command: _Command, rules: Rules, asked: Asked, tx: Transaction) -> _Done | None:
    """Change it, and record that; None: another rulebook is in force by now."""
    if tx.rulebooks.revision() != asked.rulebook:
        return None
    done = command.change_in(tx, rules, asked)
    facts = {"entries": str(sum(done.changed.counts.values())), "rulebook": str(asked.rulebook)}
    tx.audit.append(
        [
            AuditEvent(at=asked.at, actor=asked.actor, action=command.action, subject=name, facts={**facts, **more})
            for name, more in done.about.items()
        ]
    )
    return done


def _suspend_in(name: str, tx: Transaction, rules: Rules, asked: Asked) -> _Done:
    held = tx.agents.held()
    _check_known(tx, rules, name)
    before = held.get(name)
    is_for_review = before is not None and before.review_by is not None and before.actor == ISSUER
    is_new = name not in tx.rulebooks.retired() and (before is None or is_for_review)
    if is_new:
        tx.agents.hold(
            HeldAgent(
                name=name,
                actor=str(asked.actor),
                login=_login(asked),
                comment=_both(comment_of(asked.actor), before),
                at=asked.at,
                review_by=None if before is None else before.review_by,
            )
        )
    return _ended_in(tx, rules, name, asked, is_new=is_new)


def _retire_in(end: _End, tx: Transaction, rules: Rules, asked: Asked) -> _Done:
    name = end.name
    # 1. Check that nobody loses what he needs by a slip: suspending can be undone.
    held, retired = tx.agents.held(), tx.rulebooks.retired()
    _check_known(tx, rules, name)
    if "/" in name:
        raise Refused(
            Kind.INVALID,
            f"agent: expected AGENT, found {name[:_NAME]!r}: only whole agents are retired",
            hint="take the component's table out of the rulebook, and apply that",
        )
    agent = rules.rulebook.agents.get(name)
    is_active = agent is not None and agent.state is AgentState.ACTIVE and name not in held
    if is_active and name not in retired and not end.at_once:
        raise Refused(
            Kind.CONFLICT,
            f"agent: expected one that is suspended, found {name}, which is active, and retiring it is for good",
            hint=f"suspend it first, which can be undone: cognomen agent suspend {name};"
            " or add --force, and it ends now",
        )
    # 2. Take its name out of use.
    if name not in retired:
        tx.rulebooks.retire(
            [
                RetiredAgent(
                    name=name,
                    owner=end.last_owner if agent is None else agent.owner,
                    revision=asked.rulebook,
                    at=asked.at,
                    actor=str(asked.actor),
                    login=_login(asked),
                    comment=comment_of(asked.actor),
                )
            ]
        )
    tx.agents.release(name)
    # 3. End what was signed for it.
    return _ended_in(tx, rules, name, asked, is_new=name not in retired)


def _resume_in(name: str, tx: Transaction, rules: Rules, asked: Asked) -> _Done:
    if (gone := tx.rulebooks.retired().get(name)) is not None:
        raise Refused(Kind.CONFLICT, f"agent {name}: {retired_in_words(gone)}, for good", hint="give it another name")
    if name not in tx.agents.held():
        raise Refused(
            Kind.NOT_FOUND,
            f"agent: {name[:_NAME]!r} is not suspended by an operator",
            hint="list them: cognomen agent list",
        )
    tx.agents.release(name)
    agent = rules.rulebook.agents.get(name)
    if agent is not None and agent.review_by is not None and is_past_grace(agent, asked.at.date()):
        tx.agents.excuse(name, agent.review_by)
    return _Done(bring_back_in(tx, rules, asked), {name: {}})


def _suspend_overdue_in(tx: Transaction, rules: Rules, asked: Asked) -> _Done:
    due = list(
        to_suspend(
            rules.rulebook.agents.values(),
            held={**tx.agents.held(), **tx.rulebooks.retired()},
            excused=tx.agents.excused(),
            today=asked.at.date(),
        )
    )
    if not due:
        return _Done(NO_CHANGE, {})
    holds = [held_for_review(one, at=asked.at) for one in due]
    for one in holds:
        tx.agents.hold(one)
    changed = end_agents_in(tx, rules, {one.name: one.comment for one in holds}, asked)
    return _Done(changed, {one.name: {"review_by": str(one.review_by), "owner": one.owner} for one in due})


def _ended_in(tx: Transaction, rules: Rules, name: str, asked: Asked, *, is_new: bool) -> _Done:
    changed = end_agents_in(tx, rules, {name: comment_of(asked.actor)}, asked)
    return _Done(changed, {name: {}} if is_new or changed is not NO_CHANGE else {})


def _both(comment: str, before: HeldAgent | None) -> str:
    """Why an operator suspends it, and why the issuer did before."""
    if before is None:
        return comment
    return f"{comment}{'; ' if comment else ''}before that by the {before.actor}: {before.comment}"


def _check_known(tx: Transaction, rules: Rules, name: str) -> None:
    """Check that the rulebook has this agent or component, or that it is suspended or retired: the rulebook may not have it any more.

    Raises:
        Refused: NOT_FOUND
    """
    if name in tx.agents.held() or name in tx.rulebooks.retired():
        return
    agents = rules.rulebook.agents
    agent, slash, component = name.partition("/")
    if agent not in agents:
        raise Refused(
            Kind.NOT_FOUND,
            f"agent: none of the rulebook in force is called {agent[:_NAME]!r}",
            hint=suggestion(agent, agents) or "list them: cognomen agent list",
        )
    components = agents[agent].components
    if slash and component not in components:
        raise Refused(
            Kind.NOT_FOUND,
            f"agent: {agent} has no component {component[:_NAME]!r}",
            hint=suggestion(component, components) or f"list them: cognomen agent show {agent}",
        )


def _login(asked: Asked) -> str:
    return asked.actor.login if isinstance(asked.actor, Operator) else ""
