"""Rename nodes, and send them away: evict one, ban one until the ban is lifted, purge those that never came back.

A node that is sent away hears of it at once, and its open feed ends.

What was signed for them and their workloads also ends (issuer/works/denials).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from cognomen.protocol.durations import format_duration
from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.revocation import Revocation
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings
from issuer.works.nodes import Order, ban_in, rename_in, send_away_in
from issuer.works.reads import all_nodes_in, named_node_in

__all__ = ["ManageNodes"]


_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManageNodes:
    """Renames nodes and sends them away, on behalf of an operator."""

    datastore: Datastore
    around: Surroundings
    watch: EnforcementWatch

    async def rename(self, name: str, to: str, *, actor: str) -> Node:
        """Give a node another name. What it calls itself when it attests again does not change it.

        Returns:
            The row as stored.

        Raises:
            Refused: NOT_FOUND; INVALID, EXISTS for that name; it is recorded first.
        """

        def work(tx: Transaction, node: Node) -> tuple[Node, Sequence[Revocation]]:
            return rename_in(tx, node, to, actor=actor, at=self.around.clock.now()), ()

        return await self._change(name, work, Action.NODE_RENAMED, actor)

    async def evict(self, name: str, *, actor: str) -> Node:
        """Forget a node, named by its id, SPIFFE ID or name. It may join again with a new invite, as a new node.

        Returns:
            The row as it was.

        Raises:
            Refused: NOT_FOUND, INVALID; CONFLICT for a banned node, whose row is what keeps it out; it is recorded first.
        """

        def work(tx: Transaction, node: Node) -> tuple[Node, Sequence[Revocation]]:
            if node.state is NodeState.BANNED:
                raise Refused(
                    Kind.CONFLICT,
                    "node: banned",
                    hint=f"it stays listed while it is banned; to forget the node and the ban: cognomen node unban {node.id}",
                )
            tx.nodes.delete(node.id)
            return node, send_away_in(
                tx, node, Order(action=Action.NODE_EVICTED, actor=actor, at=self.around.clock.now())
            )

        return await self._change(name, work, Action.NODE_EVICTED, actor)

    async def ban(self, name: str, *, actor: str) -> Node:
        """Ban a node, named by its id, SPIFFE ID or name: it can no longer call, return, or join with any invite for it.

        If its machine joins by token, a new invite lets it in as a new node; a machine that proves an identity of its own is kept out.

        Raises:
            Refused: NOT_FOUND, INVALID; it is recorded first.
        """
        order = Order(action=Action.NODE_BANNED, actor=actor, at=self.around.clock.now())
        return await self._change(name, lambda tx, node: ban_in(tx, node, order), Action.NODE_BANNED, actor)

    async def unban(self, name: str, *, actor: str) -> Node:
        """Forget a banned node and its ban: its machine may join as a new node. What was revoked stays revoked.

        Returns:
            The row as it was.

        Raises:
            Refused: NOT_FOUND, INVALID; CONFLICT for a node that is not banned; it is recorded first.
        """

        def work(tx: Transaction, node: Node) -> tuple[Node, Sequence[Revocation]]:
            if node.state is not NodeState.BANNED:
                raise Refused(Kind.CONFLICT, "node: not banned", hint=f"to forget it: cognomen node evict {node.id}")
            tx.nodes.delete(node.id)
            return node, send_away_in(
                tx, node, Order(action=Action.NODE_UNBANNED, actor=actor, at=self.around.clock.now())
            )

        return await self._change(name, work, Action.NODE_UNBANNED, actor)

    async def purge(self, expired_for: timedelta, *, dry_run: bool, actor: str) -> Sequence[Node]:
        """Forget the nodes whose SVID expired that long ago. Banned nodes are kept, so that they stay banned.

        Returns:
            The rows as they were.

        Raises:
            Refused: INVALID; it is recorded first, unless this was a dry run.
        """

        def look(tx: Transaction) -> Sequence[Node]:
            over = self._before(expired_for)
            return [node for node in all_nodes_in(tx) if node.state is NodeState.ACTIVE and node.svid_not_after < over]

        def work(tx: Transaction) -> tuple[Sequence[Node], Sequence[Revocation]]:
            found, ended = look(tx), list[Revocation]()
            for node in found:
                tx.nodes.delete(node.id)
                ended += send_away_in(
                    tx, node, Order(action=Action.NODE_PURGED, actor=actor, at=self.around.clock.now())
                )
            return found, ended

        if dry_run:
            return await self.datastore.read(look)
        return await self._write(work, Action.NODE_PURGED, actor=actor)

    def _before(self, expired_for: timedelta) -> datetime:
        if expired_for < timedelta():
            raise Refused(Kind.INVALID, "expired_for: expected a duration of at least 0s, found a negative one")
        try:
            return self.around.clock.now() - expired_for
        except OverflowError as e:
            found = format_duration(expired_for)
            raise Refused(Kind.INVALID, f"expired_for: expected a duration since the year 1, found {found}") from e

    async def _change(
        self,
        name: str,
        change: Callable[[Transaction, Node], tuple[Node, Sequence[Revocation]]],
        action: Action,
        actor: str,
    ) -> Node:
        return await self._write(lambda tx: change(tx, named_node_in(tx, name)), action, actor=actor, subject=name)

    async def _write(
        self,
        work: Callable[[Transaction], tuple[_Result, Sequence[Revocation]]],
        action: Action,
        *,
        actor: str,
        subject: str = "",
    ) -> _Result:
        async with refusals_on_record(self.datastore, self.around.clock, action, actor=actor, subject=subject):
            result, ended = await self.datastore.write(work)
        for revocation in ended:
            self.watch.committed(revocation)
        return result
