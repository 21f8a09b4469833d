"""Remember when and from where each node last called, for people: a call costs one look in memory, and the store is told rarely.

Not decided here: whether the node may call (issuer/flows/admit_call).
"""

from dataclasses import dataclass, replace
from datetime import datetime

from cognomen.protocol.names import NodeID
from issuer.datastore.port import Transaction
from issuer.decisions.admission import Node
from issuer.keepers.deferred_writes import DeferredWrites
from issuer.surroundings import Surroundings

__all__ = ["NodeSightings"]

_MOST = 100_000
_EVERY_SECONDS = 300.0  # a node calls every 15 s; a kill of the issuer loses at most this much


@dataclass(slots=True)
class _Sighting:
    """The last call of a node.

    Args:
        written_at: when the store was last told, by the monotonic clock.
    """

    at: datetime
    address: str
    written_at: float


class NodeSightings:
    """The last call of each node that called since we started."""

    def __init__(self, *, deferred: DeferredWrites, around: Surroundings) -> None:
        self._deferred = deferred
        self._clock = around.clock
        self._last: dict[NodeID, _Sighting] = {}

    def note(self, node_id: NodeID, address: str) -> None:
        """A node whose call was admitted called from that host.

        Args:
            address: empty: not known.
        """
        now, monotonic = self._clock.now(), self._clock.monotonic()
        last = self._last.get(node_id)
        if last is None:
            if len(self._last) >= _MOST:
                del self._last[next(iter(self._last))]
            last = self._last[node_id] = _Sighting(now, address, monotonic)
        elif monotonic - last.written_at < _EVERY_SECONDS:
            last.at, last.address = now, address or last.address
            return
        last.at, last.address, last.written_at = now, address or last.address, monotonic
        self._write(node_id)

    def end(self, node_id: NodeID) -> None:
        """The last feed of a node ended: the store is told, because it may stay away."""
        if node_id in self._last:
            self._write(node_id)

    def seen(self, node: Node) -> Node:
        """The row with the last call that we know of."""
        last = self._last.get(node.id)
        return node if last is None else replace(node, seen_at=last.at, address=last.address or node.address)

    def _write(self, node_id: NodeID) -> None:
        last = self._last[node_id]
        at, address = last.at, last.address

        def work(tx: Transaction) -> None:
            node = tx.nodes.get(node_id)
            if node is not None:
                tx.nodes.put(replace(node, seen_at=at, address=address or node.address))

        self._deferred.put(work)
