"""Make an invite: a token that admits one node key, and what that node must know to trust us."""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cognomen.daemon.errors import Kind, Refused
from cognomen.daemon.invite import Invite
from issuer.config import MAX_INVITE_TTL
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.admission import Node, NodeState, Token, label_selectors
from issuer.decisions.audit import AuditEvent, NodeID
from issuer.decisions.names import node_spiffe_id
from issuer.queries import bundle_in
from svid.bundle import Bundle
from svid.clock import Clock
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["CreateInvite", "CreatedInvite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedInvite:
    """An invite, and the node that it will admit."""

    invite: Invite
    spiffe_id: SpiffeID
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateInvite:
    """Makes invites.

    Args:
        join_address: host:port at which joiners reach us.
        node_address: the same for attested nodes.
        ttl: of a token whose maker asks for no other.
    """

    datastore: Datastore
    clock: Clock
    trust_domain: TrustDomain
    join_address: str
    node_address: str
    ttl: timedelta

    async def __call__(
        self, *, actor: str, labels: Mapping[str, str], ttl: timedelta | None, node_id: NodeID | None = None
    ) -> CreatedInvite:
        """Make an invite.

        Args:
            node_id: a node that joined before and comes back as the same; None: a new one.

        Raises:
            Refused: INVALID for a TTL or a label that cannot be; NOT_FOUND, DENIED for a node that cannot come back.
        """
        # 1. Check what was asked.
        ttl = self.ttl if ttl is None else ttl
        if not timedelta(seconds=1) <= ttl <= MAX_INVITE_TTL:
            raise Refused(
                Kind.INVALID,
                f"ttl: expected 1 s to {MAX_INVITE_TTL.total_seconds():.0f} s, found {ttl.total_seconds():.0f} s",
            )
        label_selectors(labels)
        if node_id is not None and labels:
            raise Refused(Kind.INVALID, "labels: expected none for a node that has them already, found some")
        # 2. Choose token and node id; only the token's hash is kept.
        token = secrets.token_urlsafe(32)
        now = self.clock.now()
        row = Token(
            hash=hashlib.sha256(token.encode()).hexdigest(),
            node_id=node_id or NodeID(secrets.token_hex(16)),
            labels=dict(labels),
            created_at=now,
            expires_at=now + ttl,
        )
        # 3. Record.
        bundle = await self.datastore.write(
            lambda tx: self._record(tx, row, actor, returns=node_id is not None), expendable=True
        )
        # 4. Put it together.
        invite = Invite(
            trust_domain=self.trust_domain,
            join_address=self.join_address,
            node_address=self.node_address,
            token=token,
            bundle=bundle,
        )
        return CreatedInvite(invite=invite, spiffe_id=self._spiffe_id(row), expires_at=row.expires_at)

    def _record(self, tx: Transaction, row: Token, actor: str, *, returns: bool) -> Bundle:
        if returns:
            _check_may_return(tx.nodes.get(row.node_id), row.node_id)
        tx.tokens.put(row)
        event = AuditEvent(
            at=row.created_at,
            actor=actor,
            action="invite created",
            subject=str(self._spiffe_id(row)),
            facts={"expires_at": row.expires_at.isoformat(), **{f"label {key}": row.labels[key] for key in row.labels}},
        )
        tx.audit.append([event])
        return bundle_in(tx, self.trust_domain)

    def _spiffe_id(self, row: Token) -> SpiffeID:
        return node_spiffe_id(self.trust_domain, "join_token", row.node_id)


def _check_may_return(node: Node | None, node_id: NodeID) -> None:
    if node is None:
        raise Refused(
            Kind.NOT_FOUND, f"node: no node is {node_id}", hint="invite it as a new one: cognomen node invite"
        )
    if node.state is NodeState.BANNED:
        raise Refused(
            Kind.DENIED,
            "node: banned",
            hint="a ban is for good: invite it as a new one, without --node",
            node=node_id,
        )
