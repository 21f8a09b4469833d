"""What happens to a node inside the deciding transaction: it gets a name that is free, or is sent away with all that was signed for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID, is_node_name
from issuer.datastore.port import Transaction
from issuer.decisions.actions import Action
from issuer.decisions.admission import Node, banned
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.nodename import check_name, looks_like_id, names_for, posed_as
from issuer.decisions.operator import comment_of
from issuer.decisions.revocation import Reason, Revocation, RevocationKind, Target
from issuer.works.denials import all_of_nodes, end_in

__all__ = ["Order", "ban_in", "named_in", "rename_in", "send_away_in"]


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


def named_in(tx: Transaction, node: Node, asked: str) -> Node:
    """The node with a name, if it has none yet; this does not store it.

    Args:
        asked: what it calls itself, as it said it; if people could take that for the id of another node, it is named after its own id.
    """
    if node.name:
        return node
    if is_node_name(asked) and _is_id_of_another(tx, asked, node):
        asked = ""
    free = (name for name in names_for(asked, node.id) if not _is_taken(tx, name, node))
    return replace(node, name=next(free, ""))


def rename_in(tx: Transaction, node: Node, name: str, *, actor: str, at: datetime) -> Node:
    """Give a node another name, with the audit row; returns the row as stored.

    Raises:
        Refused: INVALID for a name that no node may have; EXISTS for one that belongs to another node.
    """
    check_name(name)
    if node.name == name:
        return node
    if _is_taken(tx, name, node):
        raise Refused(
            Kind.EXISTS, f"name: another node has the name or id {name}", hint="list the nodes: cognomen node list"
        )
    after = replace(node, name=name)
    tx.nodes.put(after)
    event = AuditEvent(
        at=at,
        actor=actor,
        action=Action.NODE_RENAMED,
        subject=str(node.spiffe_id),
        facts={"before": node.name, "after": name},
    )
    tx.audit.append([event])
    return after


def _is_id_of_another(tx: Transaction, name: str, node: Node) -> bool:
    """Whether a name is another node's id, or its short id with or without something after it; also of one that is gone."""
    exact = (one for one in _beginning_with(tx, name) if one == name)
    beginning = posed_as(name)
    return any(one != node.id for one in (*exact, *_beginning_with(tx, beginning)))


def _beginning_with(tx: Transaction, beginning: str) -> Iterator[str]:
    """The ids that begin with a text: itself, and at most two of nodes and two of the record."""
    if not beginning:
        return
    if tx.nodes.get(NodeID(beginning)) is not None:
        yield beginning
    following = (one.id for one in tx.nodes.find(after=beginning, limit=2))
    yield from (one for one in following if one.startswith(beginning))
    yield from (one.id for one in tx.ids.nodes(beginning, limit=2))


def _is_taken(tx: Transaction, name: str, node: Node) -> bool:
    """Whether people could mean another node by that name: its name or id, or what its id begins with; also of one that is gone."""
    named = tx.nodes.named(name)
    if (named is not None and named.id != node.id) or _is_id_of_another(tx, name, node):
        return True
    return looks_like_id(name) and any(one != node.id for one in _beginning_with(tx, name.lower()))


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
    said = f"{order.action}: {order.why}" if order.why else order.action
    comment = comment_of(order.actor) or said
    asked = Revocation(target=target, reason=order.reason, comment=comment, actor=order.actor, at=order.at)
    revocation = end_in(tx, asked, all_of_nodes([node.id]))
    return [] if revocation is None else [revocation]
