"""Readmit a node: one whose SVID ran out comes back by the key of that SVID, which signs a nonce of ours and its next key.

Who may is decided in issuer/decisions/readmission. A nonce holds its own end and our seal, so that strangers who ask for many take no
memory; only one that was used rightly is remembered, until its end.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.audit import AuditEvent
from issuer.decisions.authority import Authority
from issuer.decisions.minting import parse_key
from issuer.decisions.names import node_id_of
from issuer.decisions.readmission import Claim, check_certified, check_claim, check_return, parse_claim
from issuer.decisions.sampling import Principal
from issuer.flows.answer_clones import AnswerClones
from issuer.flows.audit_refusals import AuditRefusals
from issuer.flows.issue_node_svid import IssueNodeSVID, NodeCredential, NodeIntent
from svid.clock import Clock
from svid.spiffeid import TrustDomain

__all__ = ["ReadmitNode", "Shown"]

log = structlog.get_logger(__name__)

_NONCE_SECONDS = 60
_RANDOM_BYTES, _END_BYTES, _SEAL_BYTES = 16, 8, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a returning node shows, as it came: the leaf in DER, a SubjectPublicKeyInfo."""

    certificate: bytes
    nonce: bytes
    public_key: bytes
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadmitNode:
    """Lets nodes back in.

    Args:
        window: how long after the end of its SVID a node may return; zero: never.
    """

    datastore: Datastore
    node_svids: IssueNodeSVID
    refusals: AuditRefusals
    clones: AnswerClones
    clock: Clock
    trust_domain: TrustDomain
    window: timedelta
    _seal_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    _used: OrderedDict[bytes, int] = field(default_factory=OrderedDict, repr=False)

    def begin(self) -> bytes:
        """Make a nonce: good once, for a minute.

        Shape: 16 random bytes, its end in milliseconds of the monotonic clock (8 bytes), our seal over both (32 bytes)
        """
        end = int((self.clock.monotonic() + _NONCE_SECONDS) * 1000)
        content = secrets.token_bytes(_RANDOM_BYTES) + end.to_bytes(_END_BYTES)
        return content + self._seal(content)

    async def __call__(self, shown: Shown) -> NodeCredential:
        """Readmit a node.

        Raises:
            Refused: INVALID, UNAUTHENTICATED, DENIED; it is on record then.
        """
        principal, actor = Principal.STRANGER, Principal.STRANGER.value
        try:
            # 1. The form of it, and our own seal.
            key = parse_key(shown.public_key)
            claim = parse_claim(shown.certificate, nonce=shown.nonce, public_key=key, signature=shown.signature)
            self._check_nonce(claim.nonce)
            # 2. What it proves by itself.
            authorities = await self.datastore.read(lambda tx: tx.authorities.list())
            signer = check_claim(claim, authorities, self.trust_domain)
            principal, actor = Principal.NODE, str(claim.spiffe_id)
            # 3. The nonce is used up.
            self._take_nonce(claim.nonce)
            self.node_svids.check_budget("node", str(claim.spiffe_id))
            # 4. In one transaction: the node may return, its next SVID is on record.
            intent = await self.datastore.write(lambda tx: self._readmit(tx, claim, signer), expendable=True)
        except Refused as refused:
            await self.refusals.record(refused, principal=principal, actor=actor, action="node readmission")
            await self.clones(refused)
            raise
        # 5. Only then a signature.
        credential = await self.node_svids.release(intent)
        log.info("node readmitted", node=actor)
        return credential

    def _readmit(self, tx: Transaction, claim: Claim, signer: Authority) -> NodeIntent:
        node_id = node_id_of(claim.spiffe_id)
        known = None if node_id is None else tx.nodes.get(node_id)
        now = self.clock.now()
        recorded = tx.ledger.get(claim.serial)
        check_certified(claim, signer, key_hash=None if recorded is None else recorded.key_hash)
        node = check_return(claim, known, is_recorded=recorded is not None, window=self.window, now=now)
        intent = self.node_svids.record(tx, node, claim.public_key)
        away = max(now - claim.leaf.not_valid_after_utc, timedelta())
        event = AuditEvent(
            at=now,
            actor=str(node.spiffe_id),
            action="node readmitted",
            subject=str(node.spiffe_id),
            credential=claim.serial,
            facts={"svid_ended_ago": f"{away.total_seconds():.0f}s"},
        )
        tx.audit.append([event])
        return intent

    def _check_nonce(self, nonce: bytes) -> None:
        content, seal = nonce[:-_SEAL_BYTES], nonce[-_SEAL_BYTES:]
        if len(nonce) != _RANDOM_BYTES + _END_BYTES + _SEAL_BYTES or not hmac.compare_digest(seal, self._seal(content)):
            raise Refused(Kind.UNAUTHENTICATED, "nonce: expected one that this issuer gave, found another")
        self._check_in_time(nonce, self._now())

    def _take_nonce(self, nonce: bytes) -> None:
        now = self._now()  # once: what is in time by this moment is not forgotten by it either
        self._check_in_time(nonce, now)
        while self._used and next(iter(self._used.values())) <= now:  # about in the order of their ends
            self._used.popitem(last=False)
        if nonce in self._used:
            raise Refused(Kind.UNAUTHENTICATED, "nonce: expected it once, found it again")
        self._used[nonce] = self._end(nonce)

    def _check_in_time(self, nonce: bytes, now: float) -> None:
        if now >= self._end(nonce):
            raise Refused(Kind.UNAUTHENTICATED, f"nonce: expected it within {_NONCE_SECONDS} s, found it later")

    def _now(self) -> float:
        return self.clock.monotonic() * 1000

    def _end(self, nonce: bytes) -> int:
        return int.from_bytes(nonce[_RANDOM_BYTES:-_SEAL_BYTES])

    def _seal(self, content: bytes) -> bytes:
        return hmac.new(self._seal_key, content, hashlib.sha256).digest()
