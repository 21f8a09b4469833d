"""Readmit a node whose SVID expired. It comes back with the key of that SVID, which signs our nonce and its next key.

issuer/decisions/readmission decides which nodes may. A nonce holds its own expiry and our seal, so that strangers who ask for many cost
no memory. We remember only a nonce that was used correctly, until it expires.
"""

import hashlib
import hmac
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import node_id_of
from cognomen.protocol.possession import Purpose
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.authority import Authority
from issuer.decisions.possession import proved_key
from issuer.decisions.readmission import Claim, check_certified, check_claim, check_return, parse_claim
from issuer.decisions.sampling import Principal
from issuer.keepers.clone_alarm import CloneAlarm
from issuer.keepers.node_svids import NodeCredential, NodeIntent, NodeSVIDs
from issuer.keepers.refusal_record import RefusalRecord
from issuer.surroundings import Surroundings
from svid.spiffeid import TrustDomain

__all__ = ["ReadmitNode", "Shown"]

log = structlog.get_logger(__name__)

_NONCE_SECONDS = 60
_RANDOM_BYTES, _END_BYTES, _SEAL_BYTES = 16, 8, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a returning node shows, not yet parsed: the leaf in DER, a SubjectPublicKeyInfo, a signature by the key of each."""

    certificate: bytes
    nonce: bytes
    public_key: bytes
    signature: bytes = field(repr=False)
    key_signature: bytes = field(repr=False)


class ReadmitNode:
    """Lets nodes back in.

    Args:
        window: how long after its SVID expired a node may return; zero: never.
    """

    def __init__(
        self,
        *,
        datastore: Datastore,
        node_svids: NodeSVIDs,
        refusals: RefusalRecord,
        clones: CloneAlarm,
        around: Surroundings,
        trust_domain: TrustDomain,
        window: timedelta,
    ) -> None:
        self.datastore = datastore
        self.node_svids = node_svids
        self.refusals = refusals
        self.clones = clones
        self.clock = around.clock
        self.trust_domain = trust_domain
        self.window = window
        self._seal_key = secrets.token_bytes(32)
        self._used: OrderedDict[bytes, int] = OrderedDict()

    def begin(self) -> bytes:
        """Make a nonce: valid once, for a minute.

        Shape: 16 random bytes, its expiry in milliseconds of the monotonic clock (8 bytes), our seal over both (32 bytes)
        """
        end = int((self.clock.monotonic() + _NONCE_SECONDS) * 1000)
        content = secrets.token_bytes(_RANDOM_BYTES) + end.to_bytes(_END_BYTES)
        return content + self._seal(content)

    async def __call__(self, shown: Shown) -> NodeCredential:
        """Readmit a node.

        Raises:
            Refused: INVALID, UNAUTHENTICATED, DENIED; it is recorded first.
        """
        principal, actor = Principal.STRANGER, Principal.STRANGER.value
        try:
            # 1. Check the form, and our own seal.
            key = proved_key(
                shown.public_key,
                shown.key_signature,
                purpose=Purpose.READMISSION,
                trust_domain=self.trust_domain,
                bound_to=shown.nonce,
            )
            claim = parse_claim(shown.certificate, nonce=shown.nonce, public_key=key, signature=shown.signature)
            self._check_nonce(claim.nonce)
            # 2. Check what the claim proves on its own.
            authorities = await self.datastore.read(lambda tx: tx.authorities.list())
            signer = check_claim(claim, authorities, self.trust_domain)
            principal, actor = Principal.NODE, str(claim.spiffe_id)
            # 3. Use up the nonce.
            self._take_nonce(claim.nonce)
            self.node_svids.check_budget("node", str(claim.spiffe_id))
            # 4. In one transaction: check that the node may return, and record its next SVID.
            intent = await self.datastore.write(lambda tx: self._readmit(tx, claim, signer), expendable=True)
        except Refused as refused:
            await self.refusals.record(refused, principal=principal, actor=actor, action=Action.NODE_READMISSION)
            await self.clones(refused)
            raise
        # 5. Only then sign.
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
            action=Action.NODE_READMITTED,
            subject=str(node.spiffe_id),
            credential=claim.serial,
            facts={"svid_ended_ago": f"{away.total_seconds():.0f}s"},
        )
        tx.audit.append([event])
        return intent

    def _check_nonce(self, nonce: bytes) -> None:
        content, seal = nonce[:-_SEAL_BYTES], nonce[-_SEAL_BYTES:]
        if len(nonce) != _RANDOM_BYTES + _END_BYTES + _SEAL_BYTES or not hmac.compare_digest(seal, self._seal(content)):
            raise Refused(Kind.UNAUTHENTICATED, "nonce: invalid, this issuer did not make it")
        self._check_in_time(nonce, self._now())

    def _take_nonce(self, nonce: bytes) -> None:
        now = self._now()  # read once: a nonce that is still valid at this moment must not be forgotten either
        self._check_in_time(nonce, now)
        while self._used and next(iter(self._used.values())) <= now:  # roughly ordered by expiry
            self._used.popitem(last=False)
        if nonce in self._used:
            raise Refused(Kind.UNAUTHENTICATED, "nonce: already used")
        self._used[nonce] = self._end(nonce)

    def _check_in_time(self, nonce: bytes, now: float) -> None:
        if now >= self._end(nonce):
            raise Refused(Kind.UNAUTHENTICATED, f"nonce: expired, it is valid for {_NONCE_SECONDS} s")

    def _now(self) -> float:
        return self.clock.monotonic() * 1000

    def _end(self, nonce: bytes) -> int:
        return int.from_bytes(nonce[_RANDOM_BYTES:-_SEAL_BYTES])

    def _seal(self, content: bytes) -> bytes:
        return hmac.new(self._seal_key, content, hashlib.sha256).digest()
