"""Answer an SVID of a node that was replaced and is shown again: tell it in the status, and ban the node where that is configured.

When one counts as replaced is decided in issuer/decisions/admission; its row in the audit record is written by audit_refusals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from cognomen.daemon.errors import Refused
from cognomen.daemon.troubles import Troubles
from issuer.config import OnClone
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import Node, NodeState, Superseded, was_replaced
from issuer.decisions.audit import NodeID
from issuer.decisions.revocation import Reason, Revocation
from issuer.flows.manage_nodes import Order, ban_in
from issuer.flows.watch_enforcement import WatchEnforcement
from svid.clock import Clock

__all__ = ["AnswerClones"]

log = structlog.get_logger(__name__)

_CLONE = "suspected clone"
_TOLD_FOR = timedelta(days=1)  # nothing that happens here says that it is over
_ACTOR = "issuer"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerClones:
    """Answers them."""

    datastore: Datastore
    clock: Clock
    watch: WatchEnforcement
    troubles: Troubles
    on_clone: OnClone

    async def __call__(self, refused: Refused) -> None:
        """Answer what was refused, if it is such an SVID.

        Raises:
            Refused: UNAVAILABLE, as the store.
        """
        if not isinstance(refused, Superseded):
            return
        # 1. Whoever asks how the issuer is, hears of it for a day.
        hint = f"{refused.hint}; cognomen audit tail says more"
        self.troubles.note(_CLONE, f"{refused.detail}: {hint}", subject=f"node {refused.node}", kept_for=_TOLD_FOR)
        # 2. Where it is configured, the node is banned: looked at first, for whoever is refused may come as often as they like.
        if self.on_clone is OnClone.ALARM:
            return
        clone = await self.datastore.read(lambda tx: self._clone_of(tx, refused))
        if clone is not None:
            for revocation in await self.datastore.write(lambda tx: self._ban(tx, refused)):
                self.watch.committed(revocation)
            log.error("node banned", node=refused.node, reason=_CLONE, serial=refused.serial)

    def _clone_of(self, tx: Transaction, refused: Superseded) -> Node | None:
        """The node of which a replaced SVID was shown, if it may still call."""
        node, shown = tx.nodes.get(NodeID(refused.node)), tx.ledger.get(refused.serial)
        is_clone = was_replaced(node, shown, key_hash=refused.key_hash, now=self.clock.now())
        return node if is_clone and node is not None and node.state is NodeState.ACTIVE else None

    def _ban(self, tx: Transaction, refused: Superseded) -> Sequence[Revocation]:
        if (node := self._clone_of(tx, refused)) is None:
            return []
        why = f"a replaced SVID was shown again, {refused.serial}"
        at = self.clock.now()
        order = Order(action="node banned", actor=_ACTOR, at=at, reason=Reason.KEY_COMPROMISE, why=why)
        _, ended = ban_in(tx, node, order)
        return ended
