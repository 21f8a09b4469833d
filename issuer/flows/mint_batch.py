"""What minting X.509 and JWT have in common: decide and record a batch in one transaction, sign only then.

The two kinds differ in what an item asks and in the draft it becomes: issue_x509svids, issue_jwtsvids.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Protocol, TypeVar

import structlog

from cognomen.daemon.errors import Kind, Refused
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions import audit, minting
from issuer.decisions.admission import Node
from issuer.decisions.audit import AuditEvent, Credential, CredentialState
from issuer.decisions.authority import Authority, AuthorityKind, active
from issuer.flows.defer_writes import DeferWrites
from issuer.metrics import Metrics
from issuer.queries import active_node_in, parents_in
from svid.clock import Clock
from svid.entry import EntryID, RegistrationEntry

__all__ = ["Granting", "Intent", "Issued", "MintBatch"]

log = structlog.get_logger(__name__)

_MOST_REASONS = 16  # some quote a number that the node chose: a batch must not become a thousand rows

DraftT = TypeVar("DraftT")
SignedT = TypeVar("SignedT")
WishT = TypeVar("WishT", bound="_Wish")


class _Wish(Protocol):
    """One item of a batch, parsed."""

    @property
    def entry_id(self) -> EntryID:
        """The entry it names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent(Generic[DraftT]):
    """A credential on record, not signed yet."""

    draft: DraftT
    credential: Credential


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued(Generic[SignedT]):
    """An SVID, and its row in the ledger; half-lives count from the row's issued_at."""

    signed: SignedT = field(repr=False)
    credential: Credential


@dataclass(frozen=True, slots=True, kw_only=True)
class Granting:
    """What a granted item is made from."""

    node: Node
    authority: Authority
    now: datetime


Prepare = Callable[[Transaction, Sequence[WishT]], Callable[[WishT, RegistrationEntry, Granting], Intent[DraftT]]]
"""Given the transaction and all parsed items: how to make the draft of one of them; it may refuse."""

Sign = Callable[[Sequence[DraftT], Authority], Awaitable[Sequence[SignedT]]]
"""Sign drafts that are on record, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MintBatch:
    """Mints batches."""

    datastore: Datastore
    deferred: DeferWrites
    clock: Clock
    metrics: Metrics

    async def mint(
        self,
        node: Node,
        wishes: Sequence[WishT | Refused],
        kind: AuthorityKind,
        prepare: Prepare[WishT, DraftT],
        sign: Sign[DraftT, SignedT],
    ) -> Sequence[Issued[SignedT] | Refused]:
        """Mint a batch, answers in order.

        Raises:
            Refused: UNAVAILABLE when it cannot be recorded or signed; DENIED when the node may nothing any more.
        """
        # 1. In one transaction: what this node may have now; what is granted stands in the ledger, all of it in the audit.
        outcomes, authority = await self.datastore.write(lambda tx: self._decide(tx, node, wishes, kind, prepare))
        granted = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
        refused = len(outcomes) - len(granted)
        log.info("svids recorded", kind=kind.value, node=str(node.spiffe_id), granted=len(granted), refused=refused)
        # 2. Only then sign, and lint what came out.
        credentials = [intent.credential for intent in granted]
        try:
            signed = iter(await sign([intent.draft for intent in granted], authority))
        except Refused:
            self._resolve(credentials, CredentialState.FAILED)
            raise
        # 3. What became of it, in a second write that nobody waits for.
        self._resolve(credentials, CredentialState.ISSUED)
        self._count(kind, outcomes)
        return [
            outcome if isinstance(outcome, Refused) else Issued(signed=next(signed), credential=outcome.credential)
            for outcome in outcomes
        ]

    def _count(self, kind: AuthorityKind, outcomes: Sequence[Intent[DraftT] | Refused]) -> None:
        reasons = Counter(outcome.kind for outcome in outcomes if isinstance(outcome, Refused))
        for reason, count in reasons.items():
            self.metrics.mint_refusals.labels(kind, reason).inc(count)
        self.metrics.svids_signed.labels(kind).inc(len(outcomes) - reasons.total())

    def _resolve(self, credentials: Collection[Credential], state: CredentialState) -> None:
        serials = [credential.serial for credential in credentials]
        self.deferred.put(lambda tx: tx.ledger.resolve(serials, state))

    def _decide(
        self,
        tx: Transaction,
        caller: Node,
        wishes: Sequence[WishT | Refused],
        kind: AuthorityKind,
        prepare: Prepare[WishT, DraftT],
    ) -> tuple[Sequence[Intent[DraftT] | Refused], Authority]:
        now = self.clock.now()
        node = active_node_in(tx, caller.id)
        granting = Granting(node=node, authority=active(tx.authorities.list(), kind), now=now)
        parsed = [wish for wish in wishes if not isinstance(wish, Refused)]
        parents = parents_in(tx, node, now=now)
        entries = tx.entries.get({wish.entry_id for wish in parsed})
        draft = prepare(tx, parsed)

        def judge(wish: WishT | Refused) -> Intent[DraftT] | Refused:
            if isinstance(wish, Refused):
                return wish
            try:
                entry = minting.check_entitled(entries.get(wish.entry_id), parents, now=now)
                return draft(wish, entry, granting)
            except Refused as refused:
                if refused.kind is Kind.INTERNAL:
                    raise
                return refused

        outcomes = [judge(wish) for wish in wishes]
        _put_on_record(tx, outcomes, granting, action=f"{kind} minted")
        return outcomes, granting.authority


def _put_on_record(
    tx: Transaction, outcomes: Sequence[Intent[DraftT] | Refused], granting: Granting, *, action: str
) -> None:
    """A ledger and an audit row per credential; an audit row per reason of refusal, with how many they were, up to some reasons."""
    actor = str(granting.node.spiffe_id)
    credentials = [outcome.credential for outcome in outcomes if not isinstance(outcome, Refused)]
    events: list[AuditEvent] = [audit.issued(credential, actor=actor) for credential in credentials]
    reasons = Counter((outcome.kind, outcome.detail) for outcome in outcomes if isinstance(outcome, Refused))
    told = reasons.most_common(_MOST_REASONS)
    refusals = [Refused(kind, detail, items=count) for (kind, detail), count in told]
    if untold := reasons.total() - sum(count for _, count in told):
        refusals.append(Refused(Kind.INVALID, "more reasons than are told apart", items=untold))
    events += [audit.refused(refused, at=granting.now, actor=actor, action=action) for refused in refusals]
    if credentials:
        tx.ledger.record(credentials)
    tx.audit.append(events)
