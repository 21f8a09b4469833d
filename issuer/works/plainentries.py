"""Plain entries beside the rulebook's: which of them still give an identity to the programs of what was suspended, inside a transaction.

They are somebody else's by design (ADR-0029), so nothing ends them; but an operator who suspends an agent has to know of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.selector import Selector
from cognomen.protocol.selectorcheck import EVERY_NODE
from cognomen.rulebook.exclusion import excludes, facts_of
from cognomen.rulebook.rules import Component, Nodes
from issuer.datastore.port import Transaction
from issuer.decisions.filters import EntryFilter
from issuer.decisions.registration import is_group
from issuer.decisions.rulebooks import is_of_rulebook
from issuer.works.reads import entries_in, groups_in, node_of_in
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["NOTHING_LEFT", "LeftEntries", "left_in"]

_MOST_LOOKED_AT = 10_000
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftEntries:
    """The plain entries that were found.

    Args:
        entries: the first of them.
        more: how many there are beside them.
        is_cut: there may be others, because not all entries were looked at.
    """

    entries: Sequence[RegistrationEntry] = ()
    more: int = 0
    is_cut: bool = False


NOTHING_LEFT = LeftEntries()
"""No plain entry gives them an identity."""


def left_in(tx: Transaction, components: Sequence[Component], trust_domain: TrustDomain, now: datetime) -> LeftEntries:
    """Find the plain entries whose selectors every process shows that proves to be one of these components, on nodes of it."""
    proofs: dict[Selector, list[tuple[Component, frozenset[Selector]]]] = {}
    for component in components:
        for proof in component.proofs:
            for selector in proof:
                proofs.setdefault(selector, []).append((component, proof))
    parents = _Parents(tx, trust_domain)
    found: dict[EntryID, RegistrationEntry] = {}
    looked_at = 0
    for entry in islice(_with_selectors(tx, sorted(proofs)), _MOST_LOOKED_AT):
        looked_at += 1
        if entry.id in found or not _is_plain(entry, now):
            continue
        theirs = proofs.get(min(entry.selectors), [])
        if any(entry.selectors <= proof and parents.may_share(entry.parent_id, one.nodes) for one, proof in theirs):
            found[entry.id] = entry
    entries = sorted(found.values(), key=lambda one: (one.spiffe_id.path, one.id))
    return LeftEntries(
        entries=entries[:_MOST_NAMED],
        more=len(entries[_MOST_NAMED:]),
        is_cut=looked_at == _MOST_LOOKED_AT,
    )


def _with_selectors(tx: Transaction, selectors: Sequence[Selector]) -> Iterator[RegistrationEntry]:
    for one in selectors:
        yield from entries_in(tx, EntryFilter(selector=one))


def _is_plain(entry: RegistrationEntry, now: datetime) -> bool:
    """Whether it is not the rulebook's, and gives an identity."""
    is_over = entry.expires_at is not None and entry.expires_at <= now
    return not (is_over or entry.observe or is_group(entry) or is_of_rulebook(entry.spiffe_id))


class _Parents:
    """Which parents of entries have nodes in common with the nodes of components."""

    def __init__(self, tx: Transaction, trust_domain: TrustDomain) -> None:
        self._tx = tx
        self._trust_domain = trust_domain
        self._groups = {one.spiffe_id: one.selectors - {EVERY_NODE} for one in groups_in(tx, trust_domain)}

    def may_share(self, parent: SpiffeID, nodes: Nodes) -> bool:
        """Whether a node can be of both. A parent that does not exist has no nodes."""
        group = self._groups.get(parent)
        if group is not None and not nodes.path:
            return not excludes(facts_of(group), facts_of(nodes.selectors))
        if group is None and nodes.path:
            return parent.path == nodes.path
        own = parent if group is None else SpiffeID(trust_domain=self._trust_domain, path=nodes.path)
        node = node_of_in(self._tx, own)
        return node is not None and (nodes.selectors if group is None else group) <= node.selectors
