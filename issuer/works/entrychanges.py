"""Carry out a plan of changes to the entries: write it, end what it takes away, and record it. entryplans makes the plan."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cognomen.protocol.entry import RegistrationEntry
from issuer.datastore.port import Transaction
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import entry_changes
from issuer.decisions.entrysteps import Step
from issuer.decisions.observing import turns
from issuer.decisions.operator import comment_of
from issuer.decisions.revocation import Live, Reason, Revocation, RevocationKind, Target
from issuer.works.denials import end_in
from issuer.works.entryplans import Asked, Plan
from issuer.works.supersessions import Taken, end_due_in

__all__ = ["Changed", "carry_out_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The result of a batch.

    Args:
        entries: in the order of the batch: created, updated, deleted; as they are now; those that were deleted, as they were before.
        taken: how many of the credentials signed before it ends.
        counts: how many entries were created, updated and deleted; of an update that changes nothing, none.
        warnings: about the batch, if somebody asked for them.
        change: the change number with which followers have it; 0: it is not recorded.
    """

    entries: tuple[RegistrationEntry, ...]
    taken: Taken
    counts: Mapping[Action, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    change: int = 0


def carry_out_in(tx: Transaction, plan: Plan, asked: Asked) -> Changed:
    """Carry out a plan that was made in the same transaction."""
    # 1. Write it. What is given up goes first, because something else of the batch may take it.
    done = [step for step in plan.steps if step.action is not None]
    tx.entries.delete([step.entry.id for step in done if step.after is None])
    tx.entries.replace([step.after for step in done if step.before is not None and step.after is not None])
    tx.entries.insert([step.after for step in done if step.before is None and step.after is not None])
    began, ended = turns((step.before, step.after) for step in done)
    tx.observations.end(ended)
    tx.observations.begin(began, asked.at)
    # 2. End what it takes away.
    taken = replace(plan.taken, revocations=tuple(_end(tx, plan, asked)))
    # 3. Put it into the record and into the change log.
    tx.audit.append([_event(step, asked) for step in done])
    number = tx.changes.append(one for step in done for one in entry_changes(step.before, step.after))
    counts = Counter(step.action for step in done if step.action is not None)
    return Changed(entries=plan.entries, taken=taken, counts=counts, change=number)


def _end(tx: Transaction, plan: Plan, asked: Asked) -> Sequence[Revocation]:
    """End what was signed for deleted entries, and what nothing will replace."""
    ended: list[Revocation] = []
    if plan.ended:
        target = Target(kind=RevocationKind.DELETION, entry_ids=plan.ended)
        reason, comment = Reason.CESSATION_OF_OPERATION, comment_of(asked.actor)
        order = Revocation(target=target, reason=reason, comment=comment, actor=asked.actor, at=asked.at)
        gone = {step.entry.spiffe_id for step in plan.steps if step.after is None}
        revocation = end_in(tx, order, Live(entry_ids=plan.ended), gone=gone)
        ended += [] if revocation is None else [revocation]
    if plan.superseded:
        tx.supersessions.add(plan.superseded)
        ended += end_due_in(tx, asked.at)
    return ended


def _event(step: Step, asked: Asked) -> AuditEvent:
    entry, action = step.entry, step.action
    assert action is not None  # noqa: S101 - only steps that change something are recorded
    facts = {"entry": entry.id, "parent": str(entry.parent_id), "owner": entry.owner}
    return AuditEvent(
        at=asked.at,
        actor=asked.actor,
        action=action,
        subject=str(entry.spiffe_id),
        entry_revision=entry.revision,
        before=step.before,
        after=step.after,
        facts=facts | ({"rulebook": str(asked.rulebook)} if asked.rulebook else {}),
    )
