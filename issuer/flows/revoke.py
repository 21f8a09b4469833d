"""End credentials before their time, on behalf of an operator: what was said, what follows, change and audit in one transaction.

What may be named is decided in issuer/decisions/revocation. Who tells the verifiers: feed_attestors; why it is so: ADR-0015.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import structlog

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Datastore, EntryFilter, LedgerFilter, Transaction
from issuer.datastore.revocationport import Falling
from issuer.decisions import audit
from issuer.decisions.admission import NodeState
from issuer.decisions.audit import AuditEvent, CredentialKind, NodeID
from issuer.decisions.changes import Change, ChangeKind, entry_changes
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
from issuer.flows.watch_enforcement import WatchEnforcement
from issuer.queries import all_nodes_in, entries_in, groups_in
from svid.clock import Clock
from svid.entry import EntryID, RegistrationEntry

__all__ = ["Revoke", "Revoked", "all_of_node", "deny_in", "end_in"]

log = structlog.get_logger(__name__)

_ALL_OF_A_NODE = frozenset({CredentialKind.X509, CredentialKind.JWT, CredentialKind.NODE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked:
    """What became of a command.

    Args:
        revocation: as it stands; its number is 0 after a dry run.
        falling: what ended by it, or would.
    """

    revocation: Revocation
    falling: Falling


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """Whom a target names now.

    Args:
        entries: whose entitlement it changes.
        nodes: whose entitlement it changes as a whole.
    """

    live: Live
    entries: Sequence[RegistrationEntry] = ()
    nodes: Sequence[NodeID] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoke:
    """Revokes, and lifts blocks."""

    datastore: Datastore
    clock: Clock
    watch: WatchEnforcement

    async def __call__(self, target: Target, *, reason: Reason, comment: str, dry_run: bool, actor: str) -> Revoked:
        """Revoke what an operator names.

        Args:
            dry_run: only say what would end.

        Raises:
            Refused: INVALID, NOT_FOUND; it is on record then.
        """
        asked = Revocation(target=target, reason=reason, comment=comment, actor=actor, at=self.clock.now())
        if dry_run:
            return await self.datastore.read(lambda tx: self._look(tx, asked))
        try:
            revoked = await self.datastore.write(lambda tx: self._revoke(tx, asked))
        except Refused as refused:
            await self._record_refusal(refused, actor=actor, action="revoked")
            raise
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
                reason=f"expected fewer than {MAX_OVER} credentials that ended within a day, found as many or more",
                hint="connections may go on that are older than their peer's SVID: revoke again to deny the next ones",
            )
        return revoked

    async def lift(self, number: int, *, actor: str) -> Revocation:
        """End a block; what was denied stays denied.

        Raises:
            Refused: NOT_FOUND; INVALID for one that blocks nobody; CONFLICT for one that was lifted.
        """

        def work(tx: Transaction) -> Revocation:
            found = tx.revocations.get(number)
            if found is None:
                raise Refused(
                    Kind.NOT_FOUND, f"number: no revocation has the number {number}", hint="cognomen revoke list"
                )
            after = lifted(found, by=actor, now=self.clock.now())
            tx.revocations.put(after)
            tx.changes.append(_regroup(_named(tx, found.target)))
            event = AuditEvent(at=self.clock.now(), actor=actor, action="revocation lifted", subject=str(number))
            tx.audit.append([event])
            return after

        try:
            return await self.datastore.write(work)
        except Refused as refused:
            await self._record_refusal(refused, actor=actor, action="revocation lifted", subject=str(number))
            raise

    async def find(self, *, before: int, limit: int) -> Sequence[Revocation]:
        """A page of revocations, newest first."""
        return await self.datastore.read(lambda tx: tx.revocations.find(before=before, limit=limit))

    def _look(self, tx: Transaction, asked: Revocation) -> Revoked:
        _check(tx, asked)
        named = _named(tx, asked.target)
        falling = tx.denials.falling(named.live, now=asked.at)
        return Revoked(revocation=replace(asked, denied=falling.count), falling=falling)

    def _revoke(self, tx: Transaction, asked: Revocation) -> Revoked:
        # 1. Whom it names.
        _check(tx, asked)
        named = _named(tx, asked.target)
        falling = tx.denials.falling(named.live, now=asked.at)
        # 2. What was said, and the credentials that follow.
        revocation = deny_in(tx, asked, named.live)
        # 3. Nodes are sent away with theirs.
        if asked.target.kind is RevocationKind.NODE:
            _ban(tx, asked.target.node_ids)
        # 4. Whoever follows the log, learns it.
        tx.changes.append(_regroup(named))
        return Revoked(revocation=revocation, falling=falling)

    async def _record_refusal(self, refused: Refused, *, actor: str, action: str, subject: str = "") -> None:
        if refused.kind is not Kind.UNAVAILABLE:
            event = audit.refused(refused, at=self.clock.now(), actor=actor, action=action, subject=subject)
            await self.datastore.write(lambda tx: tx.audit.append([event]))


def deny_in(tx: Transaction, asked: Revocation, live: Live) -> Revocation:
    """Put a revocation and its denials down, with their change and their row of the audit; as it stands from then on.

    Once it is committed, WatchEnforcement.committed begins to measure how long it takes.
    """
    number = tx.revocations.add(asked)
    denied = tx.denials.deny(live, revocation=number, now=asked.at)
    is_leak = asked.reason is Reason.KEY_COMPROMISE
    compromised = tx.denials.compromise(live, revocation=number, now=asked.at) if is_leak else 0
    change = tx.changes.append([Change(kind=ChangeKind.DENIAL, subject=str(number))])
    stored = replace(asked, number=number, denied=denied.live, over=denied.over, compromised=compromised, change=change)
    tx.revocations.put(stored)
    tx.audit.append(
        [
            AuditEvent(
                at=asked.at,
                actor=asked.actor,
                action="revoked",
                subject=_subject(asked.target),
                facts={
                    "revocation": str(number),
                    "kind": asked.target.kind.value,
                    "reason": asked.reason.value,
                    "comment": asked.comment,
                    "denied": str(stored.denied),
                    "over": str(stored.over),
                    "compromised": str(stored.compromised),
                },
            )
        ]
    )
    return stored


def end_in(tx: Transaction, asked: Revocation, live: Live) -> Revocation | None:
    """End what is left of somebody who is sent away by another command; where nothing is, there is nothing to say."""
    is_leak = asked.reason is Reason.KEY_COMPROMISE
    return deny_in(tx, asked, live) if tx.denials.is_any(live, now=asked.at, is_leak=is_leak) else None


def all_of_node(node_id: NodeID) -> Live:
    """Everything that was signed for a node and its workloads."""
    return Live(kinds=_ALL_OF_A_NODE, node_ids=[node_id])


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
    """Whether the ledger knows a credential of somebody, who may be gone."""
    return bool(tx.ledger.find(where, before=0, limit=1))


def _check_nodes(tx: Transaction, node_ids: Iterable[NodeID]) -> None:
    for node_id in node_ids:
        if tx.nodes.get(node_id) is None:
            raise Refused(
                Kind.NOT_FOUND,
                f"node: no node is {node_id!r}",
                hint="what was signed for a node that is gone: cognomen revoke issued-before --node",
            )


def _check_entries(tx: Transaction, entry_ids: Sequence[EntryID]) -> None:
    found = tx.entries.get(entry_ids)
    for entry_id in entry_ids:
        if entry_id not in found:
            raise Refused(
                Kind.NOT_FOUND,
                f"entry: no entry has the id {entry_id!r}",
                hint="what was signed for an entry that is gone: cognomen revoke issued-before --entry",
            )
        if is_group(found[entry_id]):
            raise Refused(
                Kind.INVALID,
                f"entry: expected a workload's, found {entry_id} of a node group",
                hint=HINT_OF_A_GROUP,
            )


def _named(tx: Transaction, target: Target) -> _Named:
    """Whom a target names, as this transaction sees it."""
    match target.kind:
        case RevocationKind.SVID:
            return _Named(live=Live(serials=target.serials))
        case RevocationKind.ISSUED_BEFORE:
            live = Live(
                issued_until=target.before,
                entry_ids=target.entry_ids or None,
                node_ids=target.node_ids or None,
                spiffe_id=target.spiffe_id,
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
            return _Named(live=Live(kinds=_ALL_OF_A_NODE, node_ids=target.node_ids), nodes=target.node_ids)


def _ban(tx: Transaction, node_ids: Iterable[NodeID]) -> None:
    for node_id in node_ids:
        if (node := tx.nodes.get(node_id)) is not None:
            tx.nodes.put(replace(node, state=NodeState.BANNED))
            tx.tokens.void(node_id)


def _regroup(named: _Named) -> list[Change]:
    """The rows of the log for those whose entitlement has changed."""
    entries = itertools.chain.from_iterable(entry_changes(entry, entry) for entry in named.entries)
    return [*entries, *(Change(kind=ChangeKind.NODE, subject=node_id) for node_id in named.nodes)]


def _subject(target: Target) -> str:
    """What the audit names it by; the rest is in the revocation's own row."""
    many = target.serials or target.entry_ids or target.node_ids
    if target.spiffe_id is not None:
        return f"{target.spiffe_id}{'/…' if target.below else ''}"
    if target.selector is not None:
        return str(target.selector)
    return "" if not many else many[0] if len(many) == 1 else f"{many[0]} and {len(many) - 1} more"
