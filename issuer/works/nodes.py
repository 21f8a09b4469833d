"""Send a node away, inside the deciding transaction: void its tokens, end what was signed for it and its workloads."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from issuer.datastore.port import Transaction
from issuer.decisions.actions import Action
from issuer.decisions.admission import Node, banned
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.revocation import Reason, Revocation, RevocationKind, Target
from issuer.works.denials import all_of_nodes, end_in

__all__ = ["Order", "ban_in", "send_away_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The order to send a node away, as the audit record has it.

    Args:
        why: empty: an operator knows why.
    """

    action: Action
    actor: str
    at: datetime
    reason: Reason = Reason.CESSATION_OF_OPERATION
    why: str = ""


def ban_in(tx: Transaction, node: Node, order: Order) -> tuple[Node, Sequence[Revocation]]:
    """Ban a node; returns the row as stored, and what ended with it."""
    after = banned(node)
    tx.nodes.put(after)
    return after, send_away_in(tx, node, order)


def send_away_in(tx: Transaction, node: Node, order: Order) -> Sequence[Revocation]:
    """Void its tokens and end what it has, with the change and the audit row; returns the revocation, if there was anything to end."""
    tx.tokens.void(node.id)
    tx.changes.append([Change(kind=ChangeKind.NODE, subject=node.id)])
    facts = {"why": order.why} if order.why else {}
    event = AuditEvent(
        at=order.at,
        actor=order.actor,
        action=order.action,
        subject=str(node.spiffe_id),
        credential=node.current_serial,
        facts=facts,
    )
    tx.audit.append([event])
    target = Target(kind=RevocationKind.NODE, node_ids=(node.id,))
    comment = f"{order.action}: {order.why}" if order.why else order.action
    asked = Revocation(target=target, reason=order.reason, comment=comment, actor=order.actor, at=order.at)
    revocation = end_in(tx, asked, all_of_nodes([node.id]))
    return [] if revocation is None else [revocation]
