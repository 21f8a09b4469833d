"""Do to an authority what an operator says, beside its automatic life: prepare, activate, taint, revoke.

What may be done is decided in issuer/decisions/interventions. Whoever follows the log learns it by the change, and replaces what a tainted
authority signed; the automatic life (rotate_authority) makes the next one anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction, Use
from issuer.decisions import audit, authority
from issuer.decisions.audit import AuditEvent
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.interventions import (
    check_activation,
    check_preparation,
    check_return,
    check_revocation,
    check_taint,
    named,
    takes_over,
)
from issuer.decisions.revocation import Reason, check_comment
from issuer.flows.feed_attestors import FeedAttestors
from issuer.flows.rotate_authority import RotateAuthority, activate_in, new_key_id, retire_in
from issuer.issuance import Issuance, has_key
from issuer.queries import all_nodes_in
from svid.clock import Clock
from svid.keys import KeyID

__all__ = ["CommandAuthorities", "Seen"]

log = structlog.get_logger(__name__)

_NAME = 80  # of what somebody calls a key: more is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An authority, and how it stands.

    Args:
        waits_for: why a step that is due is not taken; empty: none is, or nothing is in its way.
        use: what is in use of it.
        attestors: how many are connected; acknowledged: how many of them know what it is now: that it is next, or tainted.
    """

    authority: Authority
    waits_for: str
    use: Use
    attestors: int
    acknowledged: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAuthorities:
    """Does it; every command is on record, what was refused too.

    Raises:
        Refused: NOT_FOUND; CONFLICT as issuer/decisions/interventions; INVALID for the comment.
    """

    datastore: Datastore
    issuance: Issuance
    rotate: RotateAuthority
    feed: FeedAttestors
    clock: Clock
    return_window: timedelta

    async def seen(self) -> Sequence[Seen]:
        """All authorities, oldest first."""
        rows = await self.rotate.rows()
        now = self.clock.now()
        tainted = [row.key_id for row, _ in rows if row.tainted_at and row.last_not_after and row.last_not_after > now]
        uses = await self.datastore.read(lambda tx: tx.ledger.uses(tainted=tainted, now=now))
        return [self._seen(row, waits_for, uses.get(row.key_id, Use())) for row, waits_for in rows]

    async def prepare(self, kind: AuthorityKind, *, actor: str) -> KeyID:
        """Make and publish one more that could sign next.

        Raises:
            Refused: EXHAUSTED when enough of them wait.
        """
        key_id, now = new_key_id(kind), self.clock.now()

        def work(tx: Transaction) -> None:
            check_preparation(tx.authorities.list(), kind)
            tx.authorities.put(authority.intended(kind, key_id, now=now, ttl=self.rotate.policy.lifetime))
            tx.audit.append([AuditEvent(at=now, actor=actor, action="authority preparation asked", subject=key_id)])

        await self._write(work, action="authority preparation asked", subject=kind.value, actor=actor)
        await self.rotate()
        return key_id

    async def activate(self, key_id: str, *, at_once: bool, actor: str) -> None:
        """Let a next or an old one sign now, without the spread time.

        Args:
            at_once: also where a node that is away does not know it.
        """
        row = named(await self._rows(), key_id)
        is_able, now = await has_key(self.issuance.keys, row), self.clock.now()

        def work(tx: Transaction) -> None:
            row = named(tx.authorities.list(), key_id)
            check_activation(row, has_key=is_able, now=now)
            if not at_once:
                self._check_return(tx, _signing(tx, row) or row, signs=row)
            activate_in(tx, row, acknowledged=self.feed.slowest(), actor=actor, now=now)

        await self._write(work, action="authority activated", subject=key_id, actor=actor)

    async def taint(self, key_id: str, *, at_once: bool, reason: Reason, comment: str, actor: str) -> None:
        """Let it sign no more, and have all that it signed replaced; what it signed is accepted until then.

        Args:
            at_once: also where a node that is away knows none that signs then.
        """
        keys, now = await self._keys(), self.clock.now()

        def work(tx: Transaction) -> None:
            check_comment(comment)
            check_taint(row := named(tx.authorities.list(), key_id))
            self._hand_over(tx, row, keys=keys, actor=actor)
            if not at_once:
                self._check_return(tx, row, signs=_signing(tx, row))
            change = tx.changes.append([Change(kind=ChangeKind.AUTHORITY)])
            tx.authorities.put(authority.tainted(named(tx.authorities.list(), key_id), change=change, now=now))
            facts = {"reason": reason.value, "comment": comment}
            event = AuditEvent(at=now, actor=actor, action="authority tainted", subject=key_id, facts=facts)
            tx.audit.append([event])

        await self._write(work, action="authority tainted", subject=key_id, actor=actor)

    async def revoke(self, key_id: str, *, at_once: bool, reason: Reason, comment: str, actor: str) -> None:
        """Take it out of the bundle and destroy its key: whatever it signed is over.

        Args:
            at_once: also where what it signed was not replaced, or a node that is away knows none that signs then.
        """
        keys, now = await self._keys(), self.clock.now()
        uses = {} if at_once else await self.datastore.read(lambda tx: tx.ledger.uses(tainted=[KeyID(key_id)], now=now))
        unreplaced = uses.get(KeyID(key_id), Use()).unreplaced  # of a tainted one it only falls

        def work(tx: Transaction) -> None:
            rows = tx.authorities.list()
            check_comment(comment)
            check_revocation(row := named(rows, key_id), rows, unreplaced=unreplaced, at_once=at_once)
            self._hand_over(tx, row, keys=keys, actor=actor)
            if not at_once:
                self._check_return(tx, row, signs=_signing(tx, row))
            row = named(tx.authorities.list(), key_id)
            retire_in(tx, row if row.tainted_at else authority.tainted(row, change=0, now=now), now=now)
            facts = {"reason": reason.value, "comment": comment, "tainted": "yes" if row.tainted_at else "no"}
            event = AuditEvent(at=now, actor=actor, action="authority revoked", subject=key_id, facts=facts)
            tx.audit.append([event])

        await self._write(work, action="authority revoked", subject=key_id, actor=actor)
        await self.issuance.destroy(KeyID(key_id))

    def _hand_over(self, tx: Transaction, row: Authority, *, keys: frozenset[KeyID], actor: str) -> None:
        """Where it signs now, let the next one."""
        rows, now = tx.authorities.list(), self.clock.now()
        following = takes_over(row, rows, keys=keys, now=now)
        if following is not None:
            activate_in(tx, following, acknowledged=self.feed.slowest(), actor=actor, now=now)

    def _check_return(self, tx: Transaction, known: Authority, *, signs: Authority | None) -> None:
        away = (node for node in all_nodes_in(tx) if node.id not in self.feed.watch.standing)
        check_return(away, known=known, signs=signs, since=self.clock.now() - self.return_window)

    def _seen(self, row: Authority, waits_for: str, use: Use) -> Seen:
        change = row.tainted_change or row.published_change
        standing = self.feed.watch.standing.values()
        acknowledged = sum(one.acknowledged >= change for one in standing)
        return Seen(authority=row, waits_for=waits_for, use=use, attestors=len(standing), acknowledged=acknowledged)

    async def _rows(self) -> Sequence[Authority]:
        return await self.datastore.read(lambda tx: tx.authorities.list())

    async def _keys(self) -> frozenset[KeyID]:
        """Those of the next ones whose key is there."""
        following = [row for row in await self._rows() if row.state is AuthorityState.NEXT]
        return frozenset([row.key_id for row in following if await has_key(self.issuance.keys, row)])

    async def _write(self, work: Callable[[Transaction], None], *, action: str, subject: str, actor: str) -> None:
        try:
            await self.datastore.write(work)
        except Refused as refused:
            if refused.kind is not Kind.UNAVAILABLE:
                event = audit.refused(refused, at=self.clock.now(), actor=actor, action=action, subject=subject[:_NAME])
                await self.datastore.write(lambda tx: tx.audit.append([event]))
            raise
        log.info(action, key=subject, actor=actor)
        self.rotate.wake()


def _signing(tx: Transaction, of: Authority) -> Authority | None:
    """The one of that kind that signs, as this transaction sees it."""
    mine = (row for row in tx.authorities.list() if row.kind is of.kind)
    return next((row for row in mine if row.state is AuthorityState.ACTIVE), None)
