"""Carry out an operator's command on an authority, beside its automatic life: rotate, prepare, activate, taint, revoke.

issuer/decisions/interventions decides what may be done. Those who follow the log learn of it through the change, and replace what a
tainted authority signed; the automatic life (rotate_authority) makes a new next one.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from cognomen.protocol.names import NodeID
from issuer.datastore.ledgerport import Use
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import authority, exports
from issuer.decisions.actions import Action
from issuer.decisions.audit import AuditEvent
from issuer.decisions.authority import Authority, AuthorityKind, AuthorityState
from issuer.decisions.changes import Change, ChangeKind
from issuer.decisions.interventions import (
    check_activation,
    check_preparation,
    check_return,
    check_revocation,
    check_taint,
    cut_off,
    named,
    takes_over,
)
from issuer.decisions.revocation import Reason, check_comment
from issuer.issuance import Issuance, has_key
from issuer.keepers.authority_outlook import AuthorityOutlook, Seen
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.keymanager.port import KeyManager
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings
from issuer.works.authorities import activate_in, ask_in, new_key_id, retire_in
from issuer.works.reads import all_nodes_in
from svid.keys import KeyID

__all__ = ["CommandAuthorities"]

log = structlog.get_logger(__name__)

_NAMED = 100  # nodes in a line of the log
_NAME = 80  # longest text that can be the name of a key


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAuthorities:
    """Carries out commands, and records every one, even if it is refused. Each returns the nodes that now need an invite to come back.

    Args:
        bring_forward: takes the steps that are due now; wake: has them taken soon (both: rotate_authority).

    Raises:
        Refused: NOT_FOUND; CONFLICT as issuer/decisions/interventions says; INVALID for the comment.
    """

    datastore: Datastore
    issuance: Issuance
    keys: KeyManager
    outlook: AuthorityOutlook
    watch: EnforcementWatch
    bring_forward: Callable[[], Awaitable[None]]
    wake: Callable[[], None]
    around: Surroundings
    return_window: timedelta

    async def seen(self) -> Sequence[Seen]:
        """All authorities, oldest first."""
        return await self.outlook.seen()

    async def ask(self, kind: AuthorityKind, *, at_once: bool, actor: str) -> Sequence[NodeID]:
        """Have the next one sign as soon as every connected attestor knows it.

        Args:
            at_once: even if a node that is away does not know it, or an export of the bundle lacks it.

        Raises:
            Refused: UNAVAILABLE while no next one is published.
        """

        def work(tx: Transaction) -> Sequence[NodeID]:
            following = ask_in(tx, kind, actor=actor, now=self.around.clock.now())
            return self._cut_off(tx, _signing(tx, kind), following, at_once=at_once, actor=actor)

        return await self._write(work, action=Action.AUTHORITY_ROTATION_ASKED, subject=kind.value, actor=actor)

    async def hand_over(self, kind: AuthorityKind, *, why: str, actor: str) -> None:
        """Have the next one sign as soon as every connected attestor knows it, no matter which nodes are away.

        Args:
            why: for the audit record, since no operator gives a reason.

        Raises:
            Refused: UNAVAILABLE while no next one is published.
        """

        def work(tx: Transaction) -> Sequence[NodeID]:
            ask_in(tx, kind, actor=actor, why=why, now=self.around.clock.now())
            return ()

        await self._write(work, action=Action.AUTHORITY_ROTATION_ASKED, subject=kind.value, actor=actor)

    async def prepare(self, kind: AuthorityKind, *, actor: str) -> KeyID:
        """Make and publish one more authority that can sign next.

        Raises:
            Refused: EXHAUSTED when enough of them wait.
        """
        key_id, now = new_key_id(kind), self.around.clock.now()

        def work(tx: Transaction) -> Sequence[NodeID]:
            check_preparation(tx.authorities.list(), kind)
            tx.authorities.put(authority.intended(kind, key_id, now=now, ttl=self.outlook.lifetime))
            tx.audit.append(
                [AuditEvent(at=now, actor=actor, action=Action.AUTHORITY_PREPARATION_ASKED, subject=key_id)]
            )
            return ()

        await self._write(work, action=Action.AUTHORITY_PREPARATION_ASKED, subject=kind.value, actor=actor)
        await self.bring_forward()
        return key_id

    async def activate(self, key_id: str, *, at_once: bool, actor: str) -> Sequence[NodeID]:
        """Let a next or an old authority sign now, without the spread time.

        Args:
            at_once: even if a node that is away does not know it, or an export of the bundle lacks it.
        """
        asked = [row for row in await self._rows() if row.key_id == key_id]
        is_able, now = any([await has_key(self.keys, row) for row in asked]), self.around.clock.now()

        def work(tx: Transaction) -> Sequence[NodeID]:
            row = named(tx.authorities.list(), key_id)
            check_activation(row, has_key=is_able, now=now)
            lost = self._cut_off(tx, _signing(tx, row.kind), row, at_once=at_once, actor=actor)
            activate_in(tx, row, acknowledged=self.outlook.acknowledged(), actor=actor, now=now)
            return lost

        return await self._write(work, action=Action.AUTHORITY_ACTIVATED, subject=key_id, actor=actor)

    async def taint(self, key_id: str, *, at_once: bool, reason: Reason, comment: str, actor: str) -> Sequence[NodeID]:
        """Stop it from signing, and have all that it signed replaced; what it signed is accepted until then.

        Args:
            at_once: even if a node that is away does not know the authority that signs afterwards, or an export of the bundle lacks it.
        """
        keys, now = await self._keys(), self.around.clock.now()

        def work(tx: Transaction) -> Sequence[NodeID]:
            check_comment(comment)
            check_taint(row := named(tx.authorities.list(), key_id))
            lost = self._hand_over(tx, row, keys=keys, at_once=at_once, actor=actor)
            change = tx.changes.append([Change(kind=ChangeKind.AUTHORITY)])
            tx.authorities.put(authority.tainted(named(tx.authorities.list(), key_id), change=change, now=now))
            facts = {"reason": reason.value, "comment": comment}
            event = AuditEvent(at=now, actor=actor, action=Action.AUTHORITY_TAINTED, subject=key_id, facts=facts)
            tx.audit.append([event])
            return lost

        return await self._write(work, action=Action.AUTHORITY_TAINTED, subject=key_id, actor=actor)

    async def revoke(self, key_id: str, *, at_once: bool, reason: Reason, comment: str, actor: str) -> Sequence[NodeID]:
        """Take it out of the bundle and destroy its key: nothing that it signed is valid any more.

        Args:
            at_once: even if something that it signed was not replaced, or a node that is away or an export of the bundle does not know
                the authority that signs afterwards.
        """
        keys, now = await self._keys(), self.around.clock.now()
        uses = {} if at_once else await self.datastore.read(lambda tx: tx.ledger.uses(tainted=[KeyID(key_id)], now=now))
        unreplaced = uses.get(KeyID(key_id), Use()).unreplaced  # for a tainted authority, this only falls

        def work(tx: Transaction) -> Sequence[NodeID]:
            rows = tx.authorities.list()
            check_comment(comment)
            check_revocation(row := named(rows, key_id), rows, unreplaced=unreplaced, at_once=at_once)
            lost = self._hand_over(tx, row, keys=keys, at_once=at_once, actor=actor)
            row = named(tx.authorities.list(), key_id)
            retire_in(tx, row if row.tainted_at else authority.tainted(row, change=0, now=now), now=now)
            facts = {"reason": reason.value, "comment": comment, "tainted": "yes" if row.tainted_at else "no"}
            event = AuditEvent(at=now, actor=actor, action=Action.AUTHORITY_REVOKED, subject=key_id, facts=facts)
            tx.audit.append([event])
            return lost

        lost = await self._write(work, action=Action.AUTHORITY_REVOKED, subject=key_id, actor=actor)
        await self.issuance.destroy(KeyID(key_id))
        return lost

    def _hand_over(
        self, tx: Transaction, row: Authority, *, keys: frozenset[KeyID], at_once: bool, actor: str
    ) -> Sequence[NodeID]:
        """If it signs now, let the next one sign instead; returns the nodes that this cuts off."""
        rows, now = tx.authorities.list(), self.around.clock.now()
        following = takes_over(row, rows, keys=keys, now=now)
        if following is None:  # another authority signs already
            return ()
        lost = self._cut_off(tx, row, following, at_once=at_once, actor=actor)
        activate_in(tx, following, acknowledged=self.outlook.acknowledged(), actor=actor, now=now)
        return lost

    def _cut_off(
        self, tx: Transaction, before: Authority | None, signs: Authority, *, at_once: bool, actor: str
    ) -> Sequence[NodeID]:
        """Record and return the nodes that need an invite once `signs` signs, and record the exports of the bundle without it.

        If there are any and `at_once` is false, this refuses.
        """
        away = (node for node in all_nodes_in(tx) if node.id not in self.watch.standing)
        lost = cut_off(away, before=before, signs=signs, since=self.around.clock.now() - self.return_window)
        if not at_once:
            check_return(lost, signs=signs.key_id)
        without = () if before is None else exports.cut_off(tx.exports.list(), tx.authorities.list(), before, signs)
        if not at_once:
            exports.check_known(without, signs=signs.key_id)
        cut = {Action.NODES_CUT_OFF: ("nodes", lost), Action.EXPORTS_CUT_OFF: ("exports", without)}
        tx.audit.append(
            [
                AuditEvent(
                    at=self.around.clock.now(),
                    actor=actor,
                    action=action,
                    subject=signs.key_id,
                    facts={"count": str(len(names)), what: " ".join(names)},
                )
                for action, (what, names) in cut.items()
                if names
            ]
        )
        return lost

    async def _rows(self) -> Sequence[Authority]:
        return await self.datastore.read(lambda tx: tx.authorities.list())

    async def _keys(self) -> frozenset[KeyID]:
        """Those next authorities whose key is there."""
        following = [row for row in await self._rows() if row.state is AuthorityState.NEXT]
        return frozenset([row.key_id for row in following if await has_key(self.keys, row)])

    async def _write(
        self, work: Callable[[Transaction], Sequence[NodeID]], *, action: Action, subject: str, actor: str
    ) -> Sequence[NodeID]:
        """Carry out a command; returns the nodes that it cut off."""
        async with refusals_on_record(self.datastore, self.around.clock, action, actor=actor, subject=subject[:_NAME]):
            lost = await self.datastore.write(work)
        if lost:
            log.warning("nodes cut off", command=action, key=subject, actor=actor, count=len(lost), nodes=lost[:_NAMED])
        self.wake()
        return lost


def _signing(tx: Transaction, kind: AuthorityKind) -> Authority | None:
    """The authority of that kind that signs, as this transaction sees it."""
    mine = (row for row in tx.authorities.list() if row.kind is kind)
    return next((row for row in mine if row.state is AuthorityState.ACTIVE), None)
