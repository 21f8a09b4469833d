"""React to a replaced node SVID that is shown again: report it in the status, and ban the node if that is configured.

issuer/decisions/admission decides when an SVID counts as replaced; refusal_record writes the audit row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from cognomen.protocol.errors import Refused
from cognomen.protocol.names import NodeID
from issuer.config import OnClone
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.admission import Node, NodeState, Superseded, was_replaced
from issuer.decisions.revocation import Reason, Revocation
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.surroundings import Surroundings
from issuer.works.nodes import Order, ban_in

__all__ = ["CloneAlarm"]

log = structlog.get_logger(__name__)

_CLONE = "suspected clone"
_TOLD_FOR = timedelta(days=1)  # no event here tells us when it is over
_ACTOR = "issuer"


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneAlarm:
    """Reports clones, and bans them if that is configured."""

    datastore: Datastore
    around: Surroundings
    watch: EnforcementWatch
    on_clone: OnClone

    async def __call__(self, refused: Refused) -> None:
        """React to a refusal, if it is about a replaced SVID.

        Raises:
            Refused: UNAVAILABLE, from the store.
        """
        if not isinstance(refused, Superseded):
            return
        # 1. Show it in the status for a day.
        hint = f"{refused.hint}; for details: cognomen audit tail"
        self.around.troubles.note(
            _CLONE, f"{refused.detail}: {hint}", subject=f"node {refused.node}", kept_for=_TOLD_FOR
        )
        # 2. Ban the node if that is configured. Read first, because a refused caller may come back any number of times.
        if self.on_clone is OnClone.ALARM:
            return
        clone = await self.datastore.read(lambda tx: self._clone_of(tx, refused))
        if clone is not None:
            for revocation in await self.datastore.write(lambda tx: self._ban(tx, refused)):
                self.watch.committed(revocation)
            log.error("node banned", node=refused.node, reason=_CLONE, serial=refused.serial)

    def _clone_of(self, tx: Transaction, refused: Superseded) -> Node | None:
        """The node whose replaced SVID was shown, if it may still call."""
        node, shown = tx.nodes.get(NodeID(refused.node)), tx.ledger.get(refused.serial)
        is_clone = was_replaced(node, shown, key_hash=refused.key_hash, now=self.around.clock.now())
        return node if is_clone and node is not None and node.state is NodeState.ACTIVE else None

    def _ban(self, tx: Transaction, refused: Superseded) -> Sequence[Revocation]:
        if (node := self._clone_of(tx, refused)) is None:
            return []
        why = f"a replaced SVID was shown again, {refused.serial}"
        at = self.around.clock.now()
        order = Order(action=Action.NODE_BANNED, actor=_ACTOR, at=at, reason=Reason.KEY_COMPROMISE, why=why)
        _, ended = ban_in(tx, node, order)
        return ended
