"""Mint X509-SVIDs for a node's workloads, in batches: decide and record in one transaction, sign only then.

What an item must satisfy is decided in issuer/decisions/minting, how a certificate looks in profile.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.decisions import minting, profile
from issuer.decisions.admission import Node
from issuer.decisions.audit import Credential, CredentialKind
from issuer.decisions.authority import AuthorityKind
from issuer.decisions.lint import lint_x509_draft
from issuer.decisions.profile import X509Draft
from issuer.flows.hold_keys import HoldKeys
from issuer.flows.mint_batch import Granting, Intent, Issued, MintBatch
from svid.entry import EntryID, RegistrationEntry
from svid.keys import thumbprint
from svid.spiffeid import TrustDomain

__all__ = ["IssueX509SVIDs", "X509Request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Request:
    """An X509-SVID wanted: for this entry and this SubjectPublicKeyInfo."""

    entry_id: EntryID
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    entry_id: EntryID
    public_key: bytes
    key_hash: str
    serial: int
    cost: float = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueX509SVIDs:
    """Mints X509-SVIDs.

    Args:
        ttl: of entries that name none.
    """

    batches: MintBatch
    keys: HoldKeys
    trust_domain: TrustDomain
    ttl: timedelta

    async def __call__(self, node: Node, requests: Sequence[X509Request]) -> Sequence[Issued[bytes] | Refused]:
        """Mint a batch of certificates in DER, answers in order.

        Raises:
            Refused: the whole batch: INVALID for its size, UNAVAILABLE when the store or the authority is.
        """
        # 1. Bound the batch, parse its keys.
        minting.check_batch(len(requests))
        random = secrets.token_bytes(profile.SERIAL_BYTES * len(requests))
        serials = profile.serials(random, at=self.batches.clock.now())
        wishes = list(map(_parse, requests, serials))
        # 2. Decide, record, sign.
        return await self.batches.mint(node, wishes, AuthorityKind.X509, self._prepare, self.keys.sign_x509)

    def _prepare(
        self, tx: Transaction, wishes: Sequence[_Wish]
    ) -> Callable[[_Wish, RegistrationEntry, Granting], Intent[X509Draft]]:
        holders = tx.ledger.holders({wish.key_hash for wish in wishes})
        shared = minting.shared_keys((wish.entry_id, wish.key_hash) for wish in wishes)

        def draft(wish: _Wish, entry: RegistrationEntry, granting: Granting) -> Intent[X509Draft]:
            if wish.key_hash in shared:
                raise Refused(Kind.INVALID, "public_key: expected a key for each entry, found one under several")
            minting.check_holder(holders.get(wish.key_hash), (entry.id, granting.node.id))
            return self._intend(wish, entry, granting)

        return draft

    def _intend(self, wish: _Wish, entry: RegistrationEntry, granting: Granting) -> Intent[X509Draft]:
        now, authority = granting.now, granting.authority
        validity = profile.entry_validity(entry, ttl=entry.x509_svid_ttl or self.ttl, now=now, authority=authority)
        draft = profile.build_x509(entry, wish.public_key, serial=wish.serial, validity=validity)
        lint_x509_draft(draft, trust_domain=self.trust_domain, authority=authority, now=now)
        credential = Credential(
            kind=CredentialKind.X509,
            serial=profile.serial_to_text(wish.serial),
            spiffe_id=entry.spiffe_id,
            authority_id=authority.key_id,
            issued_at=now,
            not_after=validity.not_after,
            entry_id=entry.id,
            entry_revision=entry.revision,
            node_id=granting.node.id,
            key_hash=wish.key_hash,
        )
        return Intent(draft=draft, credential=credential)


def _parse(request: X509Request, serial: int) -> _Wish | Refused:
    try:
        minting.check_entry_id(request.entry_id)
        minting.parse_key(request.public_key)
    except Refused as refused:
        return refused
    return _Wish(
        entry_id=request.entry_id,
        public_key=request.public_key,
        key_hash=thumbprint(request.public_key),
        serial=serial,
    )
