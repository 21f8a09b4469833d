"""One stream of denials for all sources of a process that use the same socket: otherwise each would hold its own copy of every denial.

svid/workloadapi/denials follows the stream and holds the denials; svid/workloadapi/sources uses them.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TypeAlias

from svid.clock import Clock
from svid.denials import SILENT_AFTER, Denials
from svid.spiffeid import TrustDomain
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.denials import FollowedDenials
from svid.workloadapi.forks import forks

__all__ = ["DenialsShare"]

_Key: TypeAlias = tuple[str, int]
"""A target, and the id of a clock."""


@dataclass(eq=False)
class _Shared:
    """The stream that the sources of one socket share, over the connection of the first of them."""

    client: WorkloadAPIClient
    clock: Clock
    silent_after: timedelta
    held: Mapping[TrustDomain, Denials]
    shares: set["DenialsShare"] = field(default_factory=set)
    followed: FollowedDenials = field(init=False)

    def __post_init__(self) -> None:
        self.followed = FollowedDenials(
            self.client, self.clock, reconnect=self._reconnect, silent_after=self.silent_after, held=self.held
        )

    def _reconnect(self) -> None:
        """Drop every connection: the same attestor is at the other end of all of them."""
        with _process.lock:
            clients = {self.client, *(share.client for share in self.shares)}
        for client in clients:
            client.reconnect()


@dataclass(slots=True)
class _Point:
    """A registered enforcement point, and the function that unregisters it."""

    callback: Callable[[TrustDomain, Collection[int]], None]
    name: str
    leave: Callable[[], None]


class _Process:
    """The streams of this process. A forked child has none of its parent's threads, and starts again."""

    def __init__(self) -> None:
        self.shared: dict[_Key, _Shared] = {}
        self.renew()
        forks.renew(self)

    def renew(self) -> None:
        self.lock = threading.Lock()
        self.shared = {}


_process = _Process()


class DenialsShare:
    """One source's share of the stream for its socket.

    Args:
        client: the source's client; it carries the stream if this is the first source, and is closed here.
        silent_after: as in FollowedDenials; the first source's value counts.

    Attributes:
        client: the client as given.
        followed: the denials that all sources of the socket share.
    """

    def __init__(self, client: WorkloadAPIClient, clock: Clock, *, silent_after: timedelta = SILENT_AFTER) -> None:
        self._key = (client.target, id(clock))  # the clock lives as long as the stream that uses it
        self._clock = clock
        self._silent_after = silent_after
        self.client = client
        self._points: dict[object, _Point] = {}
        self._take_part({})

    def _take_part(self, held: Mapping[TrustDomain, Denials]) -> None:
        with _process.lock:
            shared = _process.shared.get(self._key)
            if shared is None:
                shared = _Shared(self.client, self._clock, self._silent_after, held)
                shared.followed.start()
                _process.shared[self._key] = shared
            shared.shares.add(self)
        self._shared = shared
        self.followed = shared.followed

    def begin_anew(self) -> None:
        """In a forked child, join the stream of this process; credentials that were denied before the fork stay denied."""
        self._take_part(self.followed.held)
        for point in list(self._points.values()):
            point.leave = self.followed.on_denied(point.callback, point=point.name)

    def on_denied(self, callback: Callable[[TrustDomain, Collection[int]], None], *, point: str) -> Callable[[], None]:
        """Do the same as `FollowedDenials.on_denied`, until `close`."""
        token = object()
        self._points[token] = _Point(callback, point, self.followed.on_denied(callback, point=point))
        return partial(self._leave, token)

    def close(self) -> tuple[threading.Thread, ...]:
        """Unregister this source's points; the last source also ends the stream. Returns the threads that end because of it."""
        shared = self._shared
        with _process.lock:
            shared.shares.discard(self)
            is_last = not shared.shares
            if is_last and _process.shared.get(self._key) is shared:
                del _process.shared[self._key]
        for token in list(self._points):
            self._leave(token)
        if self.client is not shared.client:
            self.client.close()
        if not is_last:
            return ()
        self.followed.end()
        shared.client.close()
        return self.followed.threads

    def _leave(self, token: object) -> None:
        point = self._points.pop(token, None)
        if point is not None:
            point.leave()
