"""Filters for reading registration entries, the ledger and the audit record."""

from dataclasses import dataclass
from datetime import datetime

import msgspec

from cognomen.protocol.auditlog import AuditRow
from cognomen.protocol.entry import EntryID
from cognomen.protocol.names import NodeID, node_id_of
from cognomen.protocol.selector import Selector
from issuer.decisions.actions import AGENT_ACTIONS
from issuer.decisions.audit import Decision
from issuer.decisions.ledger import CredentialKind, CredentialState
from svid.errors import SpiffeIDError
from svid.spiffeid import SpiffeID, TrustDomain

__all__ = ["AuditFilter", "EntryFilter", "LedgerFilter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Which entries to read; a field that is None does not filter.

    Args:
        below: also those of every SPIFFE ID below `spiffe_id`.
        owner: empty: those without an owner.
        labels: those that have all of these labels.
        expires_before: those that expire before that; not those that never do.
        unused_since: those that were created before that, and of which no use was reported since.
        not_below: not those with this parent: the issuer is the parent of node groups.
    """

    spiffe_id: SpiffeID | None = None
    below: bool = False
    parent_id: SpiffeID | None = None
    selector: Selector | None = None
    owner: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    expires_before: datetime | None = None
    unused_since: datetime | None = None
    not_below: SpiffeID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFilter:
    """Which credentials to read; a field that is None does not filter.

    Args:
        below: also those of every SPIFFE ID below `spiffe_id`.
        owner: those signed for entries that have this owner now; empty: for entries without one.
        held_at: those that were valid then, and whose signing did not fail.
        held_since, held_until: those that were valid at some time from then on, and before then; not those whose signing failed.
        ends_before: those whose not_after is before that.
        is_revoked: those that ended by a revocation, or because their authority left the bundle before they expired.
    """

    spiffe_id: SpiffeID | None = None
    below: bool = False
    owner: str | None = None
    entry_id: EntryID | None = None
    node_id: NodeID | None = None
    held_at: datetime | None = None
    held_since: datetime | None = None
    held_until: datetime | None = None
    kind: CredentialKind | None = None
    state: CredentialState | None = None
    serial: str | None = None
    ends_before: datetime | None = None
    is_revoked: bool | None = None


class _Event(msgspec.Struct, frozen=True):
    """What filters look at in the body of an audit row."""

    at: datetime
    actor: str
    action: str
    decision: Decision
    subject: str
    credential: str
    facts: dict[str, str]


_AGENTS = ("retired", "of_agents")
"""The facts that have names of agents."""

_event_of = msgspec.json.Decoder(_Event).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which audit rows to read; a field that is None or empty does not filter.

    Args:
        since, until: those decided from then on, and before then.
        subject: that text; one that ends with / also matches everything that begins with it.
        node_id: those whose actor, subject or facts name that node.
        node_of: the trust domain of that node; an actor or a subject of another one is not it.
        agent: those about that agent of the rulebook, or about one of its components.
        agent_of: the trust domain of that agent.
        entry_id: those that record a change of that entry; the store finds them.
    """

    since: datetime | None = None
    until: datetime | None = None
    actor: str = ""
    actions: frozenset[str] = frozenset()
    subject: str = ""
    node_id: NodeID | None = None
    node_of: TrustDomain | None = None
    agent: str = ""
    agent_of: TrustDomain | None = None
    entry_id: EntryID | None = None
    decision: Decision | None = None
    credential: str = ""

    @property
    def judges_rows(self) -> bool:
        """Whether it looks into rows: everything but entry_id does."""
        return self != AuditFilter(entry_id=self.entry_id)

    def admits(self, row: AuditRow) -> bool:
        """Whether to read that row; a row that is not an event is read only without a filter."""
        if not self.judges_rows:
            return True
        try:
            event = _event_of(row.body)
        except msgspec.MsgspecError:
            return False
        return (
            (self.since is None or event.at >= self.since)
            and (self.until is None or event.at < self.until)
            and self.actor in {"", event.actor}
            and (not self.actions or event.action in self.actions)
            and (self.subject in {"", event.subject} or self._is_above(event.subject))
            and (self.node_id is None or self.node_id in _nodes_in(event, self.node_of))
            and (not self.agent or self._is_about_agent(event))
            and self.decision in {None, event.decision}
            and self.credential in {"", event.credential}
        )

    def _is_about_agent(self, event: _Event) -> bool:
        own = f"spiffe://{self.agent_of}/agent/{self.agent}"
        if event.subject == own or event.subject.startswith(f"{own}/"):
            return True
        is_command = event.action in AGENT_ACTIONS and event.subject.partition("/")[0] == self.agent
        return is_command or any(self.agent in event.facts.get(fact, "").split() for fact in _AGENTS)

    def _is_above(self, subject: str) -> bool:
        return self.subject.endswith("/") and subject.startswith(self.subject)


def _nodes_in(event: _Event, trust_domain: TrustDomain | None) -> set[str]:
    named = {event.facts.get("node", "")}
    for text in (event.actor, event.subject):
        try:
            spiffe_id = SpiffeID.parse(text)
        except SpiffeIDError:  # a uid, an entry's id
            continue
        if trust_domain is None or spiffe_id.is_member_of(trust_domain):
            named.add(node_id_of(spiffe_id) or "")
    return named
