"""Remember when and from where each node last called, and the time of which it reported every use of identities.

A call costs one look in memory, and the store is told rarely.

Not decided here: whether the node may call (issuer/flows/admit_call), and which of its times are one (issuer/decisions/coverage).
"""

from dataclasses import dataclass, replace
from datetime import datetime

from cognomen.protocol.names import NodeID
from issuer.datastore.port import Transaction
from issuer.decisions.admission import Node
from issuer.decisions.coverage import continued
from issuer.decisions.uses import Reported
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
        reported: what its attestors told us of their reports since we started; None: nothing.
    """

    at: datetime
    address: str
    written_at: float
    reported: Reported | None = None


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

    def tell(self, node_id: NodeID, told: Reported | None) -> None:
        """A node that has called told the time of which it reported every use; None: it did not, as an earlier release."""
        last = self._last.get(node_id)
        if last is None:
            return
        before, now = last.reported, self._clock.now()
        if told is None and (before is None or before.until is None):  # an attestor has started that does not report
            told = Reported(since=now, until=now)
        if told is not None:
            last.reported = told if before is None else continued(before, told)
            if before is None or told.until is None:
                self._write(node_id)

    def end(self, node_id: NodeID) -> None:
        """The last feed of a node ended: the store is told, because it may stay away."""
        if node_id in self._last:
            self._write(node_id)

    def seen(self, node: Node) -> Node:
        """The row with the last call that we know of."""
        last = self._last.get(node.id)
        return node if last is None else _with(last, node)

    def _write(self, node_id: NodeID) -> None:
        last = replace(self._last[node_id])

        def work(tx: Transaction) -> None:
            node = tx.nodes.get(node_id)
            if node is not None:
                tx.nodes.put(_with(last, node))

        self._deferred.put(work)


def _with(last: _Sighting, node: Node) -> Node:
    """The row with what we remember."""
    told, reported = last.reported, node.reported
    if told is not None and (
        reported is not None or told.since != told.until
    ):  # otherwise it has reported nothing so far
        reported = continued(node.known_uses, told)
    return replace(node, seen_at=last.at, address=last.address or node.address, reported=reported)
