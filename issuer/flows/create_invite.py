"""Make an invite: a token that admits one node key, and what the node must know to trust us.

A node that proves an identity of its own needs no token, only to know where we are.
"""

import hashlib
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.invite import Invite
from cognomen.protocol.names import NodeID, node_spiffe_id
from cognomen.protocol.readmission import THEN_REJOIN
from issuer.config import MAX_INVITE_TTL
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.admission import Node, NodeState, Token
from issuer.decisions.attestation import label_selectors
from issuer.decisions.audit import AuditEvent
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings
from issuer.works.reads import bundle_in, named_node_in
from svid.bundle import Bundle
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["CreateInvite", "CreatedInvite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedInvite:
    """An invite, and the node that it will admit, until when; both are None if it has no token."""

    invite: Invite
    spiffe_id: SpiffeID | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateInvite:
    """Makes invites.

    Args:
        join_address: host:port at which joiners reach us.
        node_address: the same for attested nodes.
        ttl: the default lifetime of a token.
        attestor: the name of the node attestor that takes tokens.
    """

    datastore: Datastore
    around: Surroundings
    trust_domain: TrustDomain
    join_address: str
    node_address: str
    ttl: timedelta
    attestor: str

    async def __call__(
        self, *, actor: str, labels: Mapping[str, str], ttl: timedelta | None, node: str | None
    ) -> CreatedInvite:
        """Make an invite.

        Args:
            node: the id or SPIFFE ID of a node that joined before and comes back as the same node; None: a new node.

        Raises:
            Refused: INVALID for a bad TTL or label; NOT_FOUND, DENIED for a node that cannot come back; it is recorded first.
        """
        token, now = secrets.token_urlsafe(32), self.around.clock.now()
        async with refusals_on_record(
            self.datastore, self.around.clock, Action.INVITE_CREATED, actor=actor, subject=node or ""
        ):
            # 1. Check the request.
            ttl = self._checked(ttl, labels, is_new=node is None)
            # 2. Choose a node id; only the token's hash is kept.
            asked = Token(
                hash=hashlib.sha256(token.encode()).hexdigest(),
                node_id=NodeID(secrets.token_hex(16)),
                labels=dict(labels),
                created_at=now,
                expires_at=now + ttl,
            )
            # 3. Record.
            made = await self.datastore.write(lambda tx: self._record(tx, asked, node, actor), expendable=True)
        # 4. Put it together.
        return CreatedInvite(
            invite=self._invite(token, made.bundle), spiffe_id=made.spiffe_id, expires_at=asked.expires_at
        )

    async def without_token(self) -> CreatedInvite:
        """Make an invite that only says where we are and whom to trust: it admits nobody, so nothing is recorded.

        In the place of the token it has a random text, by which the node tells this invite from an earlier one.
        """
        bundle = await self.datastore.read(lambda tx: bundle_in(tx, self.trust_domain))
        return CreatedInvite(invite=self._invite(secrets.token_urlsafe(32), bundle))

    def check_taken(self, attestors: Collection[str]) -> None:
        """Refuse to make a token that no node attestor takes.

        Args:
            attestors: the names of the node attestors.

        Raises:
            Refused: CONFLICT
        """
        if self.attestor not in attestors:
            raise Refused(
                Kind.CONFLICT,
                f"node_attestors: expected {self.attestor} among them, which takes tokens, found {', '.join(attestors)}",
                hint="for a node that proves an identity of its own: cognomen node invite --without-token",
            )

    def _invite(self, token: str, bundle: Bundle) -> Invite:
        return Invite(
            trust_domain=self.trust_domain,
            join_address=self.join_address,
            node_address=self.node_address,
            token=token,
            bundle=bundle,
        )

    def _checked(self, ttl: timedelta | None, labels: Mapping[str, str], *, is_new: bool) -> timedelta:
        """Check the request; returns the TTL."""
        ttl = self.ttl if ttl is None else ttl
        if not timedelta(seconds=1) <= ttl <= MAX_INVITE_TTL:
            raise Refused(
                Kind.INVALID,
                f"ttl: expected 1 s to {MAX_INVITE_TTL.total_seconds():.0f} s, found {ttl.total_seconds():.0f} s",
            )
        label_selectors(labels, attestor=self.attestor)
        if labels and not is_new:
            raise Refused(Kind.INVALID, "labels: not allowed for a node that joined before, which keeps its own")
        return ttl

    def _record(self, tx: Transaction, asked: Token, returning: str | None, actor: str) -> "_Made":
        row, spiffe_id = asked, node_spiffe_id(self.trust_domain, self.attestor, asked.node_id)
        if returning is not None:
            node = self._may_return(named_node_in(tx, returning))
            row, spiffe_id = replace(asked, node_id=node.id), node.spiffe_id
        tx.tokens.put(row)
        event = AuditEvent(
            at=row.created_at,
            actor=actor,
            action=Action.INVITE_CREATED,
            subject=str(spiffe_id),
            facts={"expires_at": row.expires_at.isoformat(), **{f"label {key}": row.labels[key] for key in row.labels}},
        )
        tx.audit.append([event])
        return _Made(spiffe_id=spiffe_id, bundle=bundle_in(tx, self.trust_domain))

    def _may_return(self, node: Node) -> Node:
        if node.state is NodeState.BANNED:
            if node.attestor == self.attestor:
                hint = "its machine may join as a new node: cognomen node invite (without --node-id)"
            else:
                hint = (
                    f"its machine proves an identity of its own, so it is kept out until: cognomen node unban {node.id}"
                )
            raise Refused(Kind.DENIED, "node: banned", hint=hint, node=node.id)
        if node.attestor != self.attestor:  # whoever has the token would be let in as a machine that proved more
            raise Refused(
                Kind.CONFLICT,
                f"node: expected one that {self.attestor} attested, found one of {node.attestor}",
                hint=f"it proves itself again: cognomen node invite --without-token; {THEN_REJOIN};"
                f" if its attestor vouches for it only once, run first: cognomen node evict {node.id}",
                node=node.id,
            )
        return node


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What an invite is for, and our bundle as it was then."""

    spiffe_id: SpiffeID
    bundle: Bundle
