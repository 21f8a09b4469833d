"""One stream of denials for all sources of a process that ask the same socket: on its own each would hold every denial once more.

What is followed and held is svid/workloadapi/denials'; who asks for it, svid/workloadapi/sources'.
"""

import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TypeAlias

from svid.clock import Clock
from svid.spiffeid import TrustDomain
from svid.workloadapi.client import WorkloadAPIClient
from svid.workloadapi.denials import SILENT_AFTER, FollowedDenials

__all__ = ["DenialsShare"]

_Key: TypeAlias = tuple[str, int]
"""A target, and which clock."""


@dataclass(eq=False)
class _Shared:
    """What the sources of one socket follow, over the connection of the first of them."""

    client: WorkloadAPIClient
    clock: Clock
    silent_after: timedelta
    shares: set["DenialsShare"] = field(default_factory=set)
    followed: FollowedDenials = field(init=False)

    def __post_init__(self) -> None:
        self.followed = FollowedDenials(
            self.client, self.clock, reconnect=self._reconnect, silent_after=self.silent_after
        )

    def _reconnect(self) -> None:
        """Leave every connection: one attestor is at the other end of all of them."""
        with _process.lock:
            clients = {self.client, *(share.client for share in self.shares)}
        for client in clients:
            client.reconnect()


class _Process:
    """What is followed in this process. A child that was forked has none of its parent's threads, and begins anew."""

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin_anew)

    def _begin_anew(self) -> None:
        for shared in self.shared.values():
            shared.followed.orphan()
        self._begin()

    def _begin(self) -> None:
        self.lock = threading.Lock()
        self.shared: dict[_Key, _Shared] = {}


_process = _Process()


class DenialsShare:
    """The part of one source in what is followed for its socket.

    Args:
        client: the source's own; it carries the stream if this is the first source, and is closed here.
        silent_after: as of FollowedDenials; the first source's counts.

    Attributes:
        client: as given.
        followed: what all sources of the socket ask.
    """

    def __init__(self, client: WorkloadAPIClient, clock: Clock, *, silent_after: timedelta = SILENT_AFTER) -> None:
        self._key = (client.target, id(clock))  # which lives as long as what follows by it
        self.client = client
        self._points: dict[object, Callable[[], None]] = {}
        with _process.lock:
            shared = _process.shared.get(self._key)
            if shared is None:
                shared = _Shared(client, clock, silent_after)
                shared.followed.start()
                _process.shared[self._key] = shared
            shared.shares.add(self)
        self._shared = shared
        self.followed = shared.followed

    def on_denied(self, callback: Callable[[TrustDomain, Collection[int]], None], *, point: str) -> Callable[[], None]:
        """As `FollowedDenials.on_denied`, until `close`."""
        token = object()
        self._points[token] = self.followed.on_denied(callback, point=point)
        return partial(self._leave, token)

    def close(self) -> tuple[threading.Thread, ...]:
        """Tell the points of this source no more, and end the stream with the last source; the threads that end because of it."""
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
        leave = self._points.pop(token, None)
        if leave is not None:
            leave()
