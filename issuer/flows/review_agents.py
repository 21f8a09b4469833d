"""Review agents for their owners and for auditors: who uses which identity, whose review is overdue, and which rules are broad.

issuer/decisions/agentreviews decides what a review says. An export of it is signed with the key that signs checkpoints, and on record.
"""

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from cognomen.process.ownthreads import in_own_thread
from cognomen.protocol.agentreview import SignedReview
from cognomen.protocol.durations import format_duration
from cognomen.protocol.entry import EntryID, RegistrationEntry
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.moments import moment_in_words
from cognomen.protocol.names import issuer_id
from cognomen.rulebook.rules import Component, ComponentName, Rulebook
from issuer.datastore.port import Datastore, Transaction
from issuer.decisions.actions import Action
from issuer.decisions.admission import Node
from issuer.decisions.agentlife import with_retired
from issuer.decisions.agentreviews import (
    Broad,
    ReviewedAgents,
    Seen,
    Use,
    broad_rules,
    review_document,
)
from issuer.decisions.audit import AuditEvent
from issuer.decisions.filters import EntryFilter, LedgerFilter
from issuer.decisions.ledger import CredentialState
from issuer.decisions.rulebooks import AppliedRulebook, HeldAgent, RetiredAgent
from issuer.surroundings import Surroundings
from issuer.works.agentends import Rules, in_force_in, read_rules
from svid.encoding import JSON
from svid.keys import SigningKey
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["ReviewAgents"]

_SLICE = 200  # components that are looked up in one transaction: others read in between
_FAILED_IN_A_ROW = 8  # mints that are looked at to find one that did not fail
_IDS_OF_ONE = 100  # entries that a component had, each of which may have been used
_MOST_ENTRIES = 100_000
_SUBJECT = "agents"


class _Nodes(Protocol):
    """Knows which nodes are silent, as issuer/queries does."""

    async def silent_below(
        self, parents: Collection[SpiffeID], *, since: datetime, now: datetime, seen: Callable[[Node], Node]
    ) -> Sequence[tuple[Node, frozenset[SpiffeID]]]:
        """The nodes that did not report all uses since then, and which of these parents each has."""


class _Life(NamedTuple):
    """What operators, the issuer and rulebooks did to agents, in one transaction."""

    applied: AppliedRulebook
    held: Mapping[str, HeldAgent]
    retired: Mapping[str, RetiredAgent]
    incarnation: str
    audit: tuple[int, bytes]
    uses_since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewAgents:
    """Makes reviews.

    Args:
        seen: returns a node's row with what is known of it, but not stored yet.
        uses_kept: for how long a use is kept after it was the last one of its process.
        key: returns the key that signs checkpoints.
    """

    datastore: Datastore
    nodes: _Nodes
    around: Surroundings
    trust_domain: TrustDomain
    seen: Callable[[Node], Node]
    uses_kept: timedelta
    key: Callable[[], Awaitable[SigningKey]]

    async def __call__(self, unused_for: timedelta) -> dict[str, JSON]:
        """Make a review.

        Raises:
            Refused: NOT_FOUND when no rulebook was applied; INVALID when this release cannot read it, or for a time that is longer than
                uses are kept.
        """
        # 1. Read the rulebook in force, and what became of its agents.
        if not timedelta() <= unused_for <= self.uses_kept:
            raise Refused(
                Kind.INVALID,
                f"unused_for: expected at most {format_duration(self.uses_kept)}, for which uses are kept,"
                f" found {format_duration(unused_for)}",
                hint="the issuer's setting uses_kept says for how long; it changes nothing for what is forgotten",
            )
        now = self.around.clock.now()
        life = await self.datastore.read(_life_in)
        rules, broad = await in_own_thread(_read, life.applied, life.retired.keys())
        # 2. Find who used what.
        since = now - unused_for
        entries, silent = await self._entries(since, now)
        seen = await self._seen(rules.rulebook, entries, since, silent)
        # 3. Write it down.
        not_reporting: list[JSON] = [*sorted(node.shown_name for node, _ in silent)]
        about: dict[str, JSON] = {
            "trust_domain": self.trust_domain.name,
            "issuer": str(issuer_id(self.trust_domain)),
            "incarnation": life.incarnation,
            "at": moment_in_words(now),
            "revision": life.applied.revision,
            "rulebook_sha256": life.applied.digest,
            "applied_at": moment_in_words(life.applied.at),
            "applied_by": life.applied.actor,
            "unused_for": format_duration(unused_for),
            "uses_since": moment_in_words(max(life.uses_since, now - self.uses_kept)),
            "not_reporting": not_reporting,
            "audit_rows": life.audit[0],
            "audit_head": life.audit[1].hex(),
        }
        review = ReviewedAgents(
            rulebook=rules.rulebook,
            held=life.held,
            retired=life.retired,
            seen=seen,
            broad=broad,
            at=now,
            about=about,
        )
        return review_document(review)

    async def export(self, unused_for: timedelta, *, actor: str) -> SignedReview:
        """Make a review and sign it, as evidence; the record says that it was handed out, and its digest.

        Raises:
            Refused: as a call; UNAVAILABLE, from store and keys.
        """
        document = await self(unused_for)
        signed = SignedReview.signed(document, await self.key())
        event = AuditEvent(
            at=self.around.clock.now(),
            actor=actor,
            action=Action.REVIEW_EXPORTED,
            subject=_SUBJECT,
            facts={
                "rulebook": str(document["revision"]),
                "sha256": hashlib.sha256(signed.signed_bytes()).hexdigest(),
                "public_key_sha256": signed.key_thumbprint,
            },
        )
        await self.datastore.write(lambda tx: tx.audit.append([event]))
        return signed

    async def _entries(
        self, since: datetime, now: datetime
    ) -> tuple[Mapping[str, Sequence[RegistrationEntry]], Sequence[tuple[Node, frozenset[SpiffeID]]]]:
        """The entries of components by their paths; and the nodes that may have used some without a report, with their parents."""
        where = EntryFilter(spiffe_id=SpiffeID(trust_domain=self.trust_domain, path="/agent"), below=True)
        found = await self.datastore.read(lambda tx: tx.entries.find(where, after="", limit=_MOST_ENTRIES))
        by_path: dict[str, list[RegistrationEntry]] = {}
        for entry in found:
            by_path.setdefault(entry.spiffe_id.path, []).append(entry)
        parents = {entry.parent_id for entry in found}
        silent = await self.nodes.silent_below(parents, since=since, now=now, seen=self.seen) if parents else ()
        return by_path, silent

    async def _seen(
        self,
        rulebook: Rulebook,
        entries: Mapping[str, Sequence[RegistrationEntry]],
        since: datetime,
        silent: Iterable[tuple[Node, frozenset[SpiffeID]]],
    ) -> Mapping[ComponentName, Seen]:
        theirs = frozenset[SpiffeID]().union(*(parents for _, parents in silent))
        components = list(rulebook.components())
        seen: dict[ComponentName, Seen] = {}
        for first in range(0, len(components), _SLICE):
            some = components[first : first + _SLICE]

            def work(tx: Transaction, some: Sequence[Component] = some) -> Mapping[ComponentName, Seen]:
                return {one.name: self._seen_in(tx, one, entries.get(one.path, ()), since, theirs) for one in some}

            seen |= await self.datastore.read(work)
        return seen

    def _seen_in(
        self,
        tx: Transaction,
        component: Component,
        entries: Sequence[RegistrationEntry],
        since: datetime,
        silent: frozenset[SpiffeID],
    ) -> Seen:
        own = SpiffeID(trust_domain=self.trust_domain, path=component.path)
        minted = tx.ledger.find(LedgerFilter(spiffe_id=own), before=0, limit=_FAILED_IN_A_ROW)
        gone = [EntryID(one.id) for one in tx.ids.deleted_entries(own, limit=_IDS_OF_ONE)]
        used = tx.uses.last([*(one.id for one in entries), *gone])
        last = max(used.values(), default=None)
        return Seen(
            last_minted=next((one.issued_at for one in minted if one.state is not CredentialState.FAILED), None),
            last_fetched=last,
            use=_use(entries, last, since, silent),
        )


def _use(
    entries: Sequence[RegistrationEntry], last: datetime | None, since: datetime, silent: frozenset[SpiffeID]
) -> Use:
    if not entries:
        return Use.NONE
    if last is not None and last >= since:
        return Use.USED
    if any(one.parent_id in silent for one in entries):
        return Use.NOT_KNOWN
    return Use.NEW if all(one.created_at is not None and one.created_at >= since for one in entries) else Use.UNUSED


def _life_in(tx: Transaction) -> _Life:
    return _Life(
        applied=in_force_in(tx),
        held=tx.agents.held(),
        retired=tx.rulebooks.retired(),
        incarnation=tx.changes.head().incarnation,
        audit=tx.audit.head(),
        uses_since=tx.uses.since(),
    )


def _read(applied: AppliedRulebook, retired: Collection[str]) -> tuple[Rules, Broad]:
    rules = read_rules(applied)
    if not rules.is_whole:
        raise Refused(
            Kind.INVALID, "rulebook: this release cannot read the one in force", hint="apply one that it can read"
        )
    return rules, broad_rules(with_retired(rules.rulebook, retired))
