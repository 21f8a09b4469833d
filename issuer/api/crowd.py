"""How many connections a network door holds, and for whom: strangers share their room, nodes have their own.

This decides who is let in, and who has to make room. doors decides what proves a node; front serves connections.
No I/O and no clock.
"""

import ipaddress
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

__all__ = ["Crowd", "CrowdLimits", "FullError", "KnownAddresses", "address_of"]

_KNOWN = 16_384
_KNOWN_OF_A_NODE = 16
_IPV6_NETWORK_BYTES = 8  # one subscriber has at least a /64
_ROOM_PER_NODE = 2  # a node that reconnects may have an old connection that nobody has given up yet

ConnectionT = TypeVar("ConnectionT")


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdLimits:
    """How many connections one door holds.

    Args:
        strangers: connections that have not proved a node, from all addresses where no node is known.
        per_address: how many of those may come from one address.
        reserved: the same as `strangers`, for all addresses where nodes are known.
        nodes: connections that have proved a node.
        per_node: how many of those one node may have; one more ends the oldest.
    """

    strangers: int
    per_address: int
    reserved: int
    nodes: int = 0
    per_node: int = 8


class FullError(Exception):
    """There is no room for this connection."""


@lru_cache(maxsize=4096)
def address_of(host: str) -> bytes:
    """What counts as one address: for IPv6, its /64.

    Shape: 4 bytes for IPv4, even if mapped into IPv6; 8 for IPv6
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return address.packed[:_IPV6_NETWORK_BYTES]
        address = address.ipv4_mapped
    return address.packed


class KnownAddresses:
    """Addresses from which nodes have proved themselves, and how many at once, for all doors of an issuer.

    This keeps the latest 16,384, and 16 for one node: a node with an IPv6 /48 could be everywhere, and push out all others.
    """

    def __init__(self) -> None:
        self._most: OrderedDict[bytes, int] = OrderedDict()
        self._nodes: dict[bytes, set[str]] = {}
        self._of: dict[str, OrderedDict[bytes, None]] = {}

    def note(self, address: bytes, identity: str, nodes: int) -> None:
        """Note that a node is at this address, and how many connections of nodes are open from there."""
        self._most[address] = max(nodes, self._most.get(address, 0))
        self._most.move_to_end(address)
        self._nodes.setdefault(address, set()).add(identity)
        own = self._of.setdefault(identity, OrderedDict())
        own[address] = None
        own.move_to_end(address)
        if len(own) > _KNOWN_OF_A_NODE:
            self._forget(next(iter(own)), identity)
        if len(self._most) > _KNOWN:
            oldest = next(iter(self._most))
            for one in tuple(self._nodes[oldest]):
                self._forget(oldest, one)

    def nodes(self, address: bytes) -> int:
        """The largest number of connections that were open from there at once."""
        return self._most.get(address, 0)

    def _forget(self, address: bytes, identity: str) -> None:
        """Forget that this node was there, and forget the address if no other node was there."""
        own, there = self._of[identity], self._nodes[address]
        del own[address]
        there.remove(identity)
        if not own:
            del self._of[identity]
        if not there:
            del self._nodes[address], self._most[address]


class _Waiting(Generic[ConnectionT]):
    """Connections that have not proved a node, by address; each step costs the same, no matter how many there are."""

    def __init__(self) -> None:
        self.addresses: dict[ConnectionT, bytes] = {}  # the oldest first, here and below
        self._of: dict[bytes, dict[ConnectionT, None]] = {}
        self._with: defaultdict[int, dict[bytes, None]] = defaultdict(dict)
        self._most = 0

    def count(self, address: bytes) -> int:
        return len(self._of.get(address, ()))

    def add(self, one: ConnectionT, address: bytes) -> None:
        self.addresses[one] = address
        own = self._of.setdefault(address, {})
        own[one] = None
        self._move(address, len(own) - 1, len(own))
        self._most = max(self._most, len(own))

    def discard(self, one: ConnectionT) -> bytes:
        """Forget a connection; returns its address, or nothing if it was not there."""
        address = self.addresses.pop(one, b"")
        if address:
            own = self._of[address]
            del own[one]
            self._move(address, len(own) + 1, len(own))
            if not own:
                del self._of[address]
            while self._most and not self._with[self._most]:
                self._most -= 1
        return address

    def oldest_of_most(self) -> ConnectionT:
        """The oldest of the address with the most. If each has one, the oldest: a nearby node is faster than that many dials."""
        most = self.addresses if self._most == 1 else self._of[next(iter(self._with[self._most]))]
        return next(iter(most))

    def _move(self, address: bytes, before: int, after: int) -> None:
        if before:
            del self._with[before][address]
        if after:
            self._with[after][address] = None


class Crowd(Generic[ConnectionT]):
    """The connections of one door."""

    def __init__(self, limits: CrowdLimits, known: KnownAddresses) -> None:
        self._limits = limits
        self._known = known
        self._strangers: _Waiting[ConnectionT] = _Waiting()
        self._reserved: _Waiting[ConnectionT] = _Waiting()  # from addresses that were known when they connected
        self._nodes: dict[str, dict[ConnectionT, None]] = {}
        self._proved: dict[ConnectionT, tuple[str, bytes]] = {}
        self._admitted: set[ConnectionT] = set()  # those on which a call was admitted
        self._proved_from: Counter[bytes] = Counter()

    @property
    def waiting(self) -> list[ConnectionT]:
        """Those that have not proved a node."""
        return [*self._strangers.addresses, *self._reserved.addresses]

    @property
    def proved(self) -> list[ConnectionT]:
        """Those that have proved a node."""
        return list(self._proved)

    def of_node(self, one: ConnectionT) -> list[ConnectionT]:
        """The connections of the same node."""
        identity, _ = self._proved.get(one, ("", b""))
        return list(self._nodes.get(identity, ()))

    def is_known(self, address: bytes) -> bool:
        """Whether nodes have proved themselves from there."""
        return self._known.nodes(address) > 0

    def enter(self, one: ConnectionT, address: bytes) -> ConnectionT | None:
        """Let a connection in.

        Returns:
            The one that has to go for it: the oldest of the address that has the most.

        Raises:
            FullError: the address already has its share.
        """
        nodes = self._known.nodes(address)
        waiting, room = (self._reserved, self._limits.reserved) if nodes else (self._strangers, self._limits.strangers)
        most = self._limits.per_address + _ROOM_PER_NODE * nodes
        if waiting.count(address) >= most:
            raise FullError(f"expected at most {most} from one address that have not proved a node, found one more")
        gone = waiting.oldest_of_most() if len(waiting.addresses) >= room else None
        if gone is not None:
            waiting.discard(gone)
        waiting.add(one, address)
        return gone

    def prove(self, one: ConnectionT, identity: str) -> ConnectionT | None:
        """Note that a connection is a node's.

        Returns:
            The one that has to go for it, if that node has too many: the oldest on which no call was admitted, since it may belong to
            somebody who only has a replaced SVID; if there is none, the oldest.

        Raises:
            FullError: the nodes already have their share.
        """
        own = self._nodes.get(identity, {})
        gone = None
        if len(own) >= self._limits.per_node:
            gone = next((other for other in own if other not in self._admitted), next(iter(own)))
        if gone is not None:
            self.leave(gone)
        elif len(self._proved) >= self._limits.nodes:
            raise FullError(f"expected at most {self._limits.nodes} of nodes, found one more")
        address = self._strangers.discard(one) or self._reserved.discard(one)
        self._nodes.setdefault(identity, {})[one] = None
        self._proved[one] = identity, address
        self._proved_from[address] += 1
        self._known.note(address, identity, self._proved_from[address])
        return gone

    def note_admitted(self, one: ConnectionT) -> None:
        """Note that a call was admitted on this connection; ignore one that is not a node's."""
        if one in self._proved:
            self._admitted.add(one)

    def leave(self, one: ConnectionT) -> None:
        """Forget a connection, if it is there."""
        self._admitted.discard(one)
        if one not in self._proved:
            self._strangers.discard(one)
            self._reserved.discard(one)
            return
        identity, address = self._proved.pop(one)
        own = self._nodes[identity]
        del own[one]
        if not own:
            del self._nodes[identity]
        self._proved_from[address] -= 1
        if not self._proved_from[address]:
            del self._proved_from[address]
