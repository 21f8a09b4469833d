"""The admin door's messages for nodes and the invites with which they join."""

from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.names import NodeID
from cognomen.wire.node import duration_from_pb, selector_to_pb, time_to_pb
from cognomen.wire.pb import admin_pb2 as pb
from issuer.api.admin.fields import invalid_token, is_made_id, page_size
from issuer.api.admin.part import Part
from issuer.decisions.admission import Node, state_of
from issuer.decisions.readmission import returns_until
from issuer.flows.create_invite import CreatedInvite

__all__ = ["NodesPart"]


class NodesPart(Part):
    """The methods for nodes and invites."""

    async def create_invite(self, request: pb.CreateInviteRequest) -> pb.CreateInviteResponse:
        ttl = duration_from_pb(request.ttl, "ttl") if request.HasField("ttl") else None
        labels, node = dict(request.labels), request.node_id or None
        if request.without_token:
            if labels or node or ttl is not None:
                raise Refused(
                    Kind.INVALID, "without_token: expected no labels, node_id and ttl beside it, which a token has"
                )
            return _invite(await self._flows.invites.without_token())
        self._flows.invites.check_taken(self._flows.entries.node_attestors)
        return _invite(await self._flows.invites(actor=self._by(request), labels=labels, ttl=ttl, node=node))

    async def list_nodes(self, request: pb.ListNodesRequest) -> pb.ListNodesResponse:
        limit = page_size(request.page_size)
        after = request.page_token
        if after and not is_made_id(after) and not await self._flows.queries.has_node(NodeID(after)):
            raise invalid_token()
        found = await self._flows.queries.list_nodes(after=after, limit=limit)
        token = found[-1].id if len(found) == limit else ""
        return pb.ListNodesResponse(nodes=[self._node(node) for node in found], next_page_token=token)

    async def get_node(self, request: pb.GetNodeRequest) -> pb.Node:
        return self._node(await self._flows.queries.get_node(request.id))

    async def evict_node(self, request: pb.GetNodeRequest) -> pb.Node:
        return self._sent_away(await self._flows.nodes.evict(request.id, actor=self._by(request)), "evicted")

    async def ban_node(self, request: pb.GetNodeRequest) -> pb.Node:
        return self._sent_away(await self._flows.nodes.ban(request.id, actor=self._by(request)), "banned")

    async def unban_node(self, request: pb.GetNodeRequest) -> pb.Node:
        return self._sent_away(await self._flows.nodes.unban(request.id, actor=self._by(request)), "unbanned")

    async def rename_node(self, request: pb.RenameNodeRequest) -> pb.Node:
        return self._node(await self._flows.nodes.rename(request.id, request.name, actor=self._by(request)))

    async def purge_nodes(self, request: pb.PurgeNodesRequest) -> pb.PurgeNodesResponse:
        expired_for = duration_from_pb(request.expired_for, "expired_for")
        purged = await self._flows.nodes.purge(expired_for, dry_run=request.dry_run, actor=self._by(request))
        nodes = [self._node(one) if request.dry_run else self._sent_away(one, "purged") for one in purged]
        return pb.PurgeNodesResponse(nodes=nodes)

    def _sent_away(self, row: Node, became: str) -> pb.Node:
        """The row as it was, with what became of the node: its feed ends, and it does not come back on its own."""
        message = self._node(row)
        message.state, message.connected = became, False
        message.ClearField("returns_until")
        return message

    def _node(self, row: Node) -> pb.Node:
        node = self._flows.sightings.seen(row)
        connected, now = node.id in self._flows.feed.connected, self._flows.clock.now()
        message = pb.Node(
            id=node.id,
            spiffe_id=str(node.spiffe_id),
            attestor=node.attestor,
            selectors=[selector_to_pb(selector) for selector in sorted(node.selectors)],
            state=state_of(node, connected=connected, now=now),
            attested_at=time_to_pb(node.attested_at),
            current_serial=node.current_serial,
            pending_serial=node.pending_serial,
            svid_not_after=time_to_pb(node.svid_not_after),
            acknowledged=node.acknowledged,
            connected=connected,
            name=node.shown_name,
            address=node.address,
        )
        if node.seen_at is not None:
            message.last_seen.FromDatetime(node.seen_at)
        if node.reported is not None:
            message.uses_since.FromDatetime(node.reported.since)
            if node.reported.until is not None:
                message.uses_until.FromDatetime(node.reported.until)
        until = returns_until(node, window=self._flows.return_window)
        if until is not None and until > now:
            message.returns_until.FromDatetime(until)
        return message


def _invite(made: CreatedInvite) -> pb.CreateInviteResponse:
    message = pb.CreateInviteResponse(invite=str(made.invite))
    if made.spiffe_id is not None:
        message.node_spiffe_id = str(made.spiffe_id)
    if made.expires_at is not None:
        message.expires_at.FromDatetime(made.expires_at)
    return message
