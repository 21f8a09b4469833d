"""Attest a node: a stranger with evidence becomes a node with an X509-SVID of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import Token, admit_node, redeem_token
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.minting import parse_key
from issuer.decisions.sampling import Principal
from issuer.flows.audit_refusals import AuditRefusals
from issuer.flows.issue_node_svid import IssueNodeSVID, NodeCredential, NodeIntent
from issuer.nodeattestor.port import AttestedNode, Challenge, NodeAttestor
from svid.clock import Clock
from svid.keys import PublicKey, public_key_to_der, thumbprint
from svid.spiffeid import TrustDomain

__all__ = ["AttestNode", "Evidence"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a joiner shows; `public_key` is a SubjectPublicKeyInfo."""

    attestor: str
    evidence: bytes = field(repr=False)
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestNode:
    """Lets nodes in.

    Args:
        attestors: by their names.
    """

    datastore: Datastore
    attestors: Mapping[str, NodeAttestor]
    node_svids: IssueNodeSVID
    refusals: AuditRefusals
    clock: Clock
    trust_domain: TrustDomain

    async def __call__(self, shown: Evidence, challenge: Challenge) -> NodeCredential:
        """Attest a node; the same token with the same key may come again within the token's life.

        Raises:
            Refused: INVALID, UNAUTHENTICATED, DENIED; it is on record then.
        """
        try:
            # 1. The key that is to be certified.
            key = parse_key(shown.public_key)
            # 2. The evidence, judged by its own kind.
            proof = await self._attestor(shown.attestor).attest(shown.evidence, challenge)
            await self.datastore.read(
                lambda tx: self._redeem(tx, proof, key)
            )  # who has no token takes no turn at writing
            self.node_svids.check_budget("token", proof.token_hash)
            # 3. In one transaction: the token is the first key's, the node stands, its SVID is on record.
            intent = await self.datastore.write(lambda tx: self._admit(tx, proof, key), expendable=True)
        except Refused as refused:
            stranger = Principal.STRANGER
            await self.refusals.record(refused, principal=stranger, actor=stranger, action="node attestation")
            raise
        # 4. Only then a signature.
        credential = await self.node_svids.release(intent)
        log.info("node attested", node=str(intent.recorded.credential.spiffe_id), attestor=shown.attestor)
        return credential

    def _attestor(self, name: str) -> NodeAttestor:
        if name not in self.attestors:
            known = ", ".join(sorted(self.attestors))
            raise Refused(Kind.INVALID, f"attestor: expected one of {known}, found another")
        return self.attestors[name]

    def _redeem(self, tx: Transaction, proof: AttestedNode, key: PublicKey) -> Token:
        key_hash = thumbprint(public_key_to_der(key))
        return redeem_token(tx.tokens.get(proof.token_hash), key_hash=key_hash, now=self.clock.now())

    def _admit(self, tx: Transaction, proof: AttestedNode, key: PublicKey) -> NodeIntent:
        now = self.clock.now()
        token = self._redeem(tx, proof, key)
        known = tx.nodes.get(token.node_id)
        node = admit_node(token, known, trust_domain=self.trust_domain, proved=proof.selectors, now=now)
        intent = self.node_svids.record(tx, node, key)
        tx.tokens.put(token)
        if known is None:
            tx.changes.append([Change(kind=ChangeKind.NODE, subject=node.id)])
        event = AuditEvent(
            at=now,
            actor=str(node.spiffe_id),
            action="node attested",
            subject=str(node.spiffe_id),
            facts={"attestor": node.attestor, "selectors": " ".join(sorted(map(str, node.selectors)))},
        )
        tx.audit.append([event])
        return intent
