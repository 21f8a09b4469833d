"""Suspend an agent at once, whatever the rulebook says, and resume it: its entries go, and what was signed for them ends.

The rulebook in force stays as it is. A hold lasts through each rulebook that is applied later, until somebody resumes the agent.
"""

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass

from cognomen.process.ownthreads import in_own_thread
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.faults import suggestion
from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.whole import read_whole
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.operator import Operator, comment_of
from issuer.decisions.rulebooks import AppliedRulebook, HeldAgent
from issuer.keepers.committed_entries import tell_committed
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings
from issuer.works.entrychanges import Changed, carry_out_in
from issuer.works.entryplans import Asked
from issuer.works.rulebookplans import plan_rulebook_in
from issuer.works.supersessions import Taken
from svid.spiffeid import TrustDomain

__all__ = ["HoldAgents"]

_NAME = 80  # longest text that can be the name of an agent
_Hold = Callable[[Transaction, Rulebook, str, Asked], bool]
_NOTHING = Changed(entries=(), taken=Taken())


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldAgents:
    """Suspends and resumes agents on behalf of an operator."""

    datastore: Datastore
    around: Surroundings
    trust_domain: TrustDomain
    node_attestors: Collection[str]
    watch: EnforcementWatch

    async def suspend(self, name: str, *, actor: str) -> Changed:
        """Suspend an agent; one that is suspended already stays so, and leaves no trace.

        Raises:
            Refused: NOT_FOUND when the rulebook in force has no such agent; CONFLICT when another is in force by now. It is recorded first.
        """
        return await self._change(Action.AGENT_SUSPENDED, name, _hold_in, actor)

    async def resume(self, name: str, *, actor: str) -> Changed:
        """End a suspension, as `suspend` began it; what the rulebook says counts again.

        Raises:
            Refused: NOT_FOUND when the agent is not held; CONFLICT as suspend.
        """
        return await self._change(Action.AGENT_RESUMED, name, _release_in, actor)

    async def held(self) -> Collection[HeldAgent]:
        """Those that are held, by name."""
        found = await self.datastore.read(lambda tx: tx.agents.held())
        return [found[name] for name in sorted(found)]

    async def _change(self, action: Action, name: str, hold: _Hold, actor: str) -> Changed:
        async with refusals_on_record(self.datastore, self.around.clock, action, actor=actor, subject=name[:_NAME]):
            in_force = await self.datastore.read(_in_force)
            rulebook = await in_own_thread(_read, in_force)
            asked = Asked(
                actor=actor,
                at=self.around.clock.now(),
                trust_domain=self.trust_domain,
                node_attestors=self.node_attestors,
                rulebook=in_force.revision,
            )

            def work(tx: Transaction) -> Changed:
                if tx.rulebooks.revision() != in_force.revision:
                    raise Refused(
                        Kind.CONFLICT, "rulebook: another one is in force by now", hint="give the command again"
                    )
                # 1. Hold it, or let it go.
                if not hold(tx, rulebook, name, asked):
                    return _NOTHING
                # 2. Make the entries those of the rulebook as it works now.
                plan = plan_rulebook_in(tx, rulebook, in_force.files, asked, _new_id).plan
                changed = _NOTHING if plan is None else carry_out_in(tx, plan, asked)
                # 3. Record it.
                facts = {"entries": str(sum(changed.counts.values())), "rulebook": str(in_force.revision)}
                tx.audit.append([AuditEvent(at=asked.at, actor=actor, action=action, subject=name, facts=facts)])
                return changed

            changed = await self.datastore.write(work)
        tell_committed(changed, watch=self.watch, metrics=self.around.metrics)
        return changed


def _hold_in(tx: Transaction, rulebook: Rulebook, name: str, asked: Asked) -> bool:
    """Hold an agent; returns whether it was not held before."""
    if name not in rulebook.agents:
        raise Refused(
            Kind.NOT_FOUND,
            f"agent: none of the rulebook in force is called {name[:_NAME]!r}",
            hint=suggestion(name, rulebook.agents) or "list them: cognomen agent list",
        )
    if name in tx.agents.held():
        return False
    login = asked.actor.login if isinstance(asked.actor, Operator) else ""
    held = HeldAgent(name=name, actor=str(asked.actor), login=login, comment=comment_of(asked.actor), at=asked.at)
    tx.agents.hold(held)
    return True


def _release_in(tx: Transaction, _: Rulebook, name: str, __: Asked) -> bool:
    if name not in tx.agents.held():
        raise Refused(
            Kind.NOT_FOUND,
            f"agent: {name[:_NAME]!r} is not suspended by an operator",
            hint="list them: cognomen agent list",
        )
    tx.agents.release(name)
    return True


def _in_force(tx: Transaction) -> AppliedRulebook:
    found = tx.rulebooks.get(tx.rulebooks.revision())
    if found is None:
        raise Refused(Kind.NOT_FOUND, "rulebook: none was applied yet", hint="apply one: cognomen apply RULES")
    return found


def _read(applied: AppliedRulebook) -> Rulebook:
    return read_whole({name: text.encode() for name, text in applied.files.items()})[0]


def _new_id() -> EntryID:
    return EntryID(secrets.token_hex(16))
