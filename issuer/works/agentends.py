"""End agents inside a transaction: their entries go, and what was signed for them ends, whatever let it live on."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.rulebook.rules import Rulebook
from cognomen.rulebook.whole import read_whole
from issuer.datastore.port import Transaction
from issuer.decisions.agentlife import with_retired
from issuer.decisions.filters import EntryFilter
from issuer.decisions.revocation import Live, Reason, Revocation, RevocationKind, Target
from issuer.decisions.rulebooks import AppliedRulebook
from issuer.works.denials import end_in
from issuer.works.entrychanges import Changed, carry_out_in
from issuer.works.entryplans import Asked, Batch, Plan, plan_in
from issuer.works.rulebookplans import MOST_ENTRIES, plan_rulebook_in
from issuer.works.supersessions import Taken
from svid.spiffeid import SpiffeID

__all__ = ["NO_CHANGE", "Rules", "bring_back_in", "end_agents_in", "in_force_in", "new_entry_id", "read_rules"]

NO_CHANGE = Changed(entries=(), taken=Taken())
"""Nothing was changed, and nothing ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rulebook in force.

    Args:
        is_whole: whether this release can read all of it.
    """

    rulebook: Rulebook
    files: Mapping[str, str]
    is_whole: bool


def new_entry_id() -> EntryID:
    """The id of an entry that a rulebook makes."""
    return EntryID(secrets.token_hex(16))


def in_force_in(tx: Transaction) -> AppliedRulebook:
    """The rulebook in force.

    Raises:
        Refused: NOT_FOUND
    """
    found = tx.rulebooks.get(tx.rulebooks.revision())
    if found is None:
        raise Refused(Kind.NOT_FOUND, "rulebook: none was applied yet", hint="apply one: cognomen apply RULES")
    return found


def read_rules(applied: AppliedRulebook) -> Rules:
    """Read a rulebook that was applied; this release may not be able to read all of it."""
    rulebook, faults = read_whole({name: text.encode() for name, text in applied.files.items()})
    return Rules(rulebook=rulebook, files=applied.files, is_whole=not faults)


def end_agents_in(tx: Transaction, rules: Rules, comments: Mapping[str, str], asked: Asked) -> Changed:
    """End agents that are held or retired by now; NO_CHANGE: nothing of them was left.

    Args:
        comments: why, by the names of the agents.
    """
    # 1. End what was signed for them.
    ended: list[Revocation] = []
    count = 0
    for name, comment in comments.items():
        own = _id_of(name, asked)
        live = Live(spiffe_id=own, below=True)
        falling = tx.denials.falling(live, now=asked.at).count
        order = Revocation(
            target=Target(kind=RevocationKind.ISSUED_BEFORE, before=asked.at, spiffe_id=own, below=True),
            reason=Reason.CESSATION_OF_OPERATION,
            comment=comment,
            actor=asked.actor,
            at=asked.at,
        )
        if (revocation := end_in(tx, order, live)) is not None:
            ended.append(revocation)
            count += falling
    # 2. Take their entries away.
    plan = _without_in(tx, rules, [_id_of(name, asked) for name in comments], asked)
    changed = NO_CHANGE if plan is None else carry_out_in(tx, plan, asked)
    if not ended:
        return changed
    return replace(changed, taken=Taken(revocations=(*ended, *changed.taken.revocations), at_once=count))


def bring_back_in(tx: Transaction, rules: Rules, asked: Asked) -> Changed:
    """Make the entries again that the rulebook in force has.

    Raises:
        Refused: INVALID when this release cannot read it.
    """
    if not rules.is_whole:
        raise Refused(
            Kind.INVALID, "rulebook: this release cannot read the one in force", hint="apply one that it can read"
        )
    plan = _planned_in(tx, rules, asked)
    return NO_CHANGE if plan is None else carry_out_in(tx, plan, asked)


def _without_in(tx: Transaction, rules: Rules, own: Sequence[SpiffeID], asked: Asked) -> Plan | None:
    """The plan that takes their entries away: by the rules, or, if this release cannot read them all, these entries alone."""
    if rules.is_whole:
        return _planned_in(tx, rules, asked)
    found = [
        entry
        for one in own
        for entry in tx.entries.find(EntryFilter(spiffe_id=one, below=True), after="", limit=MOST_ENTRIES)
    ]
    batch = Batch(delete=[(one.id, one.revision) for one in found], by_path=True)
    return plan_in(tx, batch, [], asked) if found else None


def _planned_in(tx: Transaction, rules: Rules, asked: Asked) -> Plan | None:
    rulebook = with_retired(rules.rulebook, tx.rulebooks.retired().keys())
    return plan_rulebook_in(tx, rulebook, rules.files, asked, new_entry_id).plan


def _id_of(name: str, asked: Asked) -> SpiffeID:
    return SpiffeID(trust_domain=asked.trust_domain, path=f"/agent/{name}")
