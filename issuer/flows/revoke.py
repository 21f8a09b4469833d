"""End credentials early on behalf of an operator: the revocation, its denials, the change and the audit row in one transaction.

issuer/decisions/revocation decides what may be named. feed_attestors tells the verifiers. ADR-0015 says why.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.admission import banned
from issuer.decisions.audit import AuditEvent
from issuer.decisions.changes import Change, ChangeKind, entry_changes
from issuer.decisions.exchanged import Exchanged
from issuer.decisions.falling import Falling
from issuer.decisions.filters import EntryFilter, LedgerFilter
from issuer.decisions.registration import is_group
from issuer.decisions.revocation import (
    HINT_OF_A_GROUP,
    MAX_OVER,
    Live,
    Reason,
    Revocation,
    RevocationKind,
    Target,
    check_comment,
    check_room,
    check_serials,
    check_spiffe_id,
    check_target,
    lifted,
)
from issuer.keepers.enforcement_watch import EnforcementWatch
from issuer.refusing import refusals_on_record
from issuer.surroundings import Surroundings
from issuer.works.denials import all_of_nodes, deny_in
from issuer.works.reads import all_nodes_in, entries_in, groups_in

__all__ = ["Revoke", "Revoked"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """The result of a command.

    Args:
        revocation: as stored; its number is 0 after a dry run.
        falling: what it ended, or would end.
    """

    revocation: Revocation
    falling: Falling


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """The entries and nodes that a target names now.

    Args:
        entries: those whose entitlement it changes.
        nodes: those whose entitlement it changes as a whole.
    """

    live: Live
    entries: Sequence[RegistrationEntry] = ()
    nodes: Sequence[NodeID] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke:
    """Revokes credentials, and lifts blocks."""

    datastore: Datastore
    around: Surroundings
    watch: EnforcementWatch

    async def __call__(self, target: Target, *, reason: Reason, comment: str, dry_run: bool, actor: str) -> Revoked:
        """Revoke what an operator names.

        Args:
            dry_run: only say what would end.

        Raises:
            Refused: INVALID, NOT_FOUND; it is recorded first.
        """
        asked = Revocation(target=target, reason=reason, comment=comment, actor=actor, at=self.around.clock.now())
        if dry_run:
            return await self.datastore.read(lambda tx: self._look(tx, asked))
        async with refusals_on_record(self.datastore, self.around.clock, Action.REVOKED, actor=actor):
            revoked = await self.datastore.write(lambda tx: self._revoke(tx, asked))
        self.watch.committed(revoked.revocation)
        log.info(
            "revoked",
            number=revoked.revocation.number,
            kind=target.kind.value,
            denied=revoked.revocation.denied,
            over=revoked.revocation.over,
            compromised=revoked.revocation.compromised,
            change=revoked.revocation.change,
        )
        if revoked.revocation.over == MAX_OVER:
            log.warning(
                "not all denied that was over",
                number=revoked.revocation.number,
                reason=f"expected fewer than {MAX_OVER} credentials that expired within a day, found as many or more",
                hint="connections with these expired SVIDs may still be open: revoke again to deny the next ones",
            )
        return revoked

    async def exchanged(self, target: Target, longest_lives: Mapping[str, timedelta]) -> Sequence[Exchanged]:
        """What a revocation of this target does not reach, whether or not it was made: tokens that declared providers gave.

        It is asked by itself, so that no revocation waits for it.

        Args:
            longest_lives: by audience, as in decisions/exchanged; if there are none, nothing is read.
        """
        if not longest_lives:
            return ()
        now = self.around.clock.now()
        return await self.datastore.read(
            lambda tx: tx.denials.exchanged(_named(tx, target).live, longest_lives=longest_lives, now=now)
        )

    async def lift(self, number: int, *, actor: str) -> Revocation:
        """End a block; what was denied stays denied.

        Raises:
            Refused: NOT_FOUND; INVALID if it blocks nobody; CONFLICT if it was already lifted.
        """

        def work(tx: Transaction) -> Revocation:
            found = tx.revocations.get(number)
            if found is None:
                raise Refused(
                    Kind.NOT_FOUND,
                    f"number: no revocation has the number {number}",
                    hint="list them: cognomen revoke list",
                )
            after = lifted(found, by=actor, now=self.around.clock.now())
            tx.revocations.put(after)
            tx.changes.append(_regroup(_named(tx, found.target)))
            event = AuditEvent(
                at=self.around.clock.now(), actor=actor, action=Action.REVOCATION_LIFTED, subject=str(number)
            )
            tx.audit.append([event])
            return after

        async with refusals_on_record(
            self.datastore, self.around.clock, Action.REVOCATION_LIFTED, actor=actor, subject=str(number)
        ):
            return await self.datastore.write(work)

    async def find(self, *, before: int, limit: int) -> Sequence[Revocation]:
        """A page of revocations, newest first."""
        return await self.datastore.read(lambda tx: tx.revocations.find(before=before, limit=limit))

    def _look(self, tx: Transaction, asked: Revocation) -> Revoked:
        _check(tx, asked)
        named = _named(tx, asked.target)
        falling = tx.denials.falling(named.live, now=asked.at)
        return Revoked(revocation=replace(asked, denied=falling.count), falling=falling)

    def _revoke(self, tx: Transaction, asked: Revocation) -> Revoked:
        # 1. Find what the target names, at a time that is not before anything that was signed while this waited for its turn.
        asked = replace(asked, at=self.around.clock.now())
        _check(tx, asked)
        named = _named(tx, asked.target)
        falling = tx.denials.falling(named.live, now=asked.at)
        # 2. Write the revocation and its denials.
        revocation = deny_in(tx, asked, named.live)
        # 3. Send revoked nodes away with their credentials.
        if asked.target.kind is RevocationKind.NODE:
            _ban(tx, asked.target.node_ids)
        # 4. Tell those who follow the log.
        tx.changes.append(_regroup(named))
        return Revoked(revocation=revocation, falling=falling)


def _check(tx: Transaction, asked: Revocation) -> None:
    target = asked.target
    check_comment(asked.comment)
    check_target(target, now=asked.at)
    check_room(target, tx.revocations.blocks())
    match target.kind:
        case RevocationKind.SVID:
            check_serials(target.serials, tx.ledger.among(target.serials))
        case RevocationKind.NODE:
            _check_nodes(tx, target.node_ids)
        case RevocationKind.ENTRY:
            _check_entries(tx, target.entry_ids)
        case RevocationKind.ISSUED_BEFORE:
            _check_nodes(tx, [one for one in target.node_ids if not _has_any(tx, LedgerFilter(node_id=one))])
            _check_entries(tx, [one for one in target.entry_ids if not _has_any(tx, LedgerFilter(entry_id=one))])
        case _:
            pass
    if target.spiffe_id is not None:
        groups = [one for one in groups_in(tx, target.spiffe_id.trust_domain) if one.spiffe_id == target.spiffe_id]
        named = entries_in(tx, EntryFilter(spiffe_id=target.spiffe_id, below=target.below)) if groups else ()
        check_spiffe_id(target.spiffe_id, is_group=bool(groups) and all(map(is_group, named)))


def _has_any(tx: Transaction, where: LedgerFilter) -> bool:
    """Whether the ledger has a credential of an entry or node, which may be gone."""
    return bool(tx.ledger.find(where, before=0, limit=1))


def _check_nodes(tx: Transaction, node_ids: Iterable[NodeID]) -> None:
    for node_id in node_ids:
        if tx.nodes.get(node_id) is None:
            raise Refused(
                Kind.NOT_FOUND,
                f"node: no node has the id {node_id!r}",
                hint="to revoke what was signed for a node that is gone, give its id: cognomen revoke issued-before TIME --node-id ID",
            )


def _check_entries(tx: Transaction, entry_ids: Sequence[EntryID]) -> None:
    found = tx.entries.get(entry_ids)
    for entry_id in entry_ids:
        if entry_id not in found:
            raise Refused(
                Kind.NOT_FOUND,
                f"entry: no entry has the id {entry_id!r}",
                hint="to revoke what was signed for an entry that is gone, give its id: cognomen revoke issued-before TIME --entry-id ID",
            )
        if is_group(found[entry_id]):
            raise Refused(
                Kind.INVALID,
                f"entry: expected a workload's entry, found the node group {entry_id}",
                hint=HINT_OF_A_GROUP,
            )


def _named(tx: Transaction, target: Target) -> _Named:
    """What a target names, as this transaction sees it."""
    match target.kind:
        case RevocationKind.SVID:
            return _Named(live=Live(serials=target.serials))
        case RevocationKind.ISSUED_BEFORE:
            live = Live(
                issued_until=target.before,
                entry_ids=target.entry_ids or None,
                node_ids=target.node_ids or None,
                spiffe_id=target.spiffe_id,
                below=target.below,
            )
            return _Named(live=live)
        case RevocationKind.ENTRY | RevocationKind.DELETION | RevocationKind.UPDATE:
            found = list(tx.entries.get(target.entry_ids).values())
            return _Named(live=Live(entry_ids=target.entry_ids), entries=found)
        case RevocationKind.SPIFFE_ID:
            found = list(entries_in(tx, EntryFilter(spiffe_id=target.spiffe_id, below=target.below)))
            return _Named(live=Live(spiffe_id=target.spiffe_id, below=target.below), entries=found)
        case RevocationKind.SELECTOR:
            found = list(entries_in(tx, EntryFilter(selector=target.selector)))
            nodes = [node.id for node in all_nodes_in(tx) if target.selector in node.selectors]
            live = Live(entry_ids=[entry.id for entry in found], node_ids=nodes, any_of=True)
            return _Named(live=live, entries=found, nodes=nodes)
        case RevocationKind.NODE:
            return _Named(live=all_of_nodes(target.node_ids), nodes=target.node_ids)


def _ban(tx: Transaction, node_ids: Iterable[NodeID]) -> None:
    for node_id in node_ids:
        if (node := tx.nodes.get(node_id)) is not None:
            tx.nodes.put(banned(node))
            tx.tokens.void(node_id)


def _regroup(named: _Named) -> list[Change]:
    """The change log rows for those whose entitlement has changed."""
    entries = itertools.chain.from_iterable(entry_changes(entry, entry) for entry in named.entries)
    return [*entries, *(Change(kind=ChangeKind.NODE, subject=node_id) for node_id in named.nodes)]
