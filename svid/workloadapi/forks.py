"""Forks of this process: all threads leave gRPC during a fork, so that gRPC works in the child, where the sources then start again.

gRPC prepares for a fork only while no thread is inside it; if one is, no new channel ever works in the child. So before a fork we interrupt
the streams of this folder, and wait a little for calls in progress; right after it, the parent opens its streams again. A process that
forks all the time would receive nothing. So there is a budget: beyond it, gRPC does not work in the children, and an error tells them why.
"""

import os
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from svid.clock import Clock, SystemClock
from svid.errors import WorkloadAPIError

__all__ = ["HINT", "Forks", "Interruptible", "Renewable", "forks"]

HINT = "make the source in the child, and none before the fork: use gunicorn's post_fork, or multiprocessing's start method spawn"

_QUIET_SECONDS = 0.3
_LONGEST_FORK_SECONDS = 10.0
_MOST_AT_ONCE, _PER_SECOND = 64.0, 1.0
_SWITCH = "GRPC_ENABLE_FORK_SUPPORT"
_OFF = frozenset({"0", "false", "no", "n", "off"})


class Interruptible(Protocol):
    """A stream that may wait inside gRPC for any length of time."""

    def interrupt(self) -> None:
        """End it; its owner opens another."""


class Renewable(Protocol):
    """An object with a lock, which may be held at a fork by a thread that the child does not have."""

    def renew(self) -> None:
        """Start again in a child."""


class Forks:
    """Tracks which threads and streams of a process are inside gRPC, and how many forks led to the process.

    Attributes:
        generation: the number of those forks; an object of another generation does not work here.
    """

    def __init__(self, clock: Clock) -> None:
        self.generation = 0
        self._clock = clock
        self._is_used = False
        self._is_broken = False
        self._budget = _MOST_AT_ONCE
        self._filled_at = clock.monotonic()
        self._renewable: weakref.WeakSet[Renewable] = weakref.WeakSet()
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._is_forking = False
        self._is_quiet = True
        self._inside: Counter[int] = Counter()
        self._streams: set[Interruptible] = set()

    def register(self) -> None:
        """Watch every fork from now on."""
        os.register_at_fork(
            before=self.before, after_in_parent=self.after_in_parent, after_in_child=self.after_in_child
        )

    def demand_usable(self) -> None:
        """Refuse in a child in which gRPC cannot work.

        Raises:
            WorkloadAPIError: UNAVAILABLE.
        """
        if self._is_broken:
            raise WorkloadAPIError(
                f"source: gRPC cannot work in this process, because it was forked while gRPC was in use; {HINT}",
                code="UNAVAILABLE",
            )

    def renew(self, one: Renewable) -> None:
        """Call `renew` of this object in each child."""
        self._renewable.add(one)

    def keep(self, stream: Interruptible) -> None:
        """Interrupt this stream at a fork."""
        with self._changed:
            self._streams.add(stream)

    def leave(self, stream: Interruptible) -> None:
        """Forget a stream that has ended."""
        with self._changed:
            self._streams.discard(stream)

    @contextmanager
    def within(self) -> Iterator[None]:
        """Mark this thread as inside gRPC; if a fork has begun, wait for it first."""
        me = threading.get_ident()
        with self._changed:
            self._is_used = True
            self._changed.wait_for(lambda: not self._is_forking, _LONGEST_FORK_SECONDS)
            self._inside[me] += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside[me] -= 1
                if not self._inside[me]:
                    del self._inside[me]
                    self._changed.notify_all()

    def before(self) -> None:
        """Before a fork, get all our threads out of gRPC."""
        with self._changed:
            if not (self._streams or self._others_inside()):
                self._is_quiet = True
                return
            self._is_quiet = self._take()
            if not self._is_quiet:
                return
            self._is_forking = True
            streams = tuple(self._streams)
        for stream in streams:
            stream.interrupt()
        with self._changed:
            self._is_quiet = self._changed.wait_for(lambda: not self._others_inside(), _QUIET_SECONDS)

    def after_in_parent(self) -> None:
        """Let all threads go on."""
        with self._changed:
            self._is_forking = False
            self._changed.notify_all()

    def after_in_child(self) -> None:
        """Start again."""
        is_off = os.environ.get(_SWITCH, "").lower() in _OFF
        self._is_broken |= not self._is_quiet or (is_off and self._is_used)
        self.generation += 1
        self._begin()
        for one in list(self._renewable):
            one.renew()

    def _others_inside(self) -> bool:
        return bool(self._inside.keys() - {threading.get_ident()})

    def _take(self) -> bool:
        """Whether one more interruption is within the budget."""
        now = self._clock.monotonic()
        self._budget = min(_MOST_AT_ONCE, self._budget + (now - self._filled_at) * _PER_SECOND)
        self._filled_at = now
        if self._budget < 1:
            return False
        self._budget -= 1
        return True


forks = Forks(SystemClock())
"""The forks of this process."""

forks.register()
