"""Decide, inside a transaction, what applying a rulebook does to the entries that belong to it; nothing is written.

cognomen/protocol/entrydifference finds which stored entry a rule describes; entryplans checks the changes as those of any other command.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from cognomen.protocol.entry import EntryID
from cognomen.protocol.entrydifference import Difference, compare
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.printable import printable
from cognomen.rulebook.compiling import GROUPS, compiled
from cognomen.rulebook.rules import Rulebook
from issuer.datastore.port import Transaction
from issuer.decisions.agentlife import as_it_works, still_held
from issuer.decisions.filters import EntryFilter
from issuer.decisions.lostholds import LostHold, lost_holds
from issuer.decisions.rulebooks import HeldAgent, check_names, names_to_retire, plan_digest, rules_digest
from issuer.works.entryplans import Asked, Batch, Plan, plan_in
from issuer.works.planreach import Reach
from svid.spiffeid import SpiffeID

__all__ = ["MOST_ENTRIES", "RulebookPlan", "plan_rulebook_in"]

MOST_ENTRIES = 100_000
_OWNED = ("/agent", GROUPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class RulebookPlan:
    """What applying a rulebook does.

    Args:
        in_force: the revision of the rulebook that it replaces; 0: there is none.
        digest: of all of this; an equal one does the same.
        plan: the steps; None: the entries stay as they are.
        unchanged: how many entries stay as they are.
        is_new: whether applying it leaves a new revision: the files or the entries are others.
        retired: the agents whose names it retires for good.
        held: those of its active agents and their components that are suspended, so that nothing is issued for them.
        lost: the suspensions whose name it lacks; what has their selectors is found for people, and not when it is applied.
        reach: what of each identity it ends; found for people, and not when it is applied.
    """

    in_force: int
    digest: str
    plan: Plan | None
    unchanged: int
    is_new: bool
    retired: tuple[str, ...]
    held: tuple[HeldAgent, ...]
    lost: tuple[LostHold, ...] = ()
    reach: Reach = field(default_factory=Reach)


def plan_rulebook_in(
    tx: Transaction, rulebook: Rulebook, files: Mapping[str, str], asked: Asked, new_id: Callable[[], EntryID]
) -> RulebookPlan:
    """Find it.

    Raises:
        Refused: INVALID, CONFLICT; as entryplans.plan_in.
    """
    retired, held = tx.rulebooks.retired(), tx.agents.held()
    check_names(rulebook, retired, files)
    difference = _difference(tx, rulebook, asked, held)
    in_force, rules = tx.rulebooks.revision(), rules_digest(files)
    plan = None
    if difference:
        batch = Batch(
            create=difference.create,
            update=[after for _, after in difference.update],
            delete=[(one.id, one.revision) for one in difference.delete],
            by_path=True,
        )
        plan = plan_in(tx, batch, [new_id() for _ in batch.create], asked)
    steps = [] if plan is None else [(one.before, one.after) for one in plan.steps]
    digest = plan_digest(in_force, rules, steps, let_expire=asked.let_expire)
    newest = tx.rulebooks.newest(1)
    return RulebookPlan(
        in_force=in_force,
        digest=digest,
        plan=plan,
        unchanged=difference.unchanged,
        is_new=plan is not None or not newest or newest[0].digest != rules,
        retired=tuple(sorted(names_to_retire(rulebook, retired))),
        held=tuple(still_held(rulebook, held, asked.at.date())),
        lost=tuple(LostHold(held=one) for one in lost_holds(rulebook, held)),
    )


def _difference(tx: Transaction, rulebook: Rulebook, asked: Asked, held: Mapping[str, HeldAgent]) -> Difference:
    for component in rulebook.components():
        for audience in sorted(rulebook.external_audiences(component)):
            if audience == f"spiffe://{asked.trust_domain}" or audience.startswith(f"spiffe://{asked.trust_domain}/"):
                raise Refused(
                    Kind.INVALID,
                    f"{component.name}: expected external audiences, found {printable(audience)}",
                    hint="name a component in may_call",
                )
    working = as_it_works(rulebook, held, asked.at.date())
    wanted = list(islice(compiled(working, asked.trust_domain), MOST_ENTRIES + 1))
    if len(wanted) > MOST_ENTRIES:
        raise Refused(Kind.INVALID, f"rulebook: expected at most {MOST_ENTRIES} entries, found more")
    found = [
        entry
        for path in _OWNED
        for entry in tx.entries.find(
            EntryFilter(spiffe_id=SpiffeID(trust_domain=asked.trust_domain, path=path), below=True),
            after="",
            limit=2 * MOST_ENTRIES,  # plain ones may have been there before the first rulebook
        )
    ]
    return compare(wanted, found, prune=lambda _: True)
