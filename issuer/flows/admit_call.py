"""Admit one call to the node door: TLS has proved who the caller is, and the node's row decides whether it may call."""

from dataclasses import dataclass

from cognomen.protocol.errors import Refused
from cognomen.protocol.names import node_id_of
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import admission
from issuer.decisions.actions import Action
from issuer.decisions.admission import Node, Peer
from issuer.decisions.audit import AuditEvent
from issuer.decisions.authority import AuthorityKind, has_tainted
from issuer.decisions.sampling import Principal
from issuer.keepers.clone_alarm import CloneAlarm
from issuer.keepers.refusal_record import RefusalRecord
from issuer.surroundings import Surroundings
from svid.spiffeid import TrustDomain

__all__ = ["AdmitCall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitCall:
    """Returns the node that calls, or refuses the call."""

    datastore: Datastore
    refusals: RefusalRecord
    clones: CloneAlarm
    around: Surroundings
    trust_domain: TrustDomain

    async def __call__(self, peer: Peer) -> Node:
        """Admit a call.

        Raises:
            Refused: as issuer/decisions/admission says; it is recorded first.
        """
        try:
            # 1. Read the node's row and decide.
            before, after = await self.datastore.read(lambda tx: self._decide(tx, peer))
            # 2. The first use of a pending SVID makes it the current one. The transaction that writes this decides again.
            return after if after == before else await self.datastore.write(lambda tx: self._promote(tx, peer))
        except Refused as refused:
            principal = Principal.WORKLOAD if node_id_of(peer.spiffe_id) is None else Principal.NODE
            await self.refusals.record(refused, principal=principal, actor=str(peer.spiffe_id), action=Action.NODE_CALL)
            await self.clones(refused)
            raise

    def _decide(self, tx: Transaction, peer: Peer) -> tuple[Node | None, Node]:
        """The stored row, and the row as it must be once the call is admitted."""
        node_id = node_id_of(peer.spiffe_id)
        node = None if node_id is None else tx.nodes.get(node_id)
        recorded = tx.ledger.get(peer.serial)
        admitted = admission.admit_call(
            peer, node, recorded=recorded, trust_domain=self.trust_domain, now=self.around.clock.now()
        )
        key_hash = None if recorded is None else recorded.key_hash
        is_tainted = recorded is None and has_tainted(tx.authorities.list(), AuthorityKind.X509)
        admission.check_key(peer, admitted, key_hash=key_hash, is_tainted=is_tainted)
        return node, admitted

    def _promote(self, tx: Transaction, peer: Peer) -> Node:
        before, node = self._decide(tx, peer)
        if node == before:  # another call was first
            return node
        tx.nodes.put(node)
        event = AuditEvent(
            at=self.around.clock.now(),
            actor=str(node.spiffe_id),
            action=Action.NODE_SVID_FIRST_USED,
            subject=str(node.spiffe_id),
            credential=peer.serial,
        )
        tx.audit.append([event])
        return node
