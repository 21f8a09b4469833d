"""Send nodes away: evict one, ban one for good, purge those that never came back. An open feed ends at once, by the change.

What was signed for them and their workloads ends, too (issuer/flows/revoke).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
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

__all__ = ["ManageNodes"]

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

        def work(tx: Transaction, node: Node) -> Node:
            tx.nodes.delete(node.id)
            return node

        return await self._change(node_id, work, action="node evicted", actor=actor)

    async def ban(self, node_id: NodeID, *, actor: str) -> Node:
        """Let a node call no more, nor return, nor join by any invite for it.

        Raises:
            Refused: NOT_FOUND
        """

        def work(tx: Transaction, node: Node) -> Node:
            banned = replace(node, state=NodeState.BANNED)
            tx.nodes.put(banned)
            return banned

        return await self._change(node_id, work, action="node banned", actor=actor)

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
                ended += self._record(tx, node, action="node purged", actor=actor)
            return found, ended

        return await (self.datastore.read(look) if dry_run else self._write(work))

    async def _change(
        self, node_id: NodeID, change: Callable[[Transaction, Node], Node], *, action: str, actor: str
    ) -> Node:
        def work(tx: Transaction) -> tuple[Node, Sequence[Revocation]]:
            node = tx.nodes.get(node_id)
            if node is None:
                raise Refused(
                    Kind.NOT_FOUND, f"node: no node is {node_id}", hint="nodes are listed by: cognomen node list"
                )
            after = change(tx, node)
            return after, self._record(tx, node, action=action, actor=actor)

        return await self._write(work)

    async def _write(self, work: Callable[[Transaction], tuple[_Result, Sequence[Revocation]]]) -> _Result:
        result, ended = await self.datastore.write(work)
        for revocation in ended:
            self.watch.committed(revocation)
        return result

    def _record(self, tx: Transaction, node: Node, *, action: str, actor: str) -> Sequence[Revocation]:
        tx.tokens.void(node.id)
        tx.changes.append([Change(kind=ChangeKind.NODE, subject=node.id)])
        event = AuditEvent(
            at=self.clock.now(), actor=actor, action=action, subject=str(node.spiffe_id), credential=node.current_serial
        )
        tx.audit.append([event])
        target = Target(kind=RevocationKind.NODE, node_ids=(node.id,))
        asked = Revocation(
            target=target, reason=Reason.CESSATION_OF_OPERATION, comment=action, actor=actor, at=event.at
        )
        revocation = end_in(tx, asked, all_of_node(node.id))
        return [] if revocation is None else [revocation]
