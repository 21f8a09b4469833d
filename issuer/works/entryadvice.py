"""Warn of what a batch of entries may not mean as its author thinks; nothing is refused for it. registration words the warnings."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from cognomen.protocol.entry import RegistrationEntry
from issuer.datastore.port import Transaction
from issuer.decisions import registration
from issuer.decisions.filters import EntryFilter
from issuer.works.entriesafter import EntriesAfter
from issuer.works.entryplans import Plan
from issuer.works.reads import node_of_in
from svid.spiffeid import TrustDomain

__all__ = ["advice_in"]

_MAX_WARNINGS = 100
_MOST_CROWDS = 20  # that we look for in the store: a large batch must not cost a query for each entry


def advice_in(tx: Transaction, plan: Plan, trust_domain: TrustDomain) -> tuple[str, ...]:
    """The warnings about a whole batch, with those of its plan; before it is written."""
    after = EntriesAfter(tx.entries, plan.steps)
    warnings = [
        *plan.warnings,
        *_orphans(tx, after, trust_domain),
        *registration.beside_rulebook(after.fresh),
        *_without_parent(plan, after, trust_domain),
        *_crowds(after, after.fresh),
        *_rivals(after, after.fresh),
    ]
    if len(warnings) > _MAX_WARNINGS:
        warnings = [*warnings[:_MAX_WARNINGS], f"{len(warnings) - _MAX_WARNINGS} more warnings"]
    return tuple(warnings)


def _orphans(tx: Transaction, after: EntriesAfter, trust_domain: TrustDomain) -> tuple[str, ...]:
    wanted = {entry.parent_id for entry in after.fresh}
    if not wanted:
        return ()
    known = {group.spiffe_id for group in after.groups(trust_domain)}
    known |= {parent for parent in wanted if node_of_in(tx, parent) is not None}
    return registration.unknown_parents(after.fresh, known)


def _without_parent(plan: Plan, after: EntriesAfter, trust_domain: TrustDomain) -> tuple[str, ...]:
    """Warn of entries that stay below the node groups that the batch takes away."""
    changed = (step for step in plan.steps if step.action is not None and step.before is not None)
    gone = {step.before.spiffe_id for step in changed if step.before is not None and registration.is_group(step.before)}
    if not gone:
        return ()
    gone -= {group.spiffe_id for group in after.groups(trust_domain)}
    most = registration.MOST_ALIKE + 1
    return registration.without_parent(
        {parent: sum(1 for _ in islice(after.below([parent]), most)) for parent in sorted(gone, key=str)}
    )


def _crowds(after: EntriesAfter, entries: Iterable[RegistrationEntry]) -> tuple[str, ...]:
    """Warn of too many entries for the same programs. If a batch is for many programs, count only the entries in the batch."""
    crowds: dict[registration.Alike, list[RegistrationEntry]] = {}
    for entry in entries:
        crowds.setdefault(registration.alike(entry), []).append(entry)
    counted = {one: len(some) for one, some in crowds.items()}
    if len(crowds) <= _MOST_CROWDS:
        counted |= {one: after.alike(some[0], most=registration.MOST_ALIKE + 1) for one, some in crowds.items()}
    return registration.too_many_alike(counted)


def _rivals(after: EntriesAfter, entries: Sequence[RegistrationEntry]) -> Iterator[str]:
    """Warn of entries marked as default whose programs have another that is; of a large batch, look at the first few only."""
    for entry in islice((one for one in entries if one.default), _MOST_CROWDS):
        where = EntryFilter(parent_id=entry.parent_id, selector=min(entry.selectors))
        near = after.each(where, limit=registration.MOST_ALIKE)
        yield from islice(registration.rivals(entry, near), 1)
