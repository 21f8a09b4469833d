"""Mint X509-SVIDs for a node's workloads, in batches: decide and record in one transaction, sign only then.

What an item must satisfy is decided in issuer/decisions/minting, how a certificate looks in profile.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Transaction
from issuer.decisions import minting, profile
from issuer.decisions.admission import Node
from issuer.decisions.audit import Credential, CredentialKind, CredentialState
from issuer.decisions.authority import AuthorityKind
from issuer.decisions.lint import lint_x509_draft
from issuer.decisions.profile import X509Draft
from issuer.flows.hold_keys import HoldKeys
from issuer.flows.mint_batch import Granting, Intent, MintBatch
from svid.entry import EntryID, RegistrationEntry
from svid.keys import PublicKey, thumbprint
from svid.spiffeid import TrustDomain

__all__ = ["IssueX509SVIDs", "X509Issued", "X509Request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Request:
    """An X509-SVID wanted: for this entry and this SubjectPublicKeyInfo."""

    entry_id: EntryID
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Issued:
    """An X509-SVID, DER, leaf first; half-lives count from issued_at."""

    chain: tuple[bytes, ...]
    issued_at: datetime
    entry_revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    entry_id: EntryID
    key: PublicKey
    key_hash: str
    serial: int


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

    async def __call__(self, node: Node, requests: Sequence[X509Request]) -> Sequence[X509Issued | Refused]:
        """Mint a batch, answers in order.

        Raises:
            Refused: the whole batch: INVALID for its size, UNAVAILABLE when the store or the authority is.
        """
        # 1. Bound the batch, parse its keys.
        minting.check_batch(len(requests))
        wishes = [_parse(request) for request in requests]
        # 2. In one transaction: what this node may have now; what is granted stands in the ledger, all of it in the audit.
        outcomes, authority = await self.batches.record(node, wishes, AuthorityKind.X509, self._prepare)
        # 3. Only then sign, and lint what came out.
        granted = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
        credentials = [intent.credential for intent in granted]
        try:
            signed = await self.keys.sign_x509([intent.draft for intent in granted], authority)
        except Refused:
            self.batches.resolve(credentials, CredentialState.FAILED)
            raise
        # 4. What became of it, in a second write that nobody waits for.
        self.batches.resolve(credentials, CredentialState.ISSUED)
        ders = iter(signed)
        return [outcome if isinstance(outcome, Refused) else _issued(outcome, next(ders)) for outcome in outcomes]

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
        draft = profile.build_x509(entry, wish.key, serial=wish.serial, validity=validity)
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


def _parse(request: X509Request) -> _Wish | Refused:
    try:
        key = minting.parse_key(request.public_key)
    except Refused as refused:
        return refused
    serial = profile.serial_from(secrets.token_bytes(16))
    return _Wish(entry_id=request.entry_id, key=key, key_hash=thumbprint(request.public_key), serial=serial)


def _issued(intent: Intent[X509Draft], der: bytes) -> X509Issued:
    credential = intent.credential
    return X509Issued(chain=(der,), issued_at=credential.issued_at, entry_revision=credential.entry_revision)
