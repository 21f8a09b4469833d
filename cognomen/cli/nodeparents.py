"""Whose an entry is, seen from one node: its own, that of others, or of no node at all, because nothing is its parent any more."""

from datetime import UTC
from enum import StrEnum

from cognomen.cli.admin import Admin, pages
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.selectorcheck import EVERY_NODE
from cognomen.wire.node import selector_from_pb
from cognomen.wire.pb import admin_pb2 as pb
from cognomen.wire.pb import node_pb2
from svid.clock import SystemClock

__all__ = ["Place", "Whose"]


class Place(StrEnum):
    """Where an entry applies; also the keys in the JSON of `why`."""

    HERE = "here"
    ELSEWHERE = "elsewhere"
    NOWHERE = "nowhere"


class Whose:
    """Answers for one node, which may have been sent away; each parent is looked up once.

    Args:
        node: its SPIFFE ID.
    """

    def __init__(self, admin: Admin, node: str) -> None:
        self._admin = admin
        self._issuer = f"{node.partition('/cognomen/node/')[0]}/cognomen/issuer"
        found = self._node(node)
        self._selectors = None if found is None else frozenset(map(selector_from_pb, found.selectors))
        self._known = {node: Place.HERE}

    def parent(self, spiffe_id: str) -> Place:
        """Where the entries with this parent apply."""
        if spiffe_id not in self._known:
            self._known[spiffe_id] = self._find(spiffe_id)
        return self._known[spiffe_id]

    def _find(self, parent: str) -> Place:
        request = pb.ListEntriesRequest(spiffe_id=parent, parent_id=self._issuer)
        groups = [one for page in pages(self._admin.list_entries, request, every=True) for one in page.entries]
        if any(map(self._belongs, groups)):
            return Place.HERE
        return Place.ELSEWHERE if groups or self._node(parent) is not None else Place.NOWHERE

    def _belongs(self, group: node_pb2.Entry) -> bool:
        is_over = group.HasField("expires_at") and group.expires_at.ToDatetime(tzinfo=UTC) <= SystemClock().now()
        wanted = frozenset(map(selector_from_pb, group.selectors))
        return self._selectors is not None and not is_over and (wanted <= self._selectors or wanted == {EVERY_NODE})

    def _node(self, spiffe_id: str) -> pb.Node | None:
        try:
            return self._admin.get_node(pb.GetNodeRequest(id=spiffe_id))
        except Refused as e:
            if e.kind not in {Kind.NOT_FOUND, Kind.INVALID}:  # no node has it, or no node can have it
                raise
            return None
