"""Mint a node's X509-SVIDs and JWT-SVIDs, in batches: decide and record in one transaction, sign only then.

issuer/decisions/minting decides what an item must satisfy, and which draft it becomes.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Generic, NamedTuple, TypeVar

import structlog

from cognomen.protocol.entry import MAX_ENTRY_ID_BYTES, EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import agent_and_component
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import profile
from issuer.decisions.actions import Action
from issuer.decisions.admission import Node
from issuer.decisions.authority import AuthorityKind, active
from issuer.decisions.entitlement import parent_ends, parents_of
from issuer.decisions.ledger import Credential
from issuer.decisions.minting import Granting, Wish, check_batch, judge, jwt_wish, shared_keys, x509_wish
from issuer.decisions.profile import JWTDraft, X509Draft
from issuer.decisions.rulebooks import is_of_rulebook
from issuer.issuance import Issuance
from issuer.keepers.budgets import MintBudgets
from issuer.keepers.issuance_limits import Claim, IssuanceLimits
from issuer.keepers.refusal_record import RefusalRecord, RefusedItems
from issuer.recording import Recorded, record
from issuer.surroundings import Surroundings
from issuer.works.reads import active_node_in, blocks_in, groups_in, own_keys_in, parents_in
from svid.spiffeid import TrustDomain

__all__ = ["IssueSVIDs", "Issued", "JWTRequest", "X509Request"]

_MINTED = {AuthorityKind.X509: Action.X509_MINTED, AuthorityKind.JWT: Action.JWT_MINTED}

log = structlog.get_logger(__name__)

DraftT = TypeVar("DraftT", X509Draft, JWTDraft)
SignedT = TypeVar("SignedT")


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Request:
    """A request for an X509-SVID, for this entry and this SubjectPublicKeyInfo."""

    entry_id: EntryID
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JWTRequest:
    """A request for a JWT-SVID, for this entry and these audiences."""

    entry_id: EntryID
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued(Generic[SignedT]):
    """An SVID and its row in the ledger; its half-life counts from the row's issued_at."""

    signed: SignedT = field(repr=False)
    credential: Credential


class _Decided(NamedTuple, Generic[DraftT]):
    """What became of a batch.

    Args:
        known: those entries of the batch that are the node's, whatever was decided; None: nothing was read.
        rulebook: the revision in force, if one of them belongs to it.
    """

    outcomes: Sequence[Recorded[DraftT] | Refused]
    known: Mapping[EntryID, RegistrationEntry] | None
    rulebook: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueSVIDs:
    """Mints batches.

    Args:
        x509_ttl, jwt_ttl: the defaults for entries that name no TTL.
        jwt_issuer: what JWT-SVIDs name as their issuer; empty: nothing.
    """

    datastore: Datastore
    issuance: Issuance
    budgets: MintBudgets
    limits: IssuanceLimits
    refusals: RefusalRecord
    around: Surroundings
    trust_domain: TrustDomain
    x509_ttl: timedelta
    jwt_ttl: timedelta
    jwt_issuer: str = ""

    async def x509(self, node: Node, requests: Sequence[X509Request]) -> Sequence[Issued[tuple[bytes, ...]] | Refused]:
        """Mint a batch of certificates with their chains in DER, leaf first; the answers are in order.

        Raises:
            Refused: the whole batch: INVALID for its size; UNAVAILABLE when it cannot be recorded or signed; DENIED when the node is
                banned or gone.
        """
        # 1. Bound the batch, parse its keys.
        check_batch(len(requests))
        wishes = [
            x509_wish(request.entry_id, request.public_key, serial=serial)
            for request, serial in zip(requests, self._serials(len(requests)), strict=True)
        ]
        # 2. Decide and record; only then sign, and lint what came out.
        outcomes = await self._record(node, wishes, AuthorityKind.X509, _ids(requests))
        return _answers(outcomes, await self.issuance.release_x509(_granted(outcomes)))

    async def jwt(self, node: Node, requests: Sequence[JWTRequest]) -> Sequence[Issued[str] | Refused]:
        """Mint a batch of tokens, with the answers in order; raises what `x509` raises."""
        # 1. Bound the batch and its audiences.
        check_batch(len(requests))
        wishes = [
            jwt_wish(request.entry_id, request.audiences, serial=serial)
            for request, serial in zip(requests, self._serials(len(requests)), strict=True)
        ]
        # 2. Decide and record; only then sign, and lint what came out.
        outcomes = await self._record(node, wishes, AuthorityKind.JWT, _ids(requests))
        return _answers(outcomes, await self.issuance.release_jwt(_granted(outcomes)))

    def _serials(self, count: int) -> Sequence[int]:
        return profile.serials(secrets.token_bytes(profile.SERIAL_BYTES * count), at=self.around.clock.now())

    async def _record(
        self, node: Node, asked: Sequence[Wish[DraftT] | Refused], kind: AuthorityKind, ids: Sequence[EntryID]
    ) -> Sequence[Recorded[DraftT] | Refused]:
        """Refuse or record each item; these are the entries that they name."""
        # 1. Refuse what exceeds the budgets of the node and its entries before anything is written.
        wishes = self.budgets.within(node.id, kind, asked)
        refusals = [wish for wish in wishes if isinstance(wish, Refused)]
        decided = _Decided[DraftT](refusals, None, 0)
        # 2. In one transaction: decide what this node may have now; write what is granted to the ledger and the audit record.
        if len(refusals) < len(wishes):
            claim = self.limits.claim(node.id)
            try:
                work = partial(self._decide, node, list(zip(ids, wishes, strict=True)), kind, claim)
                decided = await self.datastore.write(work, expendable=True)
            except Refused:
                claim.undo()
                raise
            claim.settle()
            granted = len(_granted(decided.outcomes))
            refused = len(decided.outcomes) - granted
            log.info("svids recorded", kind=kind.value, node=str(node.spiffe_id), granted=granted, refused=refused)
        # 3. Record the refusals as well, but not with a row each.
        await self._refuse(node, ids, decided, kind)
        return decided.outcomes

    def _decide(
        self,
        caller: Node,
        asked: Sequence[tuple[EntryID, Wish[DraftT] | Refused]],
        kind: AuthorityKind,
        claim: Claim,
        tx: Transaction,
    ) -> _Decided[DraftT]:
        now, node, blocks = self.around.clock.now(), active_node_in(tx, caller.id), blocks_in(tx)
        groups = groups_in(tx, self.trust_domain)
        authority = active(tx.authorities.list(), kind, now=now)
        wishes = [wish for _, wish in asked]
        parsed = [wish for wish in wishes if not isinstance(wish, Refused)]
        keys = [(wish.entry_id, wish.key_hash) for wish in parsed if wish.key_hash]
        granting = Granting(
            node_id=node.id,
            parents=parents_of(node, groups, blocks=blocks, now=now),
            parent_ends=parent_ends(node, groups, now=now),
            blocks=blocks,
            entries=tx.entries.get({entry_id for entry_id, _ in asked if len(entry_id) <= MAX_ENTRY_ID_BYTES}),
            authority=authority,
            ttl=self.x509_ttl if kind is AuthorityKind.X509 else self.jwt_ttl,
            now=now,
            holders=tx.ledger.holders({key_hash for _, key_hash in keys}) if keys else {},
            shared=shared_keys(keys),
            own_keys=own_keys_in(tx) if keys else frozenset(),
            jwt_issuer=self.jwt_issuer,
        )
        entitled = [wish if isinstance(wish, Refused) else judge(wish, granting) for wish in wishes]
        outcomes = claim.judge(tx.limits, entitled, authority.key_id)
        intents = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
        actor = str(node.spiffe_id)
        recorded = iter(record(tx, intents, authority, trust_domain=self.trust_domain, now=now, actor=actor))
        known = {key: entry for key, entry in granting.entries.items() if entry.parent_id in granting.parents}
        is_of_rules = any(is_of_rulebook(entry.spiffe_id) for entry in known.values())
        return _Decided(
            [outcome if isinstance(outcome, Refused) else next(recorded) for outcome in outcomes],
            known,
            tx.rulebooks.revision() if is_of_rules else 0,
        )

    async def _refuse(self, node: Node, ids: Sequence[EntryID], decided: _Decided[DraftT], kind: AuthorityKind) -> None:
        """Count the refusals and record them; those of one agent that are alike share a row, which names the first entry."""
        alike: dict[tuple[Kind, str, str], RefusedItems] = {}
        for entry_id, refused in zip(ids, decided.outcomes, strict=True):
            if isinstance(refused, Refused):
                entry = None if decided.known is None else decided.known.get(entry_id)
                about = "" if entry is None else agent_and_component(entry.spiffe_id)[0]
                if decided.known is None:
                    about = entry_id
                first = RefusedItems(refused.kind, refused.detail, entry_id, entry, decided.rulebook, about)
                same = alike.setdefault((refused.kind, refused.detail, about), first)
                same.count += 1
        for one in alike.values():
            self.around.metrics.mint_refusals.labels(kind, one.kind).inc(one.count)
        told = sorted(alike.values(), key=lambda one: -one.count)
        await self.refusals.record_items(
            told, actor=str(node.spiffe_id), action=_MINTED[kind], known=partial(self._known_in, node)
        )

    def _known_in(
        self, caller: Node, tx: Transaction, ids: Collection[EntryID]
    ) -> tuple[Mapping[EntryID, RegistrationEntry], int]:
        """Those of these entries that are the node's, and the revision of the rulebook: for what was refused before anything was read."""
        node = tx.nodes.get(caller.id)
        if node is None:
            return {}, 0
        parents = parents_in(tx, node, blocks=blocks_in(tx), now=self.around.clock.now())
        found = tx.entries.get({one for one in ids if len(one) <= MAX_ENTRY_ID_BYTES})
        return {key: entry for key, entry in found.items() if entry.parent_id in parents}, tx.rulebooks.revision()


def _ids(requests: Sequence[X509Request | JWTRequest]) -> Sequence[EntryID]:
    return [one.entry_id for one in requests]


def _granted(outcomes: Sequence[Recorded[DraftT] | Refused]) -> Sequence[Recorded[DraftT]]:
    return [outcome for outcome in outcomes if not isinstance(outcome, Refused)]


def _answers(
    outcomes: Sequence[Recorded[DraftT] | Refused], signed: Sequence[SignedT]
) -> Sequence[Issued[SignedT] | Refused]:
    left = iter(signed)
    return [
        outcome if isinstance(outcome, Refused) else Issued(signed=next(left), credential=outcome.credential)
        for outcome in outcomes
    ]
