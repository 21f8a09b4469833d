"""Record and sign a node's own X509-SVID, for attest_node, renew_node and readmit_node.

They decide whether the node may have one. This module limits how often, for one node or join token.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from cognomen.protocol.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.decisions import profile
from issuer.decisions.admission import Node, with_pending
from issuer.decisions.authority import AuthorityKind, active
from issuer.decisions.budget import Allowance
from issuer.decisions.ledger import CredentialKind
from issuer.decisions.minting import Holder, check_holder, check_not_own
from issuer.decisions.profile import Intent, X509Draft
from issuer.issuance import Issuance
from issuer.keepers.budgets import Budgets
from issuer.recording import Recorded, record
from issuer.surroundings import Surroundings
from issuer.works.reads import bundle_in, own_keys_in
from svid.bundle import Bundle
from svid.keys import PublicKey, public_key_to_der, thumbprint
from svid.spiffeid import TrustDomain

__all__ = ["NodeCredential", "NodeIntent", "NodeSVIDs"]


_ALLOWANCE = Allowance(burst=300, per_second=1)  # one is due every half hour; if an answer is lost, the node asks again


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCredential:
    """A node's X509-SVID, DER, leaf first, and our bundle."""

    chain: tuple[bytes, ...]
    issued_at: datetime
    bundle: Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIntent:
    """A node SVID that is recorded but not yet signed, and our bundle as it was then."""

    recorded: Recorded[X509Draft]
    bundle: Bundle


class NodeSVIDs:
    """Issues node SVIDs in two halves: one inside the deciding transaction, one after it."""

    def __init__(self, *, issuance: Issuance, around: Surroundings, trust_domain: TrustDomain, ttl: timedelta) -> None:
        self.issuance = issuance
        self.clock = around.clock
        self.trust_domain = trust_domain
        self.ttl = ttl
        self._budgets = Budgets(_ALLOWANCE, self.clock)

    def check_budget(self, *whose: str) -> None:
        """Limit how much one node or join token makes us write; call this before writing.

        Raises:
            Refused: EXHAUSTED
        """
        if not self._budgets.take(*whose):
            raise Refused(
                Kind.EXHAUSTED,
                f"budget: expected at most {_ALLOWANCE.per_second:g} node SVIDs a second, found more; try again later",
            )

    def record(self, tx: Transaction, node: Node, key: PublicKey) -> NodeIntent:
        """Record a new SVID for this node and key; it is pending until its first use.

        Raises:
            Refused: DENIED when the key belongs to something else, UNAVAILABLE without an authority.
        """
        now = self.clock.now()
        public_key = public_key_to_der(key)
        key_hash = thumbprint(public_key)
        check_not_own(key_hash, own_keys_in(tx))
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
        """Sign what was recorded, and release it."""
        (chain,) = await self.issuance.release_x509([intent.recorded])
        return NodeCredential(chain=chain, issued_at=intent.recorded.credential.issued_at, bundle=intent.bundle)
