"""Admit one call to the node door: who calls is what TLS proved, whether it may is decided on the node's row."""

from dataclasses import dataclass

from cognomen.daemon.errors import Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import admission
from issuer.decisions.admission import Node, Peer
from issuer.decisions.audit import AuditEvent
from issuer.decisions.names import node_id_of
from issuer.flows.audit_refusals import AuditRefusals
from svid.clock import Clock
from svid.spiffeid import TrustDomain

__all__ = ["AdmitCall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitCall:
    """Answers which node calls, or refuses."""

    datastore: Datastore
    refusals: AuditRefusals
    clock: Clock
    trust_domain: TrustDomain

    async def __call__(self, peer: Peer) -> Node:
        """Admit a call.

        Raises:
            Refused: as issuer/decisions/admission says; it is on record then.
        """
        try:
            # 1. Look at the node's row.
            before = await self.datastore.read(lambda tx: _row(tx, peer))
            # 2. Decide.
            after = self._decide(peer, before)
            # 3. The first use of a pending SVID makes it the current one: decided again where it is written.
            return after if after == before else await self.datastore.write(lambda tx: self._promote(tx, peer))
        except Refused as refused:
            await self.refusals.record(refused, actor=str(peer.spiffe_id), action="node call")
            raise

    def _decide(self, peer: Peer, node: Node | None) -> Node:
        return admission.admit_call(peer, node, trust_domain=self.trust_domain, now=self.clock.now())

    def _promote(self, tx: Transaction, peer: Peer) -> Node:
        before = _row(tx, peer)
        node = self._decide(peer, before)
        if node == before:  # another call was first
            return node
        tx.nodes.put(node)
        event = AuditEvent(
            at=self.clock.now(),
            actor=str(node.spiffe_id),
            action="node svid first used",
            subject=str(node.spiffe_id),
            credential=peer.serial,
        )
        tx.audit.append([event])
        return node


def _row(tx: Transaction, peer: Peer) -> Node | None:
    node_id = node_id_of(peer.spiffe_id)
    return None if node_id is None else tx.nodes.get(node_id)
