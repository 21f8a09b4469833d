"""Renew a node's SVID: a new key, a new serial that is pending until it is used."""

from dataclasses import dataclass

import structlog

from cognomen.daemon.errors import Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import Node, NodeState
from issuer.decisions.minting import parse_key
from issuer.decisions.sampling import Alarm, Principal
from issuer.flows.audit_refusals import AuditRefusals
from issuer.flows.issue_node_svid import IssueNodeSVID, NodeCredential, NodeIntent
from svid.keys import PublicKey

__all__ = ["RenewNode"]


log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewNode:
    """Renews node SVIDs."""

    datastore: Datastore
    node_svids: IssueNodeSVID
    refusals: AuditRefusals

    async def __call__(self, node: Node, public_key: bytes) -> NodeCredential:
        """Renew the SVID of a node whose call was admitted.

        Raises:
            Refused: INVALID for a key that we do not certify; EXHAUSTED when it asks too often; DENIED when the key is another's,
                or the caller's SVID was superseded meanwhile.
        """
        try:
            # 1. The new key.
            key = parse_key(public_key)
            self.node_svids.check_budget("node", node.id)
            # 2. In one transaction: the caller still is the node's current SVID, the next one is on record.
            intent = await self.datastore.write(lambda tx: self._renew(tx, node, key), expendable=True)
        except Refused as refused:
            actor = str(node.spiffe_id)
            await self.refusals.record(refused, principal=Principal.NODE, actor=actor, action="node svid renewal")
            raise
        # 3. Only then a signature.
        credential = await self.node_svids.release(intent)
        log.info("node svid renewed", node=str(node.spiffe_id))
        return credential

    def _renew(self, tx: Transaction, admitted: Node, key: PublicKey) -> NodeIntent:
        node = tx.nodes.get(admitted.id)
        if node is None or node.state is not NodeState.ACTIVE or node.current_serial != admitted.current_serial:
            raise Alarm("node SVID: superseded by a later one", node=admitted.id, serial=admitted.current_serial)
        return self.node_svids.record(tx, node, key)
