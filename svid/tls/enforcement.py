"""What one context or guard does about denials: it refuses whom they name, ends what of theirs is open, and knows how old they may be.

What is open may outlive the certificate that its peer showed, but not for longer than denials name that: then the next word of the issuer's
ends it. A source that knows of no denials is enforced by expiry alone. How something open ends is decided where it is made:
svid/tls/connections, svid/tls/grpc_server. Where denials come from is the source's business.
"""

import logging
import os
import threading
import weakref
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol, TypeGuard

from svid.clock import Clock, SystemClock
from svid.source import KnowsDenials
from svid.spiffeid import SpiffeID, TrustDomain
from svid.tls.refusals import OutdatedError

__all__ = ["Enforcement", "Held", "Open", "Peer"]

_log = logging.getLogger(__name__)

_WORTH_A_WARNING = timedelta(minutes=1)
_SECONDS_BETWEEN_WARNINGS = 60.0
_SECONDS_BETWEEN_LOOKS = 60.0


class Peer(NamedTuple):
    """Whose a connection or a call is, and by which credentials: the serials of its chain, leaf first, or the number of its token.

    Attributes:
        ends_at: the end of the leaf, or of the token.
        open_for: how long after that what is open may go on.
    """

    spiffe_id: SpiffeID
    numbers: tuple[int, ...]
    ends_at: datetime
    open_for: timedelta

    @property
    def shown(self) -> str:
        """Who it is and by which leaf, for people: a moment later the same SPIFFE ID may be there with its next SVID."""
        return f"{self.spiffe_id} with the serial {self.numbers[0]:x}"


class Held(Protocol):
    """Something open that ends when its peer's credential is denied, or `open_for` after the end of that."""

    @property
    def peer(self) -> Peer | None:
        """Whose it is; None: not known yet."""

    def revoke(self) -> None:
        """Let nothing pass from now on."""

    def outlive(self) -> None:
        """Let nothing pass from now on, because its peer's credential is over for too long."""

    def orphan(self) -> None:
        """Let nothing pass from now on, because this process was forked: nobody here hears of denials."""

    def hang_up(self) -> None:
        """Wake up who waits for it, and close what is ours to close; after `revoke` or `outlive`."""


class Enforcement:
    """What one enforcement point knows of denials and does about them.

    Args:
        source: where denials come from, if it knows any.
        point: what this is, for people.
        refuse_after: how old the issuer's last word may be; None: as old as it is, with a warning in the log.

    Raises:
        TypeError: `refuse_after`, of a source that knows of no denials.
    """

    def __init__(
        self, source: object, *, point: str, refuse_after: timedelta | None, clock: Clock | None = None
    ) -> None:
        self._refuse_after = refuse_after
        self._clock = clock or SystemClock()
        self._warned_at: float | None = None
        self._point = point
        self.open = Open(self._clock)
        self._source: KnowsDenials | None = None
        if _knows_denials(source):
            self._source = source
            _all_open.add(self.open)
            leave = source.on_denied(self.open.hear, point=point)
            weakref.finalize(self, leave).atexit = False
        elif refuse_after is not None:
            raise TypeError(f"refuse_after: expected a source that knows of revocations, found {type(source).__name__}")

    def is_denied(self, peer: Peer) -> bool:
        """Whether any of its credentials is denied."""
        source, trust_domain = self._source, peer.spiffe_id.trust_domain
        return source is not None and any(source.is_denied(trust_domain, number) for number in peer.numbers)

    def hold(self, one: Held) -> None:
        """End this when its peer is denied; at once, if that came while it was made."""
        self.open.add(one)
        if one.peer is not None and self.is_denied(one.peer):
            one.revoke()

    def demand_fresh(self) -> None:
        """Make sure that what is known is not too old to accept anybody by it.

        Raises:
            OutdatedError: it is older than `refuse_after`, or nobody knows how old it is.
        """
        if self._source is None:
            return
        age = self._source.denials_age()
        if self._refuse_after is not None and (age is None or age > self._refuse_after):
            found = "none" if age is None else f"one {_seconds(age)} old"
            raise OutdatedError(
                f"revocations: expected a word at most {_seconds(self._refuse_after)} old, found {found}"
            )
        if age is not None and age > _WORTH_A_WARNING:
            self._warn(age)

    def _warn(self, age: timedelta) -> None:
        now = self._clock.monotonic()
        if self._warned_at is None or now - self._warned_at >= _SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            _log.warning(
                "%s: no word of the issuer for %s, later revocations are not known", self._point, _seconds(age)
            )


class Open:
    """What is open; it forgets what nobody uses any more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_at = clock.monotonic()
        self._held: weakref.WeakSet[Held] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, one: Held) -> None:
        """Know of one more."""
        with self._lock:
            self._held.add(one)

    def all(self) -> list[Held]:
        """What is open now."""
        with self._lock:
            return list(self._held)

    def orphan(self) -> None:
        """In a process that was forked, let nothing pass on what is open; to close it is the parent's business, whose sockets these are."""
        self._lock = threading.Lock()  # a thread of the parent's may have held it
        for one in self.all():
            one.orphan()

    def hear(self, trust_domain: TrustDomain, numbers: Collection[int]) -> None:
        """End those whose peer has one of these numbers; there are none, most of the time, and then a look at the clock is due."""
        if numbers:
            self._end_denied(trust_domain, frozenset(numbers))
        at = self._clock.monotonic()
        if at - self._looked_at >= _SECONDS_BETWEEN_LOOKS:
            self._looked_at = at
            self._end_outlived(self._clock.now())

    def _end_denied(self, trust_domain: TrustDomain, denied: frozenset[int]) -> None:
        """First nothing passes on any of them, then they are closed."""
        concerned = [
            one
            for one in self.all()
            if one.peer is not None
            and one.peer.spiffe_id.trust_domain == trust_domain
            and not denied.isdisjoint(one.peer.numbers)
        ]
        for one in concerned:
            one.revoke()
        for one in concerned:
            one.hang_up()

    def _end_outlived(self, now: datetime) -> None:
        for one in self.all():
            if one.peer is not None and one.peer.ends_at < now - one.peer.open_for:
                one.outlive()
                one.hang_up()


def _orphan_all() -> None:
    for opened in _all_open:
        opened.orphan()


_all_open: weakref.WeakSet[Open] = weakref.WeakSet()
os.register_at_fork(after_in_child=_orphan_all)


def _knows_denials(source: object) -> TypeGuard[KnowsDenials]:
    """Whether a source does; one that answers for another as well, in which isinstance sees nothing from Python 3.12 on."""
    return all(callable(getattr(source, name, None)) for name in ("is_denied", "on_denied", "denials_age"))


def _seconds(age: timedelta) -> str:
    return f"{age.total_seconds():.0f} s"
