"""How one context or guard enforces denials: it refuses denied peers, ends their open connections and calls, and checks the data's age.

A connection or call may outlive the certificate that its peer showed, but only for as long as denials name that certificate; after that,
the issuer's next message ends it. With a source that knows of no denials, credentials end only by expiring. The modules that make
connections and calls decide how these end: svid/tls/connections and svid/integrations/grpc_calls. The source provides the denials.
"""

import logging
import threading
import weakref
from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple, Protocol, TypeGuard

from svid.clock import Clock, SystemClock
from svid.source import KnowsDenials
from svid.spiffeid import SpiffeID, TrustDomain
from svid.tls.authorize import Changing
from svid.tls.forked import renew_in_children
from svid.tls.refusals import EndedPeerError, OutdatedError
from svid.tls.reports import OnRefused, Reports

__all__ = ["Enforcement", "Held", "Open", "Peer"]

_log = logging.getLogger(__name__)

_WORTH_A_WARNING = timedelta(minutes=1)
_SECONDS_BETWEEN_WARNINGS = 60.0
_SECONDS_BETWEEN_LOOKS = 60.0


class Peer(NamedTuple):
    """The peer of a connection or call, and its credentials: the serials of its chain, leaf first, or the number of its token.

    Attributes:
        ends_at: when the leaf or the token expires.
        open_for: how long after that an open connection or call may go on.
    """

    spiffe_id: SpiffeID
    numbers: tuple[int, ...]
    ends_at: datetime
    open_for: timedelta

    @property
    def shown(self) -> str:
        """The SPIFFE ID and the serial of the leaf, for people: the same ID may come back a moment later with its next SVID."""
        return f"{self.spiffe_id} with the serial {self.numbers[0]:x}"


class Held(Protocol):
    """An open connection or call, which ends when its peer's credential is denied, or `open_for` after the credential expired."""

    @property
    def peer(self) -> Peer | None:
        """The peer; None if it is not known yet."""

    def revoke(self) -> None:
        """Let nothing pass from now on."""

    def outlive(self) -> None:
        """Let nothing pass from now on, because its peer's credential expired too long ago."""

    def dismiss(self) -> None:
        """Let nothing pass from now on, because its peer may not call us any more."""

    def orphan(self) -> None:
        """Let nothing pass from now on, because this process was forked, and nothing in it receives denials."""

    def why_ended(self) -> EndedPeerError | None:
        """Why it was ended; None if it was not."""

    @property
    def address(self) -> str:
        """The peer's address, for people; empty if it is not known."""

    def hang_up(self) -> None:
        """Wake up everything that waits for it, and close what is ours to close; called after `revoke`, `outlive` or `dismiss`."""


class Enforcement:
    """One enforcement point: what it knows of denials, and how it enforces them.

    Args:
        source: where denials come from, if it knows of any.
        point: the name of this point, for people.
        refuse_after: how old the issuer's revocation data may be; None means any age, with a warning in the log.
        on_refused: called for each refusal of this point; with None, refusals are only logged and counted.

    Attributes:
        reports: reports this point's refusals.

    Raises:
        TypeError: `refuse_after` is given, and the source knows of no denials; or `on_refused` is not a function.
    """

    def __init__(
        self,
        source: object,
        *,
        point: str,
        refuse_after: timedelta | None,
        clock: Clock | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        self._refuse_after = refuse_after
        self._clock = clock or SystemClock()
        self._warned_at: float | None = None
        self._point = point
        self.reports = Reports(point, on_refused, clock=self._clock)
        self.open = Open(self._clock, self.reports)
        self._source: KnowsDenials | None = None
        self._changing: Changing | None = None
        if _knows_denials(source):
            self._source, self.open.is_told = source, True
            leave = source.on_denied(self.open.hear, point=point)
            weakref.finalize(self, leave).atexit = False
        elif refuse_after is not None:
            raise TypeError(f"refuse_after: expected a source that knows of revocations, found {type(source).__name__}")

    def follow(self, authorize: object) -> None:
        """If this authorizer's answers change, also end what is open with a peer that it no longer wants."""
        if isinstance(authorize, Changing):
            self._changing = authorize
            # Weakly: the authorizer holds its source, which holds this function.
            leave = authorize.subscribe(partial(_end_unwanted, self.open, weakref.WeakMethod(authorize.is_unwanted)))
            weakref.finalize(self, leave).atexit = False

    def is_denied(self, peer: Peer) -> bool:
        """Whether any of its credentials is denied."""
        source, trust_domain = self._source, peer.spiffe_id.trust_domain
        return source is not None and any(source.is_denied(trust_domain, number) for number in peer.numbers)

    def hold(self, one: Held) -> None:
        """End this when its peer is denied or unwanted; at once, if that came while it was being made."""
        self.open.add(one)
        if one.peer is not None and self.is_denied(one.peer):
            one.revoke()
            self.open.tell(one)
        elif one.peer is not None and self._changing is not None and self._changing.is_unwanted(one.peer.spiffe_id):
            one.dismiss()
            self.open.tell(one)

    def release(self, one: Held) -> None:
        """Forget what is over: nothing more is said about its peer, even if an error still refers to it."""
        self.open.forget(one)

    def demand_fresh(self) -> None:
        """Refuse to accept anybody if our revocation data is too old.

        Raises:
            OutdatedError: it is older than `refuse_after`, or its age is not known.
        """
        if self._source is None:
            return
        age = self._source.denials_age()
        if self._refuse_after is not None and (age is None or age > self._refuse_after):
            found = "none" if age is None else f"data {_seconds(age)} old"
            raise OutdatedError(f"revocations: expected data at most {_seconds(self._refuse_after)} old, found {found}")
        if age is not None and age > _WORTH_A_WARNING:
            self._warn(age)

    def _warn(self, age: timedelta) -> None:
        now = self._clock.monotonic()
        if self._warned_at is None or now - self._warned_at >= _SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            _log.warning(
                "%s: no word from the issuer for %s; later revocations are not known", self._point, _seconds(age)
            )


class Open:
    """The open connections and calls; it forgets those that nobody uses any more.

    Attributes:
        is_told: whether the source reports denials.
    """

    def __init__(self, clock: Clock, reports: Reports) -> None:
        self.is_told = False
        self._clock = clock
        self._reports = reports
        self._looked_at = clock.monotonic()
        self._held: weakref.WeakSet[Held] = weakref.WeakSet()
        self._lock = threading.Lock()
        renew_in_children(self)

    def add(self, one: Held) -> None:
        """Add one."""
        with self._lock:
            self._held.add(one)

    def forget(self, one: Held) -> None:
        """Forget one, if it is there."""
        with self._lock:
            self._held.discard(one)

    def all(self) -> list[Held]:
        """All that are open now."""
        with self._lock:
            return list(self._held)

    def tell(self, one: Held) -> None:
        """Report that this one was ended."""
        why = one.why_ended()
        if one.peer is not None and why is not None:
            self._reports.tell(why, peer=one.peer.spiffe_id, address=one.address)

    def renew(self) -> None:
        """In a forked child, let nothing pass on what is open; the sockets belong to the parent, so only the parent closes them.

        If the parent's source reported no denials either, what is open goes on.
        """
        self._lock = threading.Lock()  # a thread of the parent may have held it
        if self.is_told:
            for one in self.all():
                one.orphan()

    def hear(self, trust_domain: TrustDomain, numbers: Collection[int]) -> None:
        """End those whose peer has one of these numbers, which are usually none; once a minute, also end those that were outlived."""
        if numbers:
            self._end_denied(trust_domain, frozenset(numbers))
        at = self._clock.monotonic()
        if at - self._looked_at >= _SECONDS_BETWEEN_LOOKS:
            self._looked_at = at
            self._end_outlived(self._clock.now())

    def _end_denied(self, trust_domain: TrustDomain, denied: frozenset[int]) -> None:
        concerned = [
            one
            for one in self.all()
            if one.peer is not None
            and one.peer.spiffe_id.trust_domain == trust_domain
            and not denied.isdisjoint(one.peer.numbers)
        ]
        self._end(concerned, lambda one: one.revoke())

    def end_unwanted(self, is_unwanted: Callable[[SpiffeID], bool]) -> None:
        """End those whose peer may not call us any more."""
        known: dict[SpiffeID, bool] = {}
        concerned = []
        for one in self.all():
            if one.peer is not None and one.why_ended() is None:
                peer = one.peer.spiffe_id
                if peer not in known:
                    known[peer] = is_unwanted(peer)
                if known[peer]:
                    concerned.append(one)
        self._end(concerned, lambda one: one.dismiss())

    def _end(self, concerned: Collection[Held], end: Callable[[Held], None]) -> None:
        """First stop the bytes on all of them, then close them, and last report it."""
        for one in concerned:
            end(one)
        for one in concerned:
            one.hang_up()
        for one in concerned:
            self.tell(one)

    def _end_outlived(self, now: datetime) -> None:
        for one in self.all():
            if one.peer is not None and one.peer.ends_at < now - one.peer.open_for:
                one.outlive()
                one.hang_up()
                self.tell(one)


def _end_unwanted(open_now: Open, ask: "weakref.WeakMethod[Callable[[SpiffeID], bool]]") -> None:
    if (is_unwanted := ask()) is not None:
        open_now.end_unwanted(is_unwanted)


def _knows_denials(source: object) -> TypeGuard[KnowsDenials]:
    """Whether a source knows of denials. This also works for a proxy object, whose methods isinstance cannot see from Python 3.12 on."""
    return all(callable(getattr(source, name, None)) for name in ("is_denied", "on_denied", "denials_age"))


def _seconds(age: timedelta) -> str:
    return f"{age.total_seconds():.0f} s"
