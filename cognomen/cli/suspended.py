"""Of what a process would be, what is suspended beside the rules: its entries are gone, so that the attestor does not know of it."""

from collections.abc import Iterator

from cognomen.cli.askednode import AskedNode
from cognomen.cli.inforce import InForce
from cognomen.protocol.selector import Selector
from cognomen.rulebook.engine import Shown
from cognomen.rulebook.mending import fact_of
from cognomen.rulebook.rules import Component
from cognomen.rulebook.tables import Mode
from cognomen.wire.admin import document_from_message
from svid.encoding import JSON
from svid.spiffeid import SpiffeID

__all__ = ["suspended_rows"]


def suspended_rows(found: InForce, asked: AskedNode, node: frozenset[Selector]) -> Iterator[dict[str, JSON]]:
    """The components that it would be but for a suspension, with who did that and why.

    Args:
        node: what its node shows.
    """
    shown = Shown(selectors=asked.selectors, node=node, node_path=asked.node_path, knows_node=True)
    for component in found.rulebook.active():
        held = found.held.get(component.name.agent) or found.held.get(str(component.name))
        if held is None or component.mode is Mode.OBSERVE or not shown.is_on(component.nodes):
            continue
        if (unlooked := _unlooked(component, asked)) is None:
            continue
        said = document_from_message(held)
        yield {
            "spiffe_id": str(SpiffeID(trust_domain=found.trust_domain, path=component.path)),
            "suspended": held.name,
            **{key: said[key] for key in ("at", "actor", "login", "comment")},
            "not_looked_at": [*sorted(unlooked)],
        }


def _unlooked(component: Component, asked: AskedNode) -> set[str] | None:
    """The facts at which the attestor did not look, of those that it must show; None: it lacks others."""
    lacking = [proof - asked.selectors for proof in component.proofs]
    maybe = [{fact_of(one) for one in lacks} for lacks in lacking if not any(_is_lacking(one, asked) for one in lacks)]
    return min(maybe, key=len, default=None)


def _is_lacking(selector: Selector, asked: AskedNode) -> bool:
    return selector.type != "unix" or fact_of(selector) in asked.looked_at
