"""Suspend an agent at once, whatever the rulebook says, and resume it: its entries go, and what was signed for them ends.

The rulebook in force stays as it is. A hold lasts through each rulebook that is applied later, until somebody resumes the agent.
"""

import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from cognomen.process.ownthreads import in_own_thread
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.suggesting import suggestion
from cognomen.rulebook.whole import read_whole
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.filters import EntryFilter
from issuer.decisions.operator import Operator, comment_of
from issuer.decisions.revocation import Live, Reason, Revocation, RevocationKind, Target
from issuer.decisions.rulebooks import AppliedRulebook, HeldAgent
from issuer.keepers.committed_entries import tell_committed
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings
from issuer.works.denials import end_in
from issuer.works.entrychanges import Changed, carry_out_in
from issuer.works.entryplans import Asked, Batch, Plan, plan_in
from issuer.works.rulebookplans import MOST_ENTRIES, plan_rulebook_in
from issuer.works.supersessions import Taken
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["HoldAgents"]

_NAME = 80  # longest text that can be the name of an agent
_NOTHING = Changed(entries=(), taken=Taken())
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """The rulebook in force.

    Args:
        is_whole: whether this release can read all of it.
    """

    rulebook: Rulebook
    files: Mapping[str, str]
    is_whole: bool


class _Command(NamedTuple):
    """What is done, inside a transaction; _NOTHING: it was done before."""

    action: Action
    change_in: Callable[[Transaction, _Rules, str, Asked], Changed]


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldAgents:
    """Suspends and resumes agents on behalf of an operator."""

    datastore: Datastore
    around: Surroundings
    trust_domain: TrustDomain
    node_attestors: Collection[str]
    watch: EnforcementWatch

    async def suspend(self, name: str, *, actor: str) -> Changed:
        """Suspend an agent, and end everything that was signed for it, whatever let it live on.

        If that is done already, it leaves no trace. An agent that the rulebook in force has not can be suspended if it has been before.

        Raises:
            Refused: NOT_FOUND when the rulebook in force has no such agent; CONFLICT when others are applied all the time. It is recorded
                first.
        """
        return await self._change(_Command(Action.AGENT_SUSPENDED, _suspend_in), name, actor)

    async def resume(self, name: str, *, actor: str) -> Changed:
        """End a suspension, as `suspend` began it; what the rulebook says counts again.

        Raises:
            Refused: NOT_FOUND when the agent is not held; INVALID when this release cannot read the rulebook; CONFLICT as suspend.
        """
        return await self._change(_Command(Action.AGENT_RESUMED, _resume_in), name, actor)

    async def held(self) -> Collection[HeldAgent]:
        """Those that are held, by name."""
        found = await self.datastore.read(lambda tx: tx.agents.held())
        return [found[name] for name in sorted(found)]

    async def _change(self, command: _Command, name: str, actor: str) -> Changed:
        async with refusals_on_record(
            self.datastore, self.around.clock, command.action, actor=actor, subject=name[:_NAME]
        ):
            for _ in range(_ATTEMPTS):
                in_force = await self.datastore.read(_in_force)
                rules = await in_own_thread(_read, in_force)
                asked = Asked(
                    actor=actor,
                    at=self.around.clock.now(),
                    trust_domain=self.trust_domain,
                    node_attestors=self.node_attestors,
                    let_expire=command.action is Action.AGENT_SUSPENDED,  # all of it ends anyway
                    rulebook=in_force.revision,
                )
                changed = await self.datastore.write(partial(_work, command, name, rules, asked))
                if changed is not None:
                    tell_committed(changed, watch=self.watch, metrics=self.around.metrics)
                    return changed
            raise Refused(Kind.CONFLICT, "rulebook: others are applied all the time", hint="give the command again")


def _work(command: _Command, name: str, rules: _Rules, asked: Asked, tx: Transaction) -> Changed | None:
    """Change it, and record that; None: another rulebook is in force by now."""
    if tx.rulebooks.revision() != asked.rulebook:
        return None
    changed = command.change_in(tx, rules, name, asked)
    if changed is not _NOTHING:
        facts = {"entries": str(sum(changed.counts.values())), "rulebook": str(asked.rulebook)}
        event = AuditEvent(at=asked.at, actor=asked.actor, action=command.action, subject=name, facts=facts)
        tx.audit.append([event])
    return changed


def _suspend_in(tx: Transaction, rules: _Rules, name: str, asked: Asked) -> Changed:
    # 1. Hold it.
    held = tx.agents.held()
    if name not in rules.rulebook.agents and name not in held:
        raise Refused(
            Kind.NOT_FOUND,
            f"agent: none of the rulebook in force is called {name[:_NAME]!r}",
            hint=suggestion(name, rules.rulebook.agents) or "list them: cognomen agent list",
        )
    if name not in held:
        login = asked.actor.login if isinstance(asked.actor, Operator) else ""
        comment = comment_of(asked.actor)
        tx.agents.hold(HeldAgent(name=name, actor=str(asked.actor), login=login, comment=comment, at=asked.at))
    # 2. End what was signed for it.
    own = SpiffeID(trust_domain=asked.trust_domain, path=f"/agent/{name}")
    live = Live(spiffe_id=own, below=True)
    count = tx.denials.falling(live, now=asked.at).count
    order = Revocation(
        target=Target(kind=RevocationKind.ISSUED_BEFORE, before=asked.at, spiffe_id=own, below=True),
        reason=Reason.CESSATION_OF_OPERATION,
        comment=comment_of(asked.actor),
        actor=asked.actor,
        at=asked.at,
    )
    ended = end_in(tx, order, live)
    # 3. Take its entries away.
    changed = _carry_out_in(tx, _without_in(tx, rules, own, asked), asked)
    if ended is None:
        return replace(_NOTHING) if changed is _NOTHING and name not in held else changed
    taken = Taken(revocations=(ended, *changed.taken.revocations), at_once=count)
    return replace(changed, taken=taken)


def _without_in(tx: Transaction, rules: _Rules, own: SpiffeID, asked: Asked) -> Plan | None:
    """The plan that takes an agent's entries away: by the rules, or, if this release cannot read them all, these entries alone."""
    if rules.is_whole:
        return plan_rulebook_in(tx, rules.rulebook, rules.files, asked, _new_id).plan
    found = tx.entries.find(EntryFilter(spiffe_id=own, below=True), after="", limit=MOST_ENTRIES)
    batch = Batch(delete=[(one.id, one.revision) for one in found], by_path=True)
    return plan_in(tx, batch, [], asked) if found else None


def _resume_in(tx: Transaction, rules: _Rules, name: str, asked: Asked) -> Changed:
    if name not in tx.agents.held():
        raise Refused(
            Kind.NOT_FOUND,
            f"agent: {name[:_NAME]!r} is not suspended by an operator",
            hint="list them: cognomen agent list",
        )
    if not rules.is_whole:
        raise Refused(
            Kind.INVALID, "rulebook: this release cannot read the one in force", hint="apply one that it can read"
        )
    tx.agents.release(name)
    changed = _carry_out_in(tx, plan_rulebook_in(tx, rules.rulebook, rules.files, asked, _new_id).plan, asked)
    return changed if changed is not _NOTHING else replace(_NOTHING)


def _carry_out_in(tx: Transaction, plan: Plan | None, asked: Asked) -> Changed:
    return _NOTHING if plan is None else carry_out_in(tx, plan, asked)


def _in_force(tx: Transaction) -> AppliedRulebook:
    found = tx.rulebooks.get(tx.rulebooks.revision())
    if found is None:
        raise Refused(Kind.NOT_FOUND, "rulebook: none was applied yet", hint="apply one: cognomen apply RULES")
    return found


def _read(applied: AppliedRulebook) -> _Rules:
    rulebook, faults = read_whole({name: text.encode() for name, text in applied.files.items()})
    return _Rules(rulebook=rulebook, files=applied.files, is_whole=not faults)


def _new_id() -> EntryID:
    return EntryID(secrets.token_hex(16))
