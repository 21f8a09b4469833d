"""Send nodes away: evict one, ban one for good, purge those that never came back. An open feed ends at once, by the change.

What was signed for them and their workloads ends, too (issuer/flows/revoke).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.audit import AuditEvent, NodeID
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.revocation import Reason, Revocation, RevocationKind, Target
from issuer.flows.revoke import all_of_node, end_in
from issuer.flows.watch_enforcement import WatchEnforcement
from issuer.queries import all_nodes_in
from svid.clock import Clock

__all__ = ["ManageNodes", "Order", "ban_in"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """That a node is sent away, as it goes on record.

    Args:
        why: empty: an operator knows.
    """

    action: str
    actor: str
    at: datetime
    reason: Reason = Reason.CESSATION_OF_OPERATION
    why: str = ""


_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManageNodes:
    """Sends nodes away on behalf of an operator."""

    datastore: Datastore
    clock: Clock
    watch: WatchEnforcement

    async def evict(self, node_id: NodeID, *, actor: str) -> Node:
        """Forget a node: it may come again with a new invite, as another node.

        Returns:
            The row as it stood.

        Raises:
            Refused: NOT_FOUND
        """

        def work(tx: Transaction, node: Node) -> tuple[Node, Sequence[Revocation]]:
            tx.nodes.delete(node.id)
            return node, _send_away(tx, node, Order(action="node evicted", actor=actor, at=self.clock.now()))

        return await self._change(node_id, work)

    async def ban(self, node_id: NodeID, *, actor: str) -> Node:
        """Let a node call no more, nor return, nor join by any invite for it.

        Raises:
            Refused: NOT_FOUND
        """
        order = Order(action="node banned", actor=actor, at=self.clock.now())
        return await self._change(node_id, lambda tx, node: ban_in(tx, node, order))

    async def purge(self, expired_for: timedelta, *, dry_run: bool, actor: str) -> Sequence[Node]:
        """Forget the nodes whose SVID ended that long ago; those that are banned stay, for they stay banned.

        Returns:
            The rows as they stood.

        Raises:
            Refused: INVALID
        """
        if expired_for < timedelta():
            raise Refused(Kind.INVALID, "expired_for: expected a duration from 0s, found one below")
        over = self.clock.now() - expired_for

        def look(tx: Transaction) -> Sequence[Node]:
            return [node for node in all_nodes_in(tx) if node.state is NodeState.ACTIVE and node.svid_not_after < over]

        def work(tx: Transaction) -> tuple[Sequence[Node], Sequence[Revocation]]:
            found, ended = look(tx), list[Revocation]()
            for node in found:
                tx.nodes.delete(node.id)
                ended += _send_away(tx, node, Order(action="node purged", actor=actor, at=self.clock.now()))
            return found, ended

        return await (self.datastore.read(look) if dry_run else self._write(work))

    async def _change(
        self, node_id: NodeID, change: Callable[[Transaction, Node], tuple[Node, Sequence[Revocation]]]
    ) -> Node:
        def work(tx: Transaction) -> tuple[Node, Sequence[Revocation]]:
            node = tx.nodes.get(node_id)
            if node is None:
                raise Refused(
                    Kind.NOT_FOUND, f"node: no node is {node_id}", hint="nodes are listed by: cognomen node list"
                )
            return change(tx, node)

        return await self._write(work)

    async def _write(self, work: Callable[[Transaction], tuple[_Result, Sequence[Revocation]]]) -> _Result:
        result, ended = await self.datastore.write(work)
        for revocation in ended:
            self.watch.committed(revocation)
        return result


def ban_in(tx: Transaction, node: Node, order: Order) -> tuple[Node, Sequence[Revocation]]:
    """Ban a node; the row as it stands from then on, and what ended with it."""
    banned = replace(node, state=NodeState.BANNED)
    tx.nodes.put(banned)
    return banned, _send_away(tx, node, order)


def _send_away(tx: Transaction, node: Node, order: Order) -> Sequence[Revocation]:
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
    revocation = end_in(tx, asked, all_of_node(node.id))
    return [] if revocation is None else [revocation]
