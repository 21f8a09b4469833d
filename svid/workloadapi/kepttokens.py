"""A cache of JWT-SVIDs for when the Workload API cannot be reached: a token that is valid for minutes bridges a restart of the attestor.

We always ask the Workload API first: it has its own cache, and knows at once when an identity is gone. So this cache is used only in its
absence. It uses a monotonic clock, which nobody sets: when a token arrives, its end is fixed.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import NamedTuple, TypeAlias

from svid.clock import Clock
from svid.errors import WorkloadAPIError
from svid.jwtsvid import JWTSVID

__all__ = ["KeptTokens", "TokenKey", "token_key"]

_MOST = 256
_LEAST_LEFT, _LEAST_PART = timedelta(seconds=30), 10  # of its lifetime: the caller must still be able to use it
_PATIENCE = timedelta(seconds=1)  # how long to wait for the Workload API if we have a cached token
_REST = timedelta(seconds=5)
_NOT_NOW = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNKNOWN", "ABORTED"})
_DENIED = "PERMISSION_DENIED"

TokenKey: TypeAlias = tuple[str, frozenset[str]]
"""A SPIFFE ID (empty for the default identity), and the audiences."""


def token_key(audience: str | Collection[str], spiffe_id: object) -> TokenKey:
    """Make the cache key of a request."""
    audiences = frozenset([audience] if isinstance(audience, str) else audience)
    return "" if spiffe_id is None else str(spiffe_id), audiences


class _Kept(NamedTuple):
    token: JWTSVID
    usable_until: float


class KeptTokens:
    """The latest token for each identity and set of audiences: at most 256, least recently used dropped first; usable from any thread.

    Args:
        is_of_no_use: whether verifiers refuse a token before its end.
    """

    def __init__(self, clock: Clock, is_of_no_use: Callable[[JWTSVID], bool]) -> None:
        self._clock = clock
        self._is_of_no_use = is_of_no_use
        self._kept: OrderedDict[TokenKey, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._rests_until = 0.0

    def fetch(self, key: TokenKey, ask: Callable[[timedelta | None], JWTSVID]) -> JWTSVID:
        """Ask for a token and cache it; if none comes now, return the cached one.

        Args:
            ask: asks the Workload API, and takes the timeout; None means the usual one.

        Raises:
            WorkloadAPIError: the identity is gone, or no token came and the cache has no usable one.
        """
        kept = self._usable(key)
        if kept is not None and self._clock.monotonic() < self._rests_until:
            return kept
        try:
            token = ask(None if kept is None else _PATIENCE)
        except WorkloadAPIError as e:
            if e.code == _DENIED:
                self._drop(key)
            kept = self._usable(key)  # look again: it may have been revoked, or dropped, while we asked
            if e.code not in _NOT_NOW or kept is None:
                raise
            self._rests_until = self._clock.monotonic() + _REST.total_seconds()
            return kept
        self._rests_until = 0.0
        self._keep(key, token)
        return token

    def clear(self) -> None:
        """Forget every token."""
        with self._lock:
            self._kept.clear()

    def _usable(self, key: TokenKey) -> JWTSVID | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            if self._clock.monotonic() >= kept.usable_until or self._is_of_no_use(kept.token):
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
            return kept.token

    def _keep(self, key: TokenKey, token: JWTSVID) -> None:
        usable = _usable_for(token, left=token.expires_at - self._clock.now())
        with self._lock:
            self._kept[key] = _Kept(token, self._clock.monotonic() + usable.total_seconds())
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)

    def _drop(self, key: TokenKey) -> None:
        """Forget the tokens of an identity that is gone; if the default one is gone, there is no identity, so forget all tokens."""
        with self._lock:
            for other in [other for other in self._kept if not key[0] or other[0] in {"", key[0]}]:
                del self._kept[other]


def _usable_for(token: JWTSVID, *, left: timedelta) -> timedelta:
    """How long a token that has just arrived can be used; if the wall clock is wrong, half of its lifetime counts as left."""
    life = left if token.issued_at is None else token.expires_at - token.issued_at
    left = left if timedelta() < left <= life else life / 2
    return left - min(_LEAST_LEFT, life / _LEAST_PART)
