"""The admin door's messages for the uses of identities."""

from cognomen.protocol.entry import EntryID
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from cognomen.wire.node import time_from_pb, time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from cognomen.wire.uses import use_to_pb
from issuer.api.admin.fields import number, page_size
from issuer.api.admin.part import Part
from issuer.decisions.admission import Node
from issuer.decisions.uses import NotedUse, UseFilter

__all__ = ["UsesPart", "silent_to_pb"]

_MOST_IDS = 1000


class UsesPart(Part):
    """The methods for uses."""

    async def list_uses(self, request: pb.ListUsesRequest) -> pb.ListUsesResponse:
        limit, after = page_size(request.page_size), number(request.page_token)
        for field, ids in (("entry_ids", request.entry_ids), ("node_ids", request.node_ids)):
            if len(ids) > _MOST_IDS:
                raise Refused(Kind.INVALID, f"{field}: expected at most {_MOST_IDS}, found {len(ids)}")
        where = UseFilter(
            entry_ids=frozenset(map(EntryID, request.entry_ids)),
            node_id=NodeID(request.node_id) if request.node_id else None,
            since=time_from_pb(request.since, "since") if request.HasField("since") else None,
            until=time_from_pb(request.until, "until") if request.HasField("until") else None,
        )
        found, since = await self._flows.queries.list_uses(where, after=after, limit=limit)
        now = self._flows.clock.now()
        since = max(since, now - self._flows.uses_kept)
        token = str(found[-1].number) if len(found) == limit else ""
        silent = await self._flows.queries.silent_among(
            sorted(set(map(NodeID, request.node_ids))),
            since=where.since or since,
            until=min(where.until or now, now),
            seen=self._flows.sightings.seen,
        )
        return pb.ListUsesResponse(
            uses=map(_use, found),
            next_page_token=token,
            uses_since=time_to_pb(since),
            not_reporting=map(silent_to_pb, silent),
        )


def silent_to_pb(node: Node) -> pb.SilentNode:
    """Name a node that did not report all uses, and the time of which it did."""
    message = pb.SilentNode(id=node.id, name=node.shown_name)
    if node.reported is not None:
        message.uses_since.FromDatetime(node.reported.since)
        if node.reported.until is not None:
            message.uses_until.FromDatetime(node.reported.until)
    return message


def _use(noted: NotedUse) -> node_pb2.Use:
    message = use_to_pb(noted.use)
    message.node_id = noted.node_id
    return message
