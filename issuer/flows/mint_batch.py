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
from issuer.decisions.audit import Credential, CredentialState
from issuer.decisions.authority import Authority, AuthorityKind, active
from issuer.flows.audit_refusals import AuditRefusals
from issuer.flows.defer_writes import DeferWrites
from issuer.flows.keep_budgets import MintBudgets
from issuer.metrics import Metrics
from issuer.queries import active_node_in, parents_in
from svid.clock import Clock
from svid.entry import EntryID, RegistrationEntry

__all__ = ["Granting", "Intent", "Issued", "MintBatch"]

log = structlog.get_logger(__name__)

DraftT = TypeVar("DraftT")
SignedT = TypeVar("SignedT")
WishT = TypeVar("WishT", bound="_Wish")


class _Wish(Protocol):
    """One item of a batch, parsed."""

    @property
    def entry_id(self) -> EntryID:
        """The entry it names."""

    @property
    def cost(self) -> float:
        """What it takes from the budgets of its entry and node."""


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
    budgets: MintBudgets
    refusals: AuditRefusals
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
        # 1. What the budgets of node and entries do not hold, is refused before anything is written.
        asked, wishes = wishes, self.budgets.within(node.id, kind, wishes)
        refusals = [wish for wish in wishes if isinstance(wish, Refused)]
        if len(refusals) == len(wishes):
            await self._refuse(node, asked, refusals, kind)
            return refusals
        # 2. In one transaction: what this node may have now; what is granted stands in the ledger and in the audit.
        outcomes, authority = await self.datastore.write(
            lambda tx: self._decide(tx, node, wishes, kind, prepare), expendable=True
        )
        granted = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
        refused = len(outcomes) - len(granted)
        log.info("svids recorded", kind=kind.value, node=str(node.spiffe_id), granted=len(granted), refused=refused)
        # 3. What is refused goes on record, too, but not a row each.
        await self._refuse(node, asked, outcomes, kind)
        # 4. Only then sign, and lint what came out.
        signed = iter(await self._sign(granted, authority, sign))
        self.metrics.svids_signed.labels(kind).inc(len(granted))
        return [
            outcome if isinstance(outcome, Refused) else Issued(signed=next(signed), credential=outcome.credential)
            for outcome in outcomes
        ]

    async def _sign(
        self, granted: Sequence[Intent[DraftT]], authority: Authority, sign: Sign[DraftT, SignedT]
    ) -> Sequence[SignedT]:
        """Sign; what became of it is a second write that nobody waits for."""
        credentials = [intent.credential for intent in granted]
        try:
            signed = await sign([intent.draft for intent in granted], authority)
        except Refused:
            self._resolve(credentials, CredentialState.FAILED)
            raise
        self._resolve(credentials, CredentialState.ISSUED)
        return signed

    async def _refuse(
        self,
        node: Node,
        asked: Sequence[WishT | Refused],
        outcomes: Sequence[Intent[DraftT] | Refused],
        kind: AuthorityKind,
    ) -> None:
        """Count what was refused and put it on record, with the first entry of those refused alike."""
        alike: Counter[tuple[Kind, str]] = Counter()
        entries: dict[tuple[Kind, str], str] = {}
        for wish, refused in zip(asked, outcomes, strict=True):
            if isinstance(refused, Refused):
                alike[refused.kind, refused.detail] += 1
                entries.setdefault((refused.kind, refused.detail), "" if isinstance(wish, Refused) else wish.entry_id)
        for (reason, _), count in alike.items():
            self.metrics.mint_refusals.labels(kind, reason).inc(count)
        told = [
            Refused(reason, detail, items=count, entry=entries[reason, detail])
            for (reason, detail), count in alike.most_common()
        ]
        await self.refusals.record_items(told, actor=str(node.spiffe_id), action=f"{kind} minted")

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
        granting = Granting(node=node, authority=active(tx.authorities.list(), kind, now=now), now=now)
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
        credentials = [outcome.credential for outcome in outcomes if not isinstance(outcome, Refused)]
        if credentials:
            tx.ledger.record(credentials)
            tx.audit.append([audit.issued(credential, actor=str(node.spiffe_id)) for credential in credentials])
        return outcomes, granting.authority
