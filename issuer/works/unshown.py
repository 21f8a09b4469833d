"""Warn of node groups of a batch that no node is in: a label that is misspelt reaches nobody, and nothing is refused for it."""

from collections.abc import Iterator

from cognomen.protocol.entry import RegistrationEntry
from cognomen.protocol.selectorcheck import EVERY_NODE
from issuer.datastore.port import Transaction
from issuer.decisions.admission import Node
from issuer.decisions.registration import is_group
from issuer.works.entryplans import Plan

__all__ = ["unshown_in"]

_MOST_NODES = 10_000  # that are compared with the groups; if there are more, nothing is said
_PAGE = 1000


def unshown_in(tx: Transaction, plan: Plan) -> tuple[str, ...]:
    """The warnings about the groups that a batch creates or changes, before it is written."""
    fresh = (step.after for step in plan.steps if step.action is not None and step.after is not None)
    left = {one.spiffe_id: one for one in fresh if is_group(one) and EVERY_NODE not in one.selectors}
    if not left or tx.nodes.count() > _MOST_NODES:
        return ()
    for node in _nodes_in(tx):
        left = {key: one for key, one in left.items() if not one.selectors <= node.selectors}
        if not left:
            return ()
    return tuple(sorted(f"nodes: no node shows {_words(one)} now" for one in left.values()))


def _words(group: RegistrationEntry) -> str:
    return ", ".join(map(str, sorted(group.selectors)))


def _nodes_in(tx: Transaction) -> Iterator[Node]:
    after = ""
    while page := tx.nodes.find(after=after, limit=_PAGE):
        yield from page
        after = page[-1].id
