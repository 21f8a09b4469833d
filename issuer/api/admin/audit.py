"""The admin door's messages for the record of decisions and its checkpoints."""

from collections.abc import Iterable

from cognomen.protocol.auditlog import AuditRow
from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from cognomen.wire.node import time_from_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.fields import MAX_NUMBER, choice, own_spiffe_id, page_size
from issuer.api.admin.part import Part
from issuer.decisions.actions import is_action
from issuer.decisions.audit import Decision
from issuer.decisions.filters import AuditFilter

__all__ = ["AuditPart"]


class AuditPart(Part):
    """The methods for the record of decisions."""

    async def list_audit(self, request: pb.ListAuditRequest) -> pb.ListAuditResponse:
        limit = page_size(request.page_size)
        if request.newest:
            return pb.ListAuditResponse(rows=map(_row, await self._flows.queries.newest_audit(limit=limit)))
        where = AuditFilter(
            since=time_from_pb(request.since, "since") if request.HasField("since") else None,
            until=time_from_pb(request.until, "until") if request.HasField("until") else None,
            actor=self._actor(request.actor),
            actions=_actions(request.actions),
            subject=request.subject,
            node_id=NodeID(request.node_id) if request.node_id else None,
            node_of=self._flows.trust_domain if request.node_id else None,
            agent=request.agent,
            agent_of=self._flows.trust_domain if request.agent else None,
            entry_id=EntryID(request.entry_id) if request.entry_id else None,
            decision=choice(Decision, request.decision, "decision"),
            credential=request.credential,
        )
        after = min(request.after, MAX_NUMBER)
        rows, next_after = await self._flows.queries.list_audit(where, after=after, limit=limit)
        return pb.ListAuditResponse(rows=map(_row, rows), next_after=next_after)

    def _actor(self, text: str) -> str:
        """Who asked; if it is a SPIFFE ID, one that can ask here."""
        if text.startswith("spiffe://"):
            own_spiffe_id(text, "actor", self._flows.trust_domain)
        return text

    async def list_checkpoints(self, request: pb.ListCheckpointsRequest) -> pb.ListCheckpointsResponse:
        limit = page_size(request.page_size)
        found = await self._flows.queries.list_checkpoints(limit=limit)
        return pb.ListCheckpointsResponse(checkpoints=[checkpoint.to_json() for checkpoint in found])


def _actions(names: Iterable[str]) -> frozenset[str]:
    """Read the names of actions.

    Raises:
        Refused: NOT_FOUND for a name that no row can have.
    """
    known = frozenset(names)
    for unknown in sorted(one for one in known if not is_action(one)):
        raise Refused(
            Kind.NOT_FOUND,
            f"action: no action is called {unknown!r}",
            hint="docs/reference/audit.md lists them, such as: entry updated, x509 issued, node evicted",
        )
    return known


def _row(row: AuditRow) -> pb.AuditRow:
    return pb.AuditRow(number=row.number, body=row.body, hash=row.hash)
