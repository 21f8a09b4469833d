"""Renew a node's SVID: a new key, and a new serial that is pending until it is used."""

from dataclasses import dataclass

import structlog

from cognomen.protocol.errors import Refused
from cognomen.protocol.possession import Purpose
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.possession import proved_key
from issuer.decisions.sampling import Alarm, Principal
from issuer.keepers.node_svids import NodeCredential, NodeIntent, NodeSVIDs
from issuer.keepers.refusal_record import RefusalRecord
from svid.keys import PublicKey

__all__ = ["RenewNode"]


log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewNode:
    """Renews node SVIDs."""

    datastore: Datastore
    node_svids: NodeSVIDs
    refusals: RefusalRecord

    async def __call__(self, node: Node, public_key: bytes, key_signature: bytes) -> NodeCredential:
        """Renew the SVID of a node whose call was admitted.

        Args:
            key_signature: made with the new key.

        Raises:
            Refused: INVALID for a key that we do not certify; UNAUTHENTICATED for a key that the node does not have; EXHAUSTED when the
        node asks too often; DENIED when the key belongs to something else, or the caller's SVID has been superseded.
        """
        try:
            # 1. Check the new key, and that the node has it.
            key = proved_key(
                public_key,
                key_signature,
                purpose=Purpose.RENEWAL,
                trust_domain=node.spiffe_id.trust_domain,
                bound_to=node.current_serial.encode(),
            )
            self.node_svids.check_budget("node", node.id)
            # 2. In one transaction: check that the caller's SVID is still the node's current one, and record the next one.
            intent = await self.datastore.write(lambda tx: self._renew(tx, node, key), expendable=True)
        except Refused as refused:
            actor = str(node.spiffe_id)
            await self.refusals.record(refused, principal=Principal.NODE, actor=actor, action=Action.NODE_SVID_RENEWAL)
            raise
        # 3. Only then sign.
        credential = await self.node_svids.release(intent)
        log.info("node svid renewed", node=str(node.spiffe_id))
        return credential

    def _renew(self, tx: Transaction, admitted: Node, key: PublicKey) -> NodeIntent:
        node = tx.nodes.get(admitted.id)
        if node is None or node.state is not NodeState.ACTIVE or node.current_serial != admitted.current_serial:
            raise Alarm("node SVID: superseded by a later one", node=admitted.id, serial=admitted.current_serial)
        return self.node_svids.record(tx, node, key)
