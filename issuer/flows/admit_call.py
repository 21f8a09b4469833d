"""Admit one call to the node door: who calls is what TLS proved, whether it may is decided on the node's row."""

from dataclasses import dataclass

from cognomen.daemon.errors import Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import admission
from issuer.decisions.admission import Node, Peer
from issuer.decisions.audit import AuditEvent
from issuer.decisions.authority import AuthorityKind, has_tainted
from issuer.decisions.names import node_id_of
from issuer.decisions.sampling import Principal
from issuer.flows.answer_clones import AnswerClones
from issuer.flows.audit_refusals import AuditRefusals
from svid.clock import Clock
from svid.spiffeid import TrustDomain

__all__ = ["AdmitCall"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitCall:
    """Answers which node calls, or refuses."""

    datastore: Datastore
    refusals: AuditRefusals
    clones: AnswerClones
    clock: Clock
    trust_domain: TrustDomain

    async def __call__(self, peer: Peer) -> Node:
        """Admit a call.

        Raises:
            Refused: as issuer/decisions/admission says; it is on record then.
        """
        try:
            # 1. Look at the node's row, and decide.
            before, after = await self.datastore.read(lambda tx: self._decide(tx, peer))
            # 2. The first use of a pending SVID makes it the current one: decided again where it is written.
            return after if after == before else await self.datastore.write(lambda tx: self._promote(tx, peer))
        except Refused as refused:
            principal = Principal.WORKLOAD if node_id_of(peer.spiffe_id) is None else Principal.NODE
            await self.refusals.record(refused, principal=principal, actor=str(peer.spiffe_id), action="node call")
            await self.clones(refused)
            raise

    def _decide(self, tx: Transaction, peer: Peer) -> tuple[Node | None, Node]:
        """The row as it stands, and as it must stand once the call is admitted."""
        node_id = node_id_of(peer.spiffe_id)
        node = None if node_id is None else tx.nodes.get(node_id)
        recorded = tx.ledger.get(peer.serial)
        admitted = admission.admit_call(
            peer, node, is_recorded=recorded is not None, trust_domain=self.trust_domain, now=self.clock.now()
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
            at=self.clock.now(),
            actor=str(node.spiffe_id),
            action="node svid first used",
            subject=str(node.spiffe_id),
            credential=peer.serial,
        )
        tx.audit.append([event])
        return node
