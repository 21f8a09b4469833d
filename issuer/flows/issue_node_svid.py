"""Record and sign a node's own X509-SVID: what attest_node and renew_node have in common.

Whether the node may have one is their business.
"""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.decisions import profile
from issuer.decisions.admission import Node, with_pending
from issuer.decisions.audit import CredentialKind
from issuer.decisions.authority import AuthorityKind, active
from issuer.decisions.budget import Allowance
from issuer.decisions.minting import Holder, check_holder
from issuer.decisions.profile import Intent, X509Draft
from issuer.flows.keep_budgets import KeepBudgets
from issuer.issuance import Issuance
from issuer.queries import bundle_in
from issuer.recording import Recorded, record
from svid.bundle import Bundle
from svid.clock import Clock
from svid.keys import PublicKey, public_key_to_der, thumbprint
from svid.spiffeid import TrustDomain

__all__ = ["IssueNodeSVID", "NodeCredential", "NodeIntent"]


_ALLOWANCE = Allowance(burst=300, per_second=1)  # one is due every half hour; a lost answer is asked for again


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCredential:
    """A node's X509-SVID, DER, leaf first, and our bundle."""

    chain: tuple[bytes, ...]
    issued_at: datetime
    bundle: Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIntent:
    """A node SVID on record, not signed yet, and our bundle as it was then."""

    recorded: Recorded[X509Draft]
    bundle: Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueNodeSVID:
    """Issues node SVIDs in two halves: one inside the transaction that decides, one after it."""

    issuance: Issuance
    clock: Clock
    trust_domain: TrustDomain
    ttl: timedelta
    _budgets: KeepBudgets = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_budgets", KeepBudgets(_ALLOWANCE, self.clock))  # frozen for everybody else

    def check_budget(self, *whose: str) -> None:
        """Bound what one node, or one join token, has written: to be asked before anything is.

        Raises:
            Refused: EXHAUSTED
        """
        if not self._budgets.take(*whose):
            raise Refused(
                Kind.EXHAUSTED,
                f"budget: expected at most {_ALLOWANCE.per_second:g} node SVIDs a second, found more; try again later",
            )

    def record(self, tx: Transaction, node: Node, key: PublicKey) -> NodeIntent:
        """Put a new SVID for this node and key on record, pending until its first use.

        Raises:
            Refused: DENIED when the key belongs to something else, UNAVAILABLE without an authority.
        """
        now = self.clock.now()
        public_key = public_key_to_der(key)
        key_hash = thumbprint(public_key)
        check_holder(tx.ledger.holders([key_hash]).get(key_hash), Holder(entry_id=None, node_id=node.id))
        authority = active(tx.authorities.list(), AuthorityKind.X509, now=now)
        validity = profile.validity(now, self.ttl, authority)
        (serial,) = profile.serials(secrets.token_bytes(profile.SERIAL_BYTES), at=now)
        draft = profile.build_node_x509(node.spiffe_id, public_key, serial=serial, validity=validity)
        intent = Intent(kind=CredentialKind.NODE, draft=draft, node_id=node.id)
        actor = str(node.spiffe_id)
        (recorded,) = record(tx, [intent], authority, trust_domain=self.trust_domain, now=now, actor=actor)
        tx.nodes.put(with_pending(node, serial=recorded.credential.serial, not_after=validity.not_after, now=now))
        return NodeIntent(recorded=recorded, bundle=bundle_in(tx, self.trust_domain))

    async def release(self, intent: NodeIntent) -> NodeCredential:
        """Sign what is on record, and let it out."""
        (der,) = await self.issuance.release_x509([intent.recorded])
        return NodeCredential(chain=(der,), issued_at=intent.recorded.credential.issued_at, bundle=intent.bundle)
