"""Mint JWT-SVIDs for a node's workloads, in batches: decide and record in one transaction, sign only then.

What an item must satisfy is decided in issuer/decisions/minting, how a token looks in profile.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from cognomen.daemon.audiences import check_audiences
from cognomen.daemon.errors import Refused
from issuer.datastore.port import Transaction
from issuer.decisions import minting, profile
from issuer.decisions.admission import Node
from issuer.decisions.audit import Credential, CredentialKind
from issuer.decisions.authority import AuthorityKind
from issuer.decisions.budget import mint_cost
from issuer.decisions.lint import lint_jwt_draft
from issuer.decisions.profile import JWTDraft
from issuer.flows.hold_keys import HoldKeys
from issuer.flows.mint_batch import Granting, Intent, Issued, MintBatch
from svid.entry import EntryID, RegistrationEntry
from svid.spiffeid import TrustDomain

__all__ = ["IssueJWTSVIDs", "JWTRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTRequest:
    """A JWT-SVID wanted: for this entry and these audiences."""

    entry_id: EntryID
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    entry_id: EntryID
    audiences: tuple[str, ...]
    jti: str
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueJWTSVIDs:
    """Mints JWT-SVIDs.

    Args:
        ttl: of entries that name none.
    """

    batches: MintBatch
    keys: HoldKeys
    trust_domain: TrustDomain
    ttl: timedelta

    async def __call__(self, node: Node, requests: Sequence[JWTRequest]) -> Sequence[Issued[str] | Refused]:
        """Mint a batch of tokens, answers in order.

        Raises:
            Refused: the whole batch: INVALID for its size, UNAVAILABLE when the store or the authority is.
        """
        # 1. Bound the batch and its audiences.
        minting.check_batch(len(requests))
        random = secrets.token_bytes(profile.SERIAL_BYTES * len(requests))
        serials = profile.serials(random, at=self.batches.clock.now())
        wishes = list(map(_parse, requests, map(profile.serial_to_text, serials)))
        # 2. Decide, record, sign.
        return await self.batches.mint(node, wishes, AuthorityKind.JWT, self._prepare, self.keys.sign_jwt)

    def _prepare(
        self, tx: Transaction, wishes: Sequence[_Wish]
    ) -> Callable[[_Wish, RegistrationEntry, Granting], Intent[JWTDraft]]:
        del tx, wishes  # a token has no key of its own: nothing more to look up
        return self._intend

    def _intend(self, wish: _Wish, entry: RegistrationEntry, granting: Granting) -> Intent[JWTDraft]:
        now, authority = granting.now, granting.authority
        validity = profile.entry_validity(entry, ttl=entry.jwt_svid_ttl or self.ttl, now=now, authority=authority)
        draft = profile.build_jwt(entry, wish.audiences, jti=wish.jti, validity=validity)
        lint_jwt_draft(draft, trust_domain=self.trust_domain, authority=authority, now=now)
        credential = Credential(
            kind=CredentialKind.JWT,
            serial=wish.jti,
            spiffe_id=entry.spiffe_id,
            authority_id=authority.key_id,
            issued_at=now,
            not_after=validity.not_after,
            entry_id=entry.id,
            entry_revision=entry.revision,
            node_id=granting.node.id,
            audiences=wish.audiences,
        )
        return Intent(draft=draft, credential=credential)


def _parse(request: JWTRequest, jti: str) -> _Wish | Refused:
    try:
        minting.check_entry_id(request.entry_id)
        check_audiences(request.audiences, field="audiences")
    except Refused as refused:
        return refused
    cost = mint_cost(request.audiences)
    return _Wish(entry_id=request.entry_id, audiences=request.audiences, jti=jti, cost=cost)
